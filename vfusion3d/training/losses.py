"""What the reconstructor is trained on: picture, opacity and smoothness terms (paper section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from vfusion3d.errors import CheckpointError

OpacityForm = Literal["bce", "mse"]
Trunk = Literal["vgg", "alex", "squeeze"]


@dataclass(frozen=True)
class LossWeights:
    """Weights of the loss terms; 0 switches a term off.

    The paper gives none: pre-training uses LPIPS and opacity, fine-tuning adds L2; these numbers are ours.
    """

    perceptual: float = 1.0
    """LPIPS, or the random-feature loss with ``trunk_weights: random``."""
    l2: float = 0.0
    """Mean squared colour error."""
    opacity: float = 1.0
    """Accumulated opacity against the soft foreground mask."""
    total_variation: float = 0.0
    """Mean squared difference of neighbouring texels (OpenLRM: 5e-4)."""
    opacity_form: OpacityForm = "bce"
    """``bce`` or ``mse``."""
    inside: float = 0.0
    """Direct supervision of the density at labelled points (ours; `inside_loss`); needs `points` of the data."""
    trunk: Trunk = "vgg"
    """Network of the perceptual loss."""
    trunk_weights: str = "pretrained"
    """``pretrained`` (torch hub), a local ``.pth`` file of the trunk, or ``random``: seeded random features
    under uniform weights, called random-feature loss and never LPIPS."""

    def __post_init__(self) -> None:
        for name in ("perceptual", "l2", "opacity", "total_variation", "inside"):
            if getattr(self, name) < 0:
                raise ValueError(f"Loss weight `{name}` must not be negative, but got {getattr(self, name)}.")
        for name, allowed in (("opacity_form", get_args(OpacityForm)), ("trunk", get_args(Trunk))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"Loss setting `{name}` must be one of {allowed}, but got {getattr(self, name)!r}.")


class PerceptualLoss:
    """LPIPS of the ``lpips`` package (arXiv 1801.03924), or random features; not a module, so never saved.

    Args:
        trunk: ``vgg``, ``alex`` or ``squeeze``.
        weights: As `LossWeights.trunk_weights`.
    """

    def __init__(self, trunk: Trunk, weights: str) -> None:
        import contextlib
        import io
        import warnings

        import lpips

        self.is_lpips = weights != "random"
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            hub = weights == "pretrained"
            try:
                network = lpips.LPIPS(net=trunk, lpips=self.is_lpips, pnet_rand=not hub, verbose=False)
            except OSError as error:  # urllib's
                raise CheckpointError(
                    f"The pretrained {trunk} trunk of the perceptual loss cannot be downloaded ({error}): connect to "
                    "the network, or set `losses.trunk_weights` to a torchvision file of it or to random."
                ) from error
        if self.is_lpips and not hub:
            self._load_trunk(network, trunk, Path(weights))
        self.network: Any = network.eval().requires_grad_(False)

    @staticmethod
    def _load_trunk(network: Any, trunk: str, path: Path) -> None:
        """Copy the convolutions of a torchvision state dict into the trunk, in order."""
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise CheckpointError(
                f"The LPIPS trunk {path} cannot be read as a torchvision state dict: {error}."
            ) from error
        loaded = [value for key, value in state.items() if key.startswith("features.")]
        own = list(network.net.state_dict().items())
        if [tuple(v.shape) for v in loaded] != [tuple(v.shape) for _, v in own]:
            raise CheckpointError(f"The LPIPS trunk {path} is not a torchvision {trunk} state dict.")
        network.net.load_state_dict({key: value for (key, _), value in zip(own, loaded, strict=True)})

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Mean distance of pictures ``[N, 3, H, W]`` in [0, 1], as a scalar."""
        if next(self.network.buffers()).device != prediction.device:
            self.network.to(prediction.device)
        return self.network(prediction.float(), target.float(), normalize=True).mean()


def opacity_loss(opacity: Tensor, mask: Tensor, form: OpacityForm = "bce") -> Tensor:
    """Accumulated opacity against the soft mask on the same pixels, fp32 (paper: "opacity loss"; form is ours).

    Args:
        opacity: In [0, 1], any shape.
        mask: In [0, 1], same shape.
        form: ``bce`` (opacity clamped to [1e-4, 1 - 1e-4]) or ``mse``.

    Example:
        >>> import torch
        >>> round(float(opacity_loss(torch.tensor([0.5]), torch.tensor([1.0]))), 4)
        0.6931
    """
    opacity, mask = opacity.float(), mask.float()
    if form == "mse":
        return F.mse_loss(opacity, mask)
    clamped = opacity.clamp(1e-4, 1 - 1e-4)
    return -(mask * clamped.log() + (1 - mask) * torch.log1p(-clamped)).mean()


def inside_loss(density: Tensor, inside: Tensor, length: float = 0.1) -> Tensor:
    """Opacity of a short piece of a ray at a point against whether the point lies in the object (ours).

    Binary cross-entropy of ``1 - exp(-density * length)``: the same opacity that the renderer composites, so that a
    field which fits the labels renders as a solid.

    Args:
        density: Per world unit, any shape.
        inside: Labels in [0, 1], same shape.
        length: Of the piece, world units.

    Example:
        >>> import torch
        >>> round(float(inside_loss(torch.tensor([0.0, 50.0]), torch.tensor([0.0, 1.0]))), 4)
        0.0034
    """
    transmitted = density.float() * length + 1e-4  # as an exponent; never 0, so that what is wrongly empty can learn
    filled = -torch.log(-torch.expm1(-transmitted))
    return (inside * filled + (1 - inside) * transmitted).mean()


def total_variation(planes: Tensor) -> Tensor:
    """Mean squared difference along rows plus that along columns of ``[..., R, R]``.

    Example:
        >>> import torch
        >>> float(total_variation(torch.tensor([[0.0, 1.0], [0.0, 1.0]])))
        1.0
    """
    return planes.diff(dim=-1).square().mean() + planes.diff(dim=-2).square().mean()
