"""Rendered and photographed views as other projects lay them out on disk, all read into one form, `Views`.

What each reader knows about a layout comes from the code that writes or reads it, named in its docstring.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vfusion3d.cameras import Cameras, fov_from_focal, pinhole
from vfusion3d.cameras.conventions import (
    Zero123PlusVersion,
    from_lgm,
    from_openlrm,
    from_transforms,
    from_w2c,
    rescaled,
    to_openlrm,
    zero123plus_views,
)
from vfusion3d.data.posed_photos import CALIBRATIONS, load_posed_photos, picture_size
from vfusion3d.data.scenes import TRANSFORMS, Scene, SceneInfo
from vfusion3d.errors import SceneError, UsageError

Layout = Literal[
    "nerfstudio", "openlrm", "instantmesh", "lgm", "objaverse", "photos", "zero123plus-1.2", "zero123plus-1.1"
]

_TRANSFORMS = (TRANSFORMS, "transforms_train.json")

# Fields of view in degrees where a layout's files do not state them.
_FOV = {"instantmesh": 50.0, "lgm": 49.1, "objaverse": fov_from_focal(35 / 32)}


@dataclass(frozen=True)
class Reading:
    """How stored poses are read where a folder differs from its layout.

    Args:
        inverted: They are the inverse of what the layout says: world-to-camera for camera-to-world or the reverse.
        flipped: Their camera axes are the other ones: OpenCV's for OpenGL's or the reverse.
        up: The world's up axis, if the layout leaves it open: ``z`` (front +X), or ``y`` (front +Z).
    """

    inverted: bool = False
    flipped: bool = False
    up: Literal["y", "z"] = "z"


@dataclass(frozen=True)
class Views:
    """The views of one object as a folder states them; nothing has been checked yet.

    Args:
        folder: The folder.
        layout: Its layout.
        cameras: Cameras of shape ``[V]``, float64, in our world as far as the layout defines its own. The poses
            are what the files say, be it no rigid motion or not a number.
        images: ``V`` picture files, which may be missing.
        sizes: Width and height in pixels that the cameras are stated for, or None where they hold for any.
        masks: Opacity pictures beside them, or None.
        depths: Depth files beside them, or None.
        info: What is known about the source.
    """

    folder: Path
    layout: Layout
    cameras: Cameras
    images: tuple[Path, ...]
    sizes: tuple[tuple[int, int] | None, ...]
    masks: tuple[Path | None, ...]
    depths: tuple[Path | None, ...]
    info: SceneInfo

    def __len__(self) -> int:
        return len(self.images)

    def pixels(self, index: int) -> np.ndarray:
        """Picture ``index``: uint8 ``[H, W, 4]``, RGBA with straight alpha, times the mask if there is one.

        Raises:
            SceneError: if a file is missing or broken, or the mask has another size.
        """
        mask = self.masks[index]
        try:
            with Image.open(self.images[index]) as picture:
                pixels = np.array(picture.convert("RGBA"))
            if mask is not None:
                with Image.open(mask) as picture:
                    opacity = np.asarray(picture.convert("L"))
        except FileNotFoundError as error:
            raise SceneError(f"The picture {error.filename} is missing.") from error
        except (OSError, ValueError, SyntaxError) as error:
            raise SceneError(f"The picture {self.images[index]} or its mask cannot be read ({error}).") from error
        if mask is not None:
            if opacity.shape != pixels.shape[:2]:
                raise SceneError(f"The mask {mask} has another size than {self.images[index]}; resize it.")
            pixels[..., 3] = (pixels[..., 3].astype(np.uint16) * opacity // 255).astype(np.uint8)
        return pixels

    def moved(self, centre: Sequence[float] = (0.0, 0.0, 0.0), scale: float = 1.0) -> Views:
        """The same views of the world ``x -> (x - centre) * scale``, noted in `info`."""
        shift = self.cameras.poses.new_tensor([*centre])
        poses = torch.cat([self.cameras.poses[..., :3], (self.cameras.centers - shift)[..., None]], -1)
        first, second, third = (old + new / self.info.scale for old, new in zip(self.info.centre, centre, strict=True))
        info = replace(self.info, centre=(first, second, third), scale=self.info.scale * scale)
        return replace(self, cameras=rescaled(Cameras(poses, self.cameras.intrinsics), scale), info=info)


def detect_layout(folder: str | os.PathLike[str]) -> Layout | None:
    """The layout of a folder by what lies in it, or None; Zero123++'s versions look alike, the newer one is taken."""
    for layout in get_args(Layout):
        if _MARKS[layout](Path(folder)):
            return layout  # type: ignore[no-any-return]
    return None


