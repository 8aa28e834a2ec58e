"""Pictures of the training's progress."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from vfusion3d.alpha import over_white, rgb_pixels
from vfusion3d.callbacks.sheets import Sheets
from vfusion3d.models import Rendering

_GAP = 2  # pixels between the objects of a sheet
_INPUT = (230, 120, 0)  # colour of the frame around the input
_FARTHEST = 0.2  # grey of the farthest surface; what is empty is black


def object_rows(images: Tensor, rendered: Rendering, index: int) -> np.ndarray:
    """One object's views side by side, its input framed: target, prediction, opacity and depth below each other.

    Near surfaces are bright, far ones dark; all views of an object share the scale.

    Args:
        images: Premultiplied RGBA, ``[B, V, 4, H, W]``; view 0 is the input.
        rendered: Of the same views.
        index: Of the object.

    Returns:
        uint8, ``[4 H, V W, 3]``.
    """
    opacity, depth = rendered.opacity[index].float(), rendered.depth[index].float()
    solid = depth[opacity > 0.5]
    near, far = (float(solid.min()), float(solid.max())) if solid.numel() else (0.0, 1.0)
    closeness = 1 - (1 - _FARTHEST) * ((depth - near) / max(far - near, 1e-6)).clamp(0, 1)
    rows = (over_white(images[index].float()), rendered.rgb[index].float(), opacity, closeness * opacity)
    pictures = torch.cat([torch.cat(list(row.expand(-1, 3, -1, -1)), -1) for row in rows], -2)
    sheet = Image.fromarray(rgb_pixels(pictures))
    side = images.shape[-1] - 1, images.shape[-2] - 1
    ImageDraw.Draw(sheet).rectangle((0, 0, *side), outline=_INPUT, width=max(1, side[0] // 64))
    return np.asarray(sheet)


class NovelViewSheets(Sheets):
    """Draws the first objects of the validation set: target, prediction, opacity and depth of every view.

    The views lie side by side, the input framed and first; near surfaces are bright in the depth, empty space is
    black. ``novel_views_<step>.png`` after each validation, ``test_views.png`` and ``predicted_views.png`` after
    `vfusion3d test` and `vfusion3d predict`; loggers that can show pictures get them too.

    The module's validation, test and predict steps return the `Rendering` of all views.

    Args:
        dirpath: Folder of the PNGs; the logger's folder by default.
        objects: Objects shown; with several processes, of those that the first one scores.
    """

    LOGGED = "novel_views"
    SHOWN = "views"

    def rows_of(self, batch: Any, outputs: Rendering, count: int) -> list[np.ndarray]:
        """`object_rows` of each object."""
        return [object_rows(batch["images"], outputs, index) for index in range(min(count, len(batch["images"])))]

    def sheet(self, rows: list[np.ndarray]) -> Image.Image:
        """The rows below each other."""
        padded = [np.pad(row, ((0, _GAP), (0, 0), (0, 0)), constant_values=255) for row in rows]
        return Image.fromarray(np.concatenate(padded)[:-_GAP])
