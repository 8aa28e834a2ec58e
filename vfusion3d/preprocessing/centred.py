"""From a picture to the object alone in the middle of a square, in one call."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from vfusion3d.alpha import over_white, straight_pixels
from vfusion3d.preprocessing.background import remove_background
from vfusion3d.preprocessing.images import read_picture, to_rgba
from vfusion3d.preprocessing.recentre import BORDER, Window, recentre
from vfusion3d.preprocessing.salience import check_single_object


@dataclass(frozen=True)
class CentredPicture:
    """An object cut out of its picture and centred in a square.

    Args:
        rgba: Premultiplied RGBA in [0, 1], ``[4, S, S]``.
        window: The part of the (upright) picture that was cut out, in its pixels.
        size: Width and height of that picture.
        background: How the object was told from the background, in words.
        warnings: What looks wrong with the picture, one sentence each.
    """

    rgba: Tensor
    window: Window
    size: tuple[int, int]
    background: str
    warnings: tuple[str, ...] = ()

    def on_white(self) -> Tensor:
        """RGB in [0, 1], ``[3, S, S]``."""
        return over_white(self.rgba)

    def image(self) -> Image.Image:
        """As a straight-alpha RGBA picture."""
        return Image.fromarray(straight_pixels(self.rgba))


def centre_picture(
    picture: str | Path | Image.Image,
    size: int,
    border: float = BORDER,
    background: str = "auto",
    background_weights: str | Path | None = None,
    check: bool = False,
) -> CentredPicture:
    """Read a picture, cut its object out and centre it in a square.

    Args:
        picture: A file, or a PIL picture of any mode.
        size: Pixels a side of the square.
        border: Free share of the square on each side of the object.
        background: How the object is cut out, one of `STRATEGIES`.
        background_weights: The ONNX file of the strategies ``rembg`` and ``birefnet``.
        check: Whether to refuse several objects and one that is cut off (`check_single_object`).

    Raises:
        InputImageError: if the picture cannot be used.
        UsageError: if an argument is out of range.
        CheckpointError: if the background's weights cannot be used.
        MissingExtraError: if the background strategy needs an extra that is not installed.
    """
    if isinstance(picture, Image.Image):
        name, whole = "The picture", to_rgba(picture)
    else:
        name, whole = f"Picture '{picture}'", read_picture(picture)
    cutout = remove_background(whole, name, background, background_weights)
    if check:
        check_single_object(np.asarray(cutout.rgba.getchannel("A")) / 255, name)
    rgba, window = recentre(cutout.rgba, size, border, name)
    return CentredPicture(rgba, window, whole.size, cutout.method, cutout.warnings)