def find_objects(root: str | os.PathLike[str], layout: Layout | None = None) -> list[Path]:
    """The folders of single objects in a folder, itself included, sorted.

    Args:
        root: Where to look, at any depth; hidden folders are left out.
        layout: Only folders of this layout.

    Raises:
        SceneError: if there is none.
    """
    found = []
    for path, folders, _ in os.walk(root):
        here = Path(path)
        if _MARKS[layout](here) if layout is not None else detect_layout(here) is not None:
            found.append(here)
            folders.clear()  # an object holds no further ones
        folders[:] = [name for name in folders if not name.startswith(".")]
    if not found:
        kind = layout or "known"
        known = ", ".join(f"{name} ({_HINTS[name]})" for name in get_args(Layout) if layout in (None, name))
        raise SceneError(f"The folder {root} holds no views in a {kind} layout; expected one of: {known}.")
    return sorted(found)


def read_views(
    folder: str | os.PathLike[str],
    layout: Layout | None = None,
    fov: float | None = None,
    reading: Reading | None = None,
) -> Views:
    """Read cameras and file names of one object; pictures are read on demand.

    Args:
        folder: The object's folder.
        layout: Its layout, by default `detect_layout`'s.
        fov: Field of view in degrees, for layouts that do not store it (instantmesh: 50, lgm: 49.1,
            objaverse: 49.13 unless given).
        reading: How to read poses that are not what the layout says.

    Raises:
        SceneError: naming the file and what is wrong with it.
        UsageError: if ``fov`` is given for a layout that states its own, or is no angle.
    """
    folder = Path(folder)
    layout = layout or detect_layout(folder)
    if layout is None:
        raise SceneError(f"The folder {folder} holds no views in a known layout; see `vfusion3d data convert --help`.")
    if fov is not None and layout not in _FOV:
        raise UsageError(f"Argument `fov` was given, but the layout {layout} states its own; leave it out.")
    if fov is not None and not 1 <= fov <= 170:
        raise UsageError(f"Argument `fov` must be between 1 and 170 degrees, but got {fov}.")
    try:
        return _READERS[layout](_Request(folder, layout, fov or _FOV.get(layout, 0.0), reading or Reading()))
    except SceneError:
        raise
    except KeyError as error:
        raise SceneError(f"The folder {folder} cannot be read as {layout}: it lacks {error}.") from error
    except StopIteration:
        raise SceneError(f"The folder {folder} cannot be read as {layout}: it has no {_HINTS[layout]}.") from None
    except (OSError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise SceneError(f"The folder {folder} cannot be read as {layout}: {error}") from error


# -- one function per layout -----------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Request:
    folder: Path
    layout: Layout
    fov: float
    reading: Reading

    def views(
        self,
        cameras: Cameras,
        images: Sequence[Path],
        sizes: Sequence[tuple[int, int] | None] | None = None,
        masks: Sequence[Path | None] | None = None,
        depths: Sequence[Path | None] | None = None,
        info: SceneInfo | None = None,
        unit: float = 1.0,
    ) -> Views:
        """The result; ``unit`` is the factor that brings the layout's object into ``[-1, 1]^3``."""
        nothing = [None] * len(images)
        if self.reading.up == "y":
            cameras = Cameras(from_lgm(cameras.poses, 50.0).poses, cameras.intrinsics)
        known = info or SceneInfo()
        return Views(
            self.folder,
            self.layout,
            rescaled(cameras, unit),
            tuple(images),
            tuple(nothing if sizes is None else sizes),
            tuple(nothing if masks is None else masks),
            tuple(nothing if depths is None else depths),
            replace(known, scale=known.scale * unit, source=known.source or self.folder.name),
        )

    def poses(self, matrices: Tensor, inverted: bool = False, flipped: bool = False) -> Tensor:
        """OpenGL camera-to-world poses ``[V, 3, 4]`` of matrices stored inverted and/or with OpenCV's axes."""
        rows = matrices[..., :3, :]
        if inverted != self.reading.inverted:
            rows = from_w2c(rows, rows.new_zeros(4)).poses
        if flipped != self.reading.flipped:
            rows = rows * rows.new_tensor([1.0, -1.0, -1.0, 1.0])
        return rows


def _nerfstudio(request: _Request) -> Views:
    """``transforms.json`` with OpenGL camera-to-world poses, pictures where it says.

    Source: https://docs.nerf.studio/quickstart/data_conventions.html and nerfstudio's nerfstudio_dataparser.py:
    ``file_path``, ``transform_matrix``, ``fl_x, fl_y, cx, cy, w, h`` shared or per frame, ``mask_path`` and
    ``depth_file_path`` per frame. NeRF-synthetic names it ``transforms_train.json`` (its other splits are not read),
    writes ``camera_angle_x`` and leaves ``.png`` out.
    """
    path = next(path for name in _TRANSFORMS if (path := request.folder / name).is_file())
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SceneError(f"The file {path} cannot be read: {error}.") from error
    frames = document.get("frames") if isinstance(document, dict) else None
    if not isinstance(frames, list) or not frames or not all(isinstance(frame, dict) for frame in frames):
        raise SceneError(f"The file {path} has no list of `frames`; it must have at least one.")
    images, sizes, masks, depths, poses, numbers = [], [], [], [], [], []
    for number, frame in enumerate(frames):
        try:
            image = request.folder / str(frame["file_path"])
            if not image.is_file() and not image.suffix:
                image = image.with_name(image.name + ".png")
            own = {**document, **frame}
            size = (int(own["w"]), int(own["h"])) if "w" in own and "h" in own else None
            matrix = torch.tensor(frame["transform_matrix"], dtype=torch.float64)
            if tuple(matrix.shape) not in ((3, 4), (4, 4)):
                raise ValueError(f"`transform_matrix` is {list(matrix.shape)}, not 4 x 4")
            # With a pose that is surely right, `from_transforms` judges the intrinsics alone.
            placed = {**document, "frames": [{**frame, "transform_matrix": torch.eye(4).tolist()}]}
            numbers.append(from_transforms(placed, size or picture_size(image)).intrinsics[0].double())
        except KeyError as error:
            raise SceneError(f"The file {path} cannot be used: frame {number} has no {error}; add it.") from error
        except SceneError as error:
            sentence = str(error).replace("Frame 0", f"Frame {number}")
            raise SceneError(f"The file {path} cannot be used: {sentence}") from error
        except (ValueError, TypeError) as error:
            raise SceneError(f"The file {path} cannot be used: frame {number}: {error}.") from error
        poses.append(matrix[:3])
        images.append(image)
        sizes.append(size)
        masks.append(request.folder / str(frame["mask_path"]) if "mask_path" in frame else None)
        depth = image.with_name(f"{image.stem}_depth.png")
        if "depth_file_path" in frame:
            depth = request.folder / str(frame["depth_file_path"])
        depths.append(depth if "depth_file_path" in frame or depth.is_file() else None)
    try:
        info = Scene.load(request.folder).info
    except SceneError:  # its faults are the reader's to name, not ours
        info = SceneInfo()
    cameras = Cameras(request.poses(torch.stack(poses)), torch.stack(numbers))
    return request.views(cameras, images, sizes, masks, depths, info)


def _openlrm(request: _Request) -> Views:
    """``rgba/000.png``, ``pose/000.npy`` (3 x 4 camera-to-world, OpenGL, Blender's world), ``intrinsics.npy``.

    ``intrinsics.npy`` is ``[[fx, fy], [cx, cy], [width, height]]`` in pixels; the object's longest side is 2.
    Source: OpenLRM's scripts/data/objaverse/blender_script.py and openlrm/datasets/objaverse.py.
    """
    names = _numbered(request.folder / "pose", ".npy")
    stored = torch.stack([_matrix(request.folder / "pose" / f"{name}.npy") for name in names])
    intrinsics = torch.from_numpy(_load(request.folder / "intrinsics.npy").astype(np.float64))
    cameras = from_openlrm(request.poses(stored), intrinsics)
    width, height = (int(number) for number in intrinsics[2])
    images = [request.folder / "rgba" / f"{name}.png" for name in names]
    return request.views(cameras, images, [(width, height)] * len(names))


def _instantmesh(request: _Request) -> Views:
    """``000.png`` with ``cameras.npz``, whose ``cam_poses`` are 3 x 4 world-to-camera; z is up.

    Beside them ``000_depth.png`` (one channel, 255 is a depth of 4) and ``000_normal.png``. The object is in
    ``[-1, 1]^3``, the field of view 50 degrees. Source: InstantMesh's src/data/objaverse.py, its issue 13, and
    the y and z flip of its ray sampler, by which the camera axes are OpenGL's.
    """
    with np.load(request.folder / "cameras.npz", allow_pickle=False) as archive:
        stored = torch.from_numpy(archive["cam_poses"].astype(np.float64))
    if stored.ndim != 3 or tuple(stored.shape[1:]) not in ((3, 4), (4, 4)) or not len(stored):
        raise SceneError(
            f"The file {request.folder / 'cameras.npz'} has cam_poses of shape {list(stored.shape)}, not [views, 3, 4]."
        )
    images = [request.folder / f"{index:03d}.png" for index in range(len(stored))]
    depths: list[Path | None] = [request.folder / f"{image.stem}_depth.png" for image in images]
    if not any(depth.is_file() for depth in depths if depth is not None):
        depths = [None] * len(images)
    cameras = Cameras(request.poses(stored, inverted=True), pinhole(request.fov, torch.float64))
    return request.views(cameras, images, depths=depths)


def _lgm(request: _Request) -> Views:
    """``rgb/000.png`` (RGBA) and ``pose/000.txt``: 16 numbers, camera-to-world, OpenCV's axes in Blender's world.

    Source: LGM's core/provider_objaverse.py, which turns them into OpenGL, and core/options.py: field of view
    49.1 degrees, cameras 1.5 from an object whose size it does not state. With this rig (Zero-1-to-3's) objects
    have the longest side 1, so lengths are doubled here; only numbers that the folder has are views.
    """
    names = _numbered(request.folder / "pose", ".txt")
    rows = [np.loadtxt(request.folder / "pose" / f"{name}.txt", dtype=np.float64).reshape(-1) for name in names]
    for name, row in zip(names, rows, strict=True):
        if len(row) not in (12, 16):
            raise SceneError(f"The file {request.folder / 'pose' / name}.txt has {len(row)} numbers, not 16.")
    stored = torch.stack([torch.from_numpy(row).reshape(-1, 4)[:3] for row in rows])
    cameras = _from_blender(request.poses(stored, flipped=True), request.fov)
    return request.views(cameras, [request.folder / "rgb" / f"{name}.png" for name in names], unit=2.0)


def _objaverse(request: _Request) -> Views:
    """Zero-1-to-3's Objaverse renders: ``000.png`` and ``000.npy``, 3 x 4 world-to-camera in Blender's axes.

    The object's longest side is 1, so lengths are doubled here; lens 35 mm, sensor 32 mm. Source:
    objaverse-rendering/scripts/blender_script.py and zero123/ldm/data/simple.py of cvlab-columbia/zero123.
    """
    names = _numbered(request.folder, ".npy")
    stored = torch.stack([_matrix(request.folder / f"{name}.npy") for name in names])
    cameras = _from_blender(request.poses(stored, inverted=True), request.fov)
    return request.views(cameras, [request.folder / f"{name}.png" for name in names], unit=2.0)


def _zero123plus(request: _Request) -> Views:
    """Zero123++'s training views: ``000.png`` is its input, ``001.png`` to ``006.png`` the six views it learns.

    No camera is stored: those of the six are the model's own (`zero123plus_views`, azimuth 0 at the input). The
    input's elevation is not known, so it is no view here. Source: InstantMesh's src/data/objaverse_zero123plus.py.
    """
    version: Zero123PlusVersion = "1.1" if request.layout.endswith("1.1") else "1.2"
    cameras = zero123plus_views(version).to(torch.float64)
    return request.views(cameras, [request.folder / f"{index:03d}.png" for index in range(1, 7)])


def _photos(request: _Request) -> Views:
    """Photographs with a calibration, see `load_posed_photos`; the world is whatever the capture chose.

    All of these calibrations have OpenCV's axes, in which a mistake in the stored matrices must be undone.
    """
    photos = load_posed_photos(request.folder)
    stored = photos.cameras.poses.double() * torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)
    poses = request.poses(stored, flipped=True)
    return request.views(Cameras(poses, photos.cameras.intrinsics.double()), photos.files)


