"""How near a generated orbit is to the true one, and whether it is an orbit at all."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from vfusion3d.cameras import Cameras
from vfusion3d.metrics.functional import psnr
from vfusion3d.metrics.per_object import PerObjectMetric
from vfusion3d.metrics.silhouettes import masks_on_white, silhouette_coherence


class Perceptual(Protocol):
    """A perceptual distance, such as `LpipsNetwork` or `vfusion3d.training.losses.PerceptualLoss`.

    Attributes:
        is_lpips: Whether its network was trained; the figure of a random one is no LPIPS and not reported.
    """

    is_lpips: bool

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Distances of pictures ``[N, 3, H, W]`` in [0, 1], ``[N]``, or their mean."""
        ...


def loop_closure(frames: Tensor) -> Tensor:
    """How well an orbit closes: its last frame is followed by its first as any frame by the next.

    The root mean squared difference of the last frame and the first, over the median of those of the other neighbours:
    about 1 for a closed orbit of equal steps, more the farther the ends are apart.

    Args:
        frames: ``[..., F, C, H, W]``, F at least 2.

    Returns:
        ``[...]``; NaN where nothing moves.

    Example:
        >>> import torch
        >>> ramp = torch.arange(5.0)[:, None, None, None].expand(5, 3, 4, 4)
        >>> float(loop_closure(ramp))  # four steps of 1, and a jump of 4 back
        4.0
    """
    following = frames.roll(-1, -4)
    step = (following - frames).float().square().mean((-3, -2, -1)).sqrt()
    usual = step[..., :-1].median(-1).values
    return torch.where(usual > 0, step[..., -1] / usual, torch.nan)


def orbit_figures(
    frames: Tensor, target: Tensor, cameras: Cameras | None = None, lpips: Perceptual | None = None
) -> dict[str, Tensor]:
    """Figures of B orbits.

    Args:
        frames: Generated from frame 0 of ``target``, on white, in [0, 1], ``[B, F, 3, H, W]``.
        target: The true orbits, as ``frames``.
        cameras: What the orbits claim to be seen from, ``[B, F]``; without them ``deformation`` is NaN.
        lpips: Trained perceptual distance; without one, or with a random one, ``lpips`` is NaN.

    Returns:
        ``[B]`` each:

        - ``psnr``: dB, mean over the frames but the first, which was given;
        - ``first_frame_psnr``: dB, of the first frame against the picture that conditioned it;
        - ``loop_closure``: `loop_closure`, 1 is best;
        - ``deformation``: 1 - `silhouette_coherence` of what is not white, 0 for an object that only turns;
        - ``lpips``: mean over the frames but the first.
    """
    frames, target = frames.float().clamp(0, 1), target.float()
    nothing = torch.full((len(frames),), torch.nan, device=frames.device)
    per_frame = psnr(frames, target)
    distance, deformation = nothing, nothing
    if lpips is not None and lpips.is_lpips:
        distance = torch.stack([lpips(*pair).mean() for pair in zip(frames[:, 1:], target[:, 1:], strict=True)])
    if cameras is not None:
        masks = masks_on_white(frames)
        coherence = [silhouette_coherence(masks[b], cameras[b]).mean() for b in range(len(frames))]
        deformation = 1 - torch.stack(coherence)
    return {
        "psnr": per_frame[:, 1:].mean(1),
        "first_frame_psnr": per_frame[:, 0],
        "loop_closure": loop_closure(frames),
        "deformation": deformation,
        "lpips": distance,
    }


class OrbitMetrics(PerObjectMetric):
    """Means of `orbit_figures` over objects, each counted once (`PerObjectMetric`).

    Args:
        lpips: As in `orbit_figures`.
        settings: As of every `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metrics = OrbitMetrics()
        >>> truth = torch.rand(2, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.9
        >>> metrics.update(truth + 0.1, truth, torch.arange(2))
        >>> {name: round(float(value), 1) for name, value in metrics.compute().items() if name.endswith("psnr")}
        {'psnr': 20.0, 'first_frame_psnr': 20.0}
    """

    NAMES = ("psnr", "first_frame_psnr", "loop_closure", "deformation", "lpips")

    def __init__(self, lpips: Perceptual | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self.lpips = lpips

    def update(self, frames: Tensor, target: Tensor, samples: Tensor, cameras: Cameras | None = None) -> None:
        """Score B orbits; pictures and cameras as in `orbit_figures`, ``samples`` int64, ``[B]``."""
        self.record(samples, orbit_figures(frames, target, cameras, self.lpips))
