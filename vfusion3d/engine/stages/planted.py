"""Failures of a video model, made on purpose from true orbits, and an oracle that tells good orbits from bad ones.

Where the truth is known nobody has to label by hand: the oracle compares an orbit with the true one. What a video
model does wrong (the paper's figure of failures: objects that deform, change colour, split, or vanish) is planted into
true orbits, so that a quality filter can be trained and, more to the point, tested on failures of every kind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import pyarrow as pa
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vfusion3d.alpha import over_white
from vfusion3d.cameras import Cameras
from vfusion3d.engine.stage import ItemError, Row, Stage
from vfusion3d.engine.stages.pictures import decode_frames, each_row
from vfusion3d.errors import UsageError
from vfusion3d.metrics import psnr
from vfusion3d.preprocessing import Window, crop_window

WORST = 0.25
"""Share of an orbit's frames that `oracle_psnr` looks at."""


def deformation(frames: Tensor, strength: float = 1.0) -> Tensor:
    """Bend an object more and more: rows of later frames are shifted by a wave.

    Args:
        frames: An orbit on white in [0, 1], ``[F, 3, H, W]``.
        strength: 1 shifts by up to a fifth of the width in the last frame.

    Returns:
        As ``frames``; frame 0 is as it was.
    """
    count, _, height, width = frames.shape
    down = (torch.arange(height) + 0.5) / height * 2 - 1
    across = (torch.arange(width) + 0.5) / width * 2 - 1
    progress = torch.arange(count) / max(1, count - 1)
    shift = 0.4 * strength * progress[:, None] * torch.sin(math.pi * down)  # [F, H], in half widths
    x = across + shift[:, :, None]
    grid = torch.stack([x, down[None, :, None].expand_as(x)], -1).to(frames)
    ink = F.grid_sample(1 - frames, grid, align_corners=False)  # outside is no ink: white
    return torch.cat([frames[:1], 1 - ink[1:]])


def colour_drift(frames: Tensor, strength: float = 1.0) -> Tensor:
    """Turn an object's hue more and more; white stays white.

    Args:
        frames: An orbit on white in [0, 1], ``[F, 3, H, W]``.
        strength: 1 turns by a third of the circle in the last frame: red becomes green; greys fade as well.
    """
    angle = torch.arange(len(frames), device=frames.device) / max(1, len(frames) - 1) * strength * 2 * math.pi / 3
    cos, sin = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
    grey = torch.full((3, 3), 1 / 3).to(frames)
    turn = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]).to(frames) / math.sqrt(3)
    matrix = cos * torch.eye(3).to(frames) + (1 - cos) * grey + sin * turn  # rotation about the grey axis
    ink = torch.einsum("fij,fjhw->fihw", matrix, 1 - frames)
    fade = 1 - 0.5 * strength * (angle / angle[-1].clamp_min(1e-6))[:, None, None, None]
    return (1 - ink * fade).clamp(0, 1)