_READERS: dict[Layout, Callable[[_Request], Views]] = {
    "nerfstudio": _nerfstudio,
    "openlrm": _openlrm,
    "instantmesh": _instantmesh,
    "lgm": _lgm,
    "objaverse": _objaverse,
    "photos": _photos,
    "zero123plus-1.2": _zero123plus,
    "zero123plus-1.1": _zero123plus,
}


# -- what a layout is known by ---------------------------------------------------------------------------------
_HINTS: dict[Layout, str] = {
    "nerfstudio": "transforms.json or transforms_train.json",
    "openlrm": "intrinsics.npy, pose/000.npy, rgba/000.png",
    "instantmesh": "cameras.npz, 000.png",
    "lgm": "pose/000.txt, rgb/000.png",
    "objaverse": "000.npy, 000.png",
    "photos": "a calibration and pictures",
    "zero123plus-1.2": "000.png to 006.png alone",
    "zero123plus-1.1": "000.png to 006.png alone",
}


def _is_zero123plus(folder: Path) -> bool:
    names = {path.name for path in folder.glob("*.png")}
    return names == {f"{index:03d}.png" for index in range(7)} and not any(folder.glob("*.np[yz]"))


_MARKS: dict[Layout, Callable[[Path], bool]] = {
    "nerfstudio": lambda folder: any((folder / name).is_file() for name in _TRANSFORMS),
    "openlrm": lambda folder: (folder / "intrinsics.npy").is_file() and (folder / "pose").is_dir(),
    "instantmesh": lambda folder: (folder / "cameras.npz").is_file(),
    "lgm": lambda folder: any((folder / "pose").glob("*.txt")) and (folder / "rgb").is_dir(),
    "objaverse": lambda folder: any(file.with_suffix(".npy").is_file() for file in folder.glob("[0-9]*.png")),
    "photos": lambda folder: any(any(folder.glob(pattern)) for pattern in CALIBRATIONS),
    "zero123plus-1.2": _is_zero123plus,
    "zero123plus-1.1": _is_zero123plus,
}


