"""Posed photographs: real pictures with calibrated cameras, in the formats that capture sets come in."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vfusion3d.cameras import Cameras
from vfusion3d.cameras.conventions import from_opencv_w2c, from_projection, from_transforms
from vfusion3d.errors import SceneError

CALIBRATIONS = ("cameras.json", "transforms.json", "transforms_train.json", "*_par.txt", "*_P.txt")
_SUFFIXES = ("", ".png", ".jpg", ".jpeg")

# A view: the picture's name in the calibration, and its camera for a given picture size (width, height).
_View = tuple[str, Callable[[tuple[int, int]], Cameras]]


@dataclass(frozen=True)
class PosedPhotos:
    """Photographs with their cameras; pictures are read on demand and may differ in size.

    Args:
        files: ``N`` picture files.
        cameras: Cameras of shape ``[N]``, float32, in the world of the calibration: its up axis, origin and
            unit are whatever the capture chose.
    """

    files: tuple[Path, ...]
    cameras: Cameras

    def __len__(self) -> int:
        return len(self.files)

    def image(self, index: int) -> Tensor:
        """Picture ``index``: float32 ``[4, H, W]`` in [0, 1], RGBA with premultiplied alpha.

        Raises:
            SceneError: if the file cannot be read.
        """
        try:
            with Image.open(self.files[index]) as picture:
                pixels = np.array(picture.convert("RGBA"))
        except (OSError, ValueError, SyntaxError) as error:
            raise SceneError(f"The picture {self.files[index]} cannot be read ({error}).") from error
        rgba = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255.0
        return torch.cat([rgba[:3] * rgba[3:], rgba[3:]])


def load_posed_photos(
    folder: str | os.PathLike[str],
    calibration: str | os.PathLike[str] | None = None,
    size: tuple[int, int] | None = None,
) -> PosedPhotos:
    """Read a sequence of photographs and its calibration.

    The formats: ``cameras.json`` (``views`` with ``file``, ``K``, ``R``, ``t``, OpenCV axes), nerfstudio's or
    NeRF-synthetic's ``transforms*.json``, Middlebury's ``*_par.txt`` and one 3 x 4 projection matrix per
    picture in ``*_P.txt``. Pixel (0, 0) is centred at (0.5, 0.5) in all of them.

    Args:
        folder: Where the pictures are, themselves or in ``images/``.
        calibration: The calibration file (or the folder of the ``*_P.txt``), by default the first known one
            in ``folder``.
        size: ``(width, height)`` of the pictures that were calibrated, if those in ``folder`` were resized.
            A size that the calibration states goes before.

    Returns:
        The views whose picture is there, in the calibration's order.

    Raises:
        SceneError: if there is no calibration, it cannot be used, or no picture of it is there.
    """
    folder = Path(folder)
    path = _find_calibration(folder) if calibration is None else Path(calibration)
    try:
        views = _read(path)
        files, cameras = [], []
        for name, camera in views:
            file = _find_picture(folder, name)
            if file is not None:
                files.append(file)
                cameras.append(camera(size or picture_size(file)))
        if not files:
            raise SceneError(f"None of the {len(views)} pictures that {path} names is in {folder} or its images/.")
        posed = Cameras.stack(cameras).to(torch.float32)
        posed.validate()
    except SceneError:
        raise
    except KeyError as error:
        raise SceneError(f"The calibration {path} cannot be used: it lacks {error}.") from error
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise SceneError(f"The calibration {path} cannot be used: {error}") from error
    return PosedPhotos(tuple(files), posed)


def _find_calibration(folder: Path) -> Path:
    for pattern in CALIBRATIONS:
        found = sorted(folder.glob(pattern))
        if found:
            return found[0].parent if pattern == "*_P.txt" else found[0]
    raise SceneError(f"The folder {folder} has no calibration; expected one of {', '.join(CALIBRATIONS)}.")


def _find_picture(folder: Path, name: str) -> Path | None:
    """The picture under its full name, or its file name in ``folder`` or ``images/``, with or without a suffix."""
    base = Path(name).name
    for stem in (folder / name, folder / base, folder / "images" / base):
        for suffix in _SUFFIXES:
            if (file := stem.with_name(stem.name + suffix)).is_file():
                return file
    return None


def picture_size(file: Path) -> tuple[int, int]:
    """Width and height of a picture in pixels, from its header.

    Raises:
        SceneError: if the file cannot be read.
    """
    try:
        with Image.open(file) as picture:
            return picture.size
    except (OSError, ValueError, SyntaxError) as error:
        raise SceneError(f"The picture {file} cannot be read ({error}).") from error


def _read(path: Path) -> list[_View]:
    if path.is_dir():
        return [(file.name.removesuffix("_P.txt"), _projection_view(file)) for file in sorted(path.glob("*_P.txt"))]
    if path.suffix == ".json":
        document = json.loads(path.read_text(encoding="utf-8"))
        if "views" in document:
            return [(view["file"], _opencv_view(view)) for view in document["views"]]
        return [(frame["file_path"], _transforms_view(document, frame)) for frame in document["frames"]]
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()[1:] if line.strip()]
    return [(row[0], _middlebury_view(row[1:])) for row in rows]


def _opencv_view(view: dict[str, Any]) -> Callable[[tuple[int, int]], Cameras]:
    def camera(size: tuple[int, int]) -> Cameras:
        k, rotation, translation = (torch.tensor(view[key], dtype=torch.float64) for key in ("K", "R", "t"))
        width, height = int(view.get("width", size[0])), int(view.get("height", size[1]))
        return from_opencv_w2c(torch.cat([rotation, translation.reshape(3, 1)], -1), k, width, height)

    return camera


def _transforms_view(document: dict[str, Any], frame: dict[str, Any]) -> Callable[[tuple[int, int]], Cameras]:
    return lambda size: from_transforms({**document, "frames": [frame]}, size)[0]


def _middlebury_view(numbers: list[str]) -> Callable[[tuple[int, int]], Cameras]:
    def camera(size: tuple[int, int]) -> Cameras:
        values = torch.tensor([float(number) for number in numbers], dtype=torch.float64)
        if len(values) != 21:
            raise ValueError(f"a line of it has {len(values)} numbers after the picture's name, not 21.")
        matrix = torch.cat([values[9:18].reshape(3, 3), values[18:, None]], -1)
        return from_opencv_w2c(matrix, values[:9].reshape(3, 3), *size)

    return camera


def _projection_view(file: Path) -> Callable[[tuple[int, int]], Cameras]:
    return lambda size: from_projection(torch.from_numpy(np.loadtxt(file)), *size)
