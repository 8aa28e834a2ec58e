"""Frames to frames with alpha, which training supervises."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from scipy import ndimage

from vfusion3d.alpha import pixels_over_white
from vfusion3d.data.shard_writer import encode
from vfusion3d.engine.stage import ItemError, Row, Stage
from vfusion3d.engine.stages.pictures import each_row, frame_pixels
from vfusion3d.engine.stages.weights import weights_identity
from vfusion3d.errors import UsageError
from vfusion3d.metrics.silhouettes import WHITE_TOLERANCE, masks_on_white
from vfusion3d.preprocessing.background import check_strategy, remove_background
from vfusion3d.preprocessing.networks import MODELS
from vfusion3d.preprocessing.salience import main_parts

STRATEGIES = ("auto", "alpha", "white", *MODELS)
_EDGE = 0.5  # opacity from which a pixel on the picture's border counts as the object's


class FrameMasks(Stage):
    """The object of every frame, cut out with soft alpha.

    Args:
        strategy: ``alpha``, the frames' own transparency; ``white``, offline and without weights: what is not white,
            holes filled, with parts of at least a tenth of the largest (`white_cut`); ``rembg`` (isnet-general-use,
            as in the paper) or ``birefnet``, matting networks; ``auto``, ``alpha`` where frames have a transparent
            part, else ``white``.
        weights: The ONNX file of ``rembg`` and ``birefnet``.
        tolerance: How far from white, in [0, 1], a channel of the background may be for ``white``.

    Raises:
        UsageError: if there is no such strategy, weights do not go with it, or the tolerance is out of range.
        CheckpointError: if the weights cannot be used.
        MissingExtraError: if the extra ``rembg`` is needed and not installed.
    """

    name = "masks"
    reads = ("frames",)
    writes: ClassVar[dict[str, pa.DataType]] = {
        "rgba_frames": pa.list_(pa.binary()),
        "mask_coverage": pa.float32(),
        "mask_least": pa.float32(),
        "mask_edge_frames": pa.int32(),
    }

    def __init__(
        self, strategy: str = "auto", weights: str | Path | None = None, tolerance: float = WHITE_TOLERANCE
    ) -> None:
        if strategy not in STRATEGIES:
            raise UsageError(f"Argument `strategy` must be one of {', '.join(STRATEGIES)}, but got {strategy!r}.")
        if weights is not None and strategy not in MODELS:
            raise UsageError(
                f"Argument `weights` is for the strategies {' and '.join(MODELS)}, not for {strategy!r}; leave it out."
            )
        if not 0 < tolerance < 1:
            raise UsageError(f"Argument `tolerance` must be in (0, 1), but got {tolerance}.")
        if strategy in MODELS:
            check_strategy(strategy, weights)
        settings = {"weights": None if weights is None else weights_identity(weights), "tolerance": tolerance}
        super().__init__(strategy=strategy, **settings)
        self.strategy, self.weights, self.tolerance = strategy, weights, tolerance

    def process(self, rows: Sequence[Row]) -> Sequence[Row | ItemError]:
        """Each row's frames as lossless WebP with straight alpha, and how much of them the object covers.

        ``mask_coverage`` is the mean share of the picture, ``mask_least`` that of the emptiest frame,
        ``mask_edge_frames`` the number of frames in which the object touches an edge.
        """
        return each_row(rows, self._cut)

    def _cut(self, row: Row) -> Row:
        cut = self.cut(frame_pixels(row["frames"]))
        alpha = cut[..., 3] / 255
        shares = alpha.mean((1, 2))
        border = np.concatenate([alpha[:, 0], alpha[:, -1], alpha[:, :, 0], alpha[:, :, -1]], 1)
        return {
            "rgba_frames": [encode(frame) for frame in cut],
            "mask_coverage": float(shares.mean()),
            "mask_least": float(shares.min()),
            "mask_edge_frames": int((border > _EDGE).any(1).sum()),
        }

    def cut(self, frames: np.ndarray) -> np.ndarray:
        """Frames with the object's alpha, uint8 ``[F, H, W, 4]`` as they are given.

        Raises:
            ItemError: if one shows nothing.
        """
        strategy = self.strategy
        if strategy == "auto":
            strategy = "alpha" if (frames[..., 3] < 128).any() else "white"
        return np.stack([self._frame(pixels, f"Frame {k}", strategy) for k, pixels in enumerate(frames)])

    def _frame(self, pixels: np.ndarray, name: str, strategy: str) -> np.ndarray:
        """A frame, uint8 ``[H, W, 4]``, with the object's alpha."""
        if strategy == "white":
            found = white_cut(pixels_over_white(pixels), self.tolerance)
            if found is None:
                raise ItemError(f"{name} shows nothing on white.")
            return found
        if strategy == "alpha":
            if not (pixels[..., 3] >= 128).any():
                raise ItemError(f"{name} is transparent.")
            return pixels
        return np.asarray(remove_background(Image.fromarray(pixels), name, strategy, self.weights).rgba)


def cut_frames(files: Sequence[bytes]) -> list[Image.Image]:
    """The object of every frame as the strategy ``auto`` cuts it out: straight-alpha RGBA.

    Raises:
        ItemError: if a frame cannot be decoded or shows nothing.
    """
    stage = FrameMasks()
    return [Image.fromarray(pixels) for pixels in stage.cut(frame_pixels(files))]


def white_cut(rgb: np.ndarray, tolerance: float = WHITE_TOLERANCE) -> np.ndarray | None:
    """An object on white, cut out.

    What is not white is the object, with holes filled and without parts of less than a tenth of the largest one. Along
    its outline colours are mixtures of it and white: alpha is how far a colour is on the way from white to the nearest
    colour inside.

    Args:
        rgb: uint8 ``[H, W, 3]``.
        tolerance: How far from white a channel of the background may be.

    Returns:
        Straight-alpha RGBA, uint8 ``[H, W, 4]``, or None if all is white.
    """
    colour = rgb.astype(np.float32) / 255
    mask = masks_on_white(torch.from_numpy(colour).permute(2, 0, 1), tolerance).numpy()
    mask = main_parts(mask)[0] > 0
    if not mask.any():
        return None
    inside = ndimage.binary_erosion(mask, np.ones((3, 3)), border_value=1)
    if not inside.any():
        inside = mask
    nearest = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
    own = colour[nearest[0], nearest[1]]
    away, full = 1 - colour, 1 - own
    along = (away * full).sum(-1) / np.maximum((full * full).sum(-1), 1e-4)
    alpha = np.where(inside, 1.0, np.where(mask, along.clip(0, 1), 0.0))
    straight = np.where(inside[..., None], colour, own)
    return (np.concatenate([straight, alpha[..., None]], -1) * 255 + 0.5).astype(np.uint8)