def second_object(frames: Tensor, other: Tensor, side: int = 1) -> Tensor:
    """Let another object appear beside the first from the second quarter of the orbit on.

    Args:
        frames, other: Orbits of two objects on white in [0, 1], ``[F, 3, H, W]``.
        side: 1 for the right, -1 for the left.
    """
    small = F.interpolate(1 - other, scale_factor=0.5, mode="area")
    height, width = frames.shape[-2:]
    top, left = height - small.shape[-2], (width - small.shape[-1] if side > 0 else 0)
    ink = torch.zeros_like(frames)
    ink[..., top:, left : left + small.shape[-1]] = small
    ink[: max(1, len(frames) // 4)] = 0
    return torch.minimum(frames, 1 - ink)


def blank_frames(frames: Tensor, first: int, count: int) -> Tensor:
    """Let the object vanish for some frames.

    Args:
        frames: An orbit on white in [0, 1], ``[F, 3, H, W]``.
        first: The first blank one; frame 0, which was given, stays.
        count: How many.
    """
    blank = frames.clone()
    blank[max(1, first) : max(1, first) + count] = 1
    return blank


KINDS = ("deformation", "colour drift", "second object", "blank frames")
"""Failures that `plant` knows."""


def plant(kind: str, frames: Tensor, other: Tensor, seed: int) -> Tensor:
    """An orbit with a failure of random strength.

    Args:
        kind: One of `KINDS`.
        frames: A true orbit on white in [0, 1], ``[F, 3, H, W]``.
        other: Another object's, for the kind that needs one.
        seed: Decides strength, place and time.

    Returns:
        As ``frames``; frame 0 is as it was.

    Raises:
        UsageError: if the kind is unknown.

    Example:
        >>> import torch
        >>> truth = torch.rand(2, 8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> bad = plant("blank frames", truth[0], truth[1], seed=3)
        >>> bool((bad[0] == truth[0, 0]).all()), bool((bad == 1).all((1, 2, 3)).any())
        (True, True)
    """
    unit = torch.rand(3, generator=torch.Generator().manual_seed(seed)).tolist()
    strength = (0.6 + 0.8 * unit[0]) * (1 if unit[1] < 0.5 else -1)
    count = len(frames)
    failures: dict[str, Callable[[], Tensor]] = {
        "deformation": lambda: deformation(frames, strength),
        "colour drift": lambda: colour_drift(frames, abs(strength)),
        "second object": lambda: second_object(frames, other, 1 if unit[1] < 0.5 else -1),
        "blank frames": lambda: blank_frames(
            frames, 1 + int(unit[1] * count / 2), max(1, round(count * (0.2 + unit[2] / 4)))
        ),
    }
    if kind not in failures:
        raise UsageError(f"Argument `kind` must be one of {', '.join(KINDS)}, but got {kind!r}.")
    return failures[kind]()


def oracle_psnr(frames: Tensor, truth: Tensor) -> Tensor:
    """How near orbits are to the true ones where they are worst: mean PSNR of the worst quarter of the frames, dB.

    The mean over all frames would call an orbit good that is perfect but for three frames without an object. Frame 0
    was given and does not count.

    Args:
        frames, truth: ``[..., F, 3, H, W]`` in [0, 1].

    Returns:
        ``[...]``.
    """
    figures = psnr(frames[..., 1:, :, :, :].clamp(0, 1), truth[..., 1:, :, :, :])
    count = max(1, math.ceil(WORST * figures.shape[-1]))
    return figures.sort(-1).values[..., :count].mean(-1)


def oracle_labels(frames: Tensor, truth: Tensor, threshold: float) -> Tensor:
    """Whether orbits are good: `oracle_psnr` of at least ``threshold`` dB, bool ``[...]``."""
    return oracle_psnr(frames, truth) >= threshold


def centred_truth(pictures: list[Image.Image], cameras: Cameras, window: Window, size: int) -> Tensor:
    """The orbit that a video model should make of a centred picture, cut out of true renders.

    Centring (`vfusion3d.preprocessing.centre_picture`) shifts and scales frame 0. The other frames are cut at the same
    scale around the point that came to the middle there, taken to be as far away as the origin.

    Args:
        pictures: The true frames, square, with alpha.
        cameras: Theirs, ``[F]``.
        window: What was cut out of the first, in its pixels.
        size: Pixels a side of the result.

    Returns:
        RGB on white in [0, 1], ``[F, 3, size, size]``.
    """
    width = pictures[0].width
    focal = float(cameras.intrinsics[0, 0])
    across, down = (window.left + window.side / 2) / width - 0.5, (window.top + window.side / 2) / width - 0.5
    right, up, backward, eye = cameras.poses[0].unbind(-1)
    depth = eye.norm()
    middle = eye + depth * (right * across / focal - up * down / focal - backward)
    places = cameras.project(middle.expand(len(cameras), 1, 3))[0][:, 0] * width - window.side / 2
    frames = [
        crop_window(picture.convert("RGBA"), Window(float(left), float(top), window.side), size)
        for picture, (left, top) in zip(pictures, places.tolist(), strict=True)
    ]
    return over_white(torch.stack(frames))


class OraclePsnr(Stage):
    """`oracle_psnr` of an orbit, where the true one is known: a column ``truth`` of frames of the same size."""

    name = "oracle"
    reads = ("frames", "truth")
    writes: ClassVar[dict[str, pa.DataType]] = {"oracle_psnr": pa.float32()}

    def process(self, rows: Sequence[Row]) -> Sequence[Row | ItemError]:
        """Each row's figure, dB."""
        return each_row(rows, self._compare)

    def _compare(self, row: Row) -> Row:
        frames, truth = decode_frames(row["frames"]), decode_frames(row["truth"])
        if frames.shape != truth.shape:
            raise ItemError(f"The orbit is {list(frames.shape)}, but the true one {list(truth.shape)}.")
        return {"oracle_psnr": float(oracle_psnr(frames, truth))}
