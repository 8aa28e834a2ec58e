"""Pictures in columns: encoded files to tensors and back, one item at a time."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from vfusion3d.alpha import pixels_over_white, rgb_pixels
from vfusion3d.data.shard_writer import encode
from vfusion3d.engine.stage import ItemError, Row, Stage
from vfusion3d.errors import InputImageError
from vfusion3d.preprocessing import read_picture


def each_row(rows: Sequence[Row], make: Callable[[Row], Row]) -> list[Row | ItemError]:
    """What ``make`` does of each row, or why it cannot: an `ItemError`, or a picture that cannot be used."""
    results: list[Row | ItemError] = []
    for row in rows:
        try:
            results.append(make(row))
        except ItemError as error:
            results.append(error)
        except InputImageError as error:
            results.append(ItemError(str(error)))
    return results


def decode_picture(content: bytes, what: str = "The picture") -> Image.Image:
    """A picture file as it is.

    Raises:
        ItemError: if it cannot be decoded.
    """
    try:
        picture = Image.open(io.BytesIO(content))
        picture.load()
    except Exception as error:  # Pillow's plug-ins raise many types on damaged data
        raise ItemError(f"{what} cannot be decoded ({str(error).split(' <')[0].rstrip('.')}).") from error
    return picture


def decode_frames(files: Sequence[bytes]) -> Tensor:
    """Frames of a column on white.

    Args:
        files: Picture files of one size; where they have an alpha, white is put behind.

    Returns:
        RGB in [0, 1], float32, ``[F, 3, H, W]``.

    Raises:
        ItemError: if one cannot be decoded, or they have several sizes.
    """
    pixels = [pixels_over_white(frame) for frame in frame_pixels(files)]
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255


def frame_pixels(files: Sequence[bytes]) -> np.ndarray:
    """Frames of a column as they are: uint8 ``[F, H, W, 4]``, RGBA with straight alpha.

    Raises:
        ItemError: as `decode_frames`.
    """
    pixels = [np.array(decode_picture(file, f"Frame {k}").convert("RGBA")) for k, file in enumerate(files)]
    if not pixels:
        raise ItemError("There are no frames.")
    if len({frame.shape for frame in pixels}) > 1:
        raise ItemError("The frames have several sizes.")
    return np.stack(pixels)


def encode_frames(frames: Tensor) -> list[bytes]:
    """RGB ``[F, 3, H, W]`` in [0, 1] as lossless WebP files."""
    return [encode(frame) for frame in rgb_pixels(frames)]


class ReadImage(Stage):
    """The picture file that a row names, upright, in sRGB and of at most 2048 pixels a side, with its alpha.

    What the file holds is no part of the stage's fingerprint: a file that was changed since is not read again.

    Args:
        folder: What relative paths are relative to; the working folder by default.
    """

    name = "read_image"
    reads = ("file",)
    writes: ClassVar[dict[str, pa.DataType]] = {"image": pa.binary()}

    def __init__(self, folder: str | os.PathLike[str] = "") -> None:
        super().__init__()  # where the same files are decides nothing
        self.folder = Path(folder)

    def process(self, rows: Sequence[Row]) -> Sequence[Row | ItemError]:
        """Each row's picture as lossless WebP, or what is wrong with its file."""
        return each_row(rows, lambda row: {"image": encode(np.asarray(read_picture(self.folder / row["file"])))})