# -- shared ----------------------------------------------------------------------------------------------------
def _from_blender(poses: Tensor, fov: float) -> Cameras:
    """Square cameras in the world of Blender's glTF import, in which the front is on -Y as in OpenLRM's."""
    numbers = to_openlrm(Cameras(poses, pinhole(fov, torch.float64)), 1, 1)[1]
    return from_openlrm(poses, numbers)


def _numbered(folder: Path, suffix: str) -> list[str]:
    """The numbers of ``000.npy`` and the like from the first to the last; a gap is a missing file.

    Raises:
        SceneError: if there are none, or one between the first and the last is missing.
    """
    found = sorted(path.stem for path in folder.glob(f"*{suffix}") if re.fullmatch(r"\d+", path.stem))
    if not found:
        raise SceneError(f"The folder {folder} has no numbered files 000{suffix}, 001{suffix} and so on.")
    digits = len(found[0])
    names = [f"{index:0{digits}d}" for index in range(int(found[0]), int(found[-1]) + 1)]
    for name in names:
        if not (folder / f"{name}{suffix}").is_file():
            raise SceneError(f"The file {folder / name}{suffix} is missing, a gap in the numbers; render it again.")
    return names


def _load(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SceneError(f"The file {path} cannot be read ({error}).") from error


def _matrix(path: Path) -> Tensor:
    matrix = _load(path)
    if matrix.shape not in ((3, 4), (4, 4)):
        raise SceneError(f"The file {path} holds an array of shape {list(matrix.shape)}, not a 3 x 4 pose.")
    return torch.from_numpy(matrix.astype(np.float64))[:3]
