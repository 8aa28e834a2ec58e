"""Scenes on disk: a folder with ``transforms.json`` (nerfstudio's convention) and RGBA pictures."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vfusion3d.alpha import premultiplied_pixels
from vfusion3d.cameras import Cameras
from vfusion3d.cameras.conventions import from_transforms, to_transforms
from vfusion3d.errors import SceneError
from vfusion3d.outputs import result_folder

TRANSFORMS = "transforms.json"
_OWN_KEY = "vfusion3d"  # nerfstudio ignores keys it does not know
_DEPTH_SCALES = (1e-3, 1e-2, 1e-1)  # world units per step of a 16-bit picture: nerfstudio's default where it fits


@dataclass(frozen=True)
class SceneInfo:
    """What a scene folder says besides pictures and cameras.

    Args:
        source: File name of the mesh or the like that the pictures show.
        licence: Licence of the source, or None if unknown.
        front_azimuth: Azimuth of the object's front in radians, or None if unknown (0 by the world's
            convention, but not every data set faces it).
        centre: The source was normalised by ``x -> (x - centre) * scale``: the centre, in the source's units.
        scale: The scale.
        up: The source file's up axis as it was read, ``y`` or ``z``, or None.
        lighting: How it was lit: ``lambert``, ``unlit``, ``random:SEED`` or ``hdri:FILE``, or None if unknown.
        layout: Name of the camera layout, or None.
        caption: What it shows, or None.
        notes: One sentence each about what of the source was left out.
        renderer: What drew it: ``vtk``, ``blender`` or, from a reconstruction, ``vfusion3d``; or None if unknown.
    """

    source: str | None = None
    licence: str | None = None
    front_azimuth: float | None = None
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float = 1.0
    up: str | None = None
    lighting: str | None = None
    layout: str | None = None
    caption: str | None = None
    notes: tuple[str, ...] = ()
    renderer: str | None = None


@dataclass(frozen=True)
class Scene:
    """A scene folder; the pictures are read on demand.

    Args:
        folder: The folder.
        cameras: Cameras of shape ``[V]``, world frame.
        files: ``V`` picture files, relative to the folder.
        height: Height of the pictures in pixels.
        width: Width of the pictures in pixels.
        info: Source, licence, normalisation and the like.
        depth_files: ``V`` 16-bit depth pictures, or none.
        normal_files: ``V`` pictures of normals, or none.
        depth_scale: World units per step of the depth pictures (nerfstudio's depth_unit_scale_factor).
    """

    folder: Path
    cameras: Cameras
    files: tuple[str, ...]
    height: int
    width: int
    info: SceneInfo = SceneInfo()
    depth_files: tuple[str, ...] = ()
    normal_files: tuple[str, ...] = ()
    depth_scale: float = 1e-3

    def __len__(self) -> int:
        return len(self.files)

    @staticmethod
    def load(folder: str | os.PathLike[str]) -> Scene:
        """Read ``transforms.json``; pictures are checked when they are read.

        Args:
            folder: A scene folder of this library, or a nerfstudio data set that gives its pictures' size and has
                no lens distortion.

        Raises:
            SceneError: naming the file and what is wrong with it.
        """
        folder = Path(folder)
        path = folder / TRANSFORMS
        if not path.is_file():
            raise SceneError(f"The folder {folder} is not a scene: it has no {TRANSFORMS}.")
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            cameras = from_transforms(document)
            files = tuple(str(frame["file_path"]) for frame in document["frames"])
            sizes = {tuple(int({**document, **frame}[key]) for key in ("h", "w")) for frame in document["frames"]}
            info = _info_from(document.get(_OWN_KEY, {}))
            depth_files, normal_files = (
                tuple(str(frame[key]) for frame in document["frames"] if key in frame)
                for key in ("depth_file_path", "normal_file_path")
            )
            depth_scale = float(document.get("depth_unit_scale_factor", 1e-3))
        except SceneError as error:
            raise SceneError(f"The file {path} cannot be used: {error}") from error
        except KeyError as error:
            raise SceneError(f"The file {path} cannot be used: a frame has no {error}; add it.") from error
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise SceneError(f"The file {path} cannot be used: {error}.") from error
        if len(sizes) > 1:
            raise SceneError(f"The pictures of {path} have several sizes; a scene needs one.")
        height, width = sizes.pop()
        for of_frames in (depth_files, normal_files):
            if of_frames and len(of_frames) != len(files):
                raise SceneError(f"The file {path} cannot be used: only some of its frames have depth or normals.")
        return Scene(folder, cameras, files, height, width, info, depth_files, normal_files, depth_scale)

    def image(self, index: int) -> Tensor:
        """Picture ``index``: float32 ``[4, H, W]`` in [0, 1], RGBA with premultiplied alpha.

        Raises:
            SceneError: if the file is missing, broken, or of another size than announced.
        """
        rgba = torch.from_numpy(self.pixels(index)).permute(2, 0, 1).float() / 255.0
        return torch.cat([rgba[:3] * rgba[3:], rgba[3:]])

    def images(self, indices: Sequence[int] | None = None) -> Tensor:
        """Several pictures, all of them by default: ``[N, 4, H, W]`` as `image`."""
        return torch.stack([self.image(i) for i in (range(len(self)) if indices is None else indices)])

    def pixels(self, index: int) -> np.ndarray:
        """Picture ``index`` as it is on disk: uint8 ``[H, W, 4]``, RGBA with straight alpha.

        Raises:
            SceneError: as `image`.
        """
        return self._read(self.files[index], _as("RGBA"))

    def premultiplied(self, index: int) -> np.ndarray:
        """Picture ``index`` with its colours multiplied by alpha and rounded: uint8 ``[H, W, 4]``.

        Raises:
            SceneError: as `image`.
        """
        return self._read(self.files[index], premultiplied_pixels)

    def depth(self, index: int) -> Tensor:
        """Depth of view ``index``: float32 ``[1, H, W]``, distance along the viewing axis in world units at each
        pixel's centre; 0 where nothing is.

        Raises:
            SceneError: if the scene has no depth, or as `image`.
        """
        steps = self._read(self._extra(self.depth_files, "depth", index), np.array)
        return torch.from_numpy(steps.astype(np.float32))[None] * self.depth_scale

    def depths(self, indices: Sequence[int] | None = None) -> Tensor:
        """Several depths, all of them by default: ``[N, 1, H, W]`` as `depth`."""
        return torch.stack([self.depth(i) for i in (range(len(self)) if indices is None else indices)])

    def normal(self, index: int) -> Tensor:
        """Normals of view ``index``: float32 ``[3, H, W]``, unit length, world frame, at each pixel's centre; 0 where
        nothing is.

        Raises:
            SceneError: if the scene has no normals, or as `image`.
        """
        pixels = torch.from_numpy(self._read(self._extra(self.normal_files, "normals", index), _as("RGB"))).permute(
            2, 0, 1
        )
        normals = torch.nn.functional.normalize(pixels.float() / 127.5 - 1.0, dim=0)
        return torch.where((pixels > 0).any(0), normals, 0.0)

    def normals(self, indices: Sequence[int] | None = None) -> Tensor:
        """Several pictures of normals, all of them by default: ``[N, 3, H, W]`` as `normal`."""
        return torch.stack([self.normal(i) for i in (range(len(self)) if indices is None else indices)])

    def _extra(self, files: tuple[str, ...], what: str, index: int) -> str:
        if not files:
            raise SceneError(f"The scene {self.folder} has no {what}; render it with --{what}.")
        return files[index]

    def _read(self, file: str, content: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
        path = self.folder / file
        try:
            with Image.open(path) as picture:
                pixels = content(picture)
        except FileNotFoundError as error:
            raise SceneError(f"The picture {path} that {self.folder / TRANSFORMS} names is missing.") from error
        except (OSError, ValueError, SyntaxError) as error:
            raise SceneError(f"The picture {path} cannot be read ({error}).") from error
        if pixels.shape[:2] != (self.height, self.width):
            raise SceneError(
                f"The picture {path} is {pixels.shape[1]} x {pixels.shape[0]} pixels, but {TRANSFORMS} says "
                f"{self.width} x {self.height}."
            )
        return pixels


def _as(mode: str) -> Callable[[Image.Image], np.ndarray]:
    return lambda picture: np.array(picture.convert(mode))


def write_scene(
    folder: str | os.PathLike[str],
    views: np.ndarray,
    cameras: Cameras,
    info: SceneInfo | None = None,
    overwrite: bool = False,
    depths: np.ndarray | None = None,
    normals: np.ndarray | None = None,
) -> Scene:
    """Write a scene folder, all or nothing.

    Args:
        folder: The folder to make; its parents are made too.
        views: ``[V, H, W, 4]`` uint8 RGBA, straight alpha.
        cameras: Cameras of shape ``[V]``, world frame.
        info: Source, licence and the like.
        overwrite: Replace a scene that exists.
        depths: ``[V, H, W]`` float, distance along the viewing axis in world units, 0 where nothing is; written as
            16-bit PNG files in steps of ``depth_unit_scale_factor``, which ``transforms.json`` tells (1e-3 world
            units, nerfstudio's default, where the scene is nearer than 65.5 units).
        normals: ``[V, H, W, 3]`` float, unit length, world frame, 0 where nothing is; written as 8-bit RGB,
            ``(n + 1) / 2``, black where nothing is.

    Returns:
        The scene.

    Raises:
        OutputError: if the folder exists and may not be replaced, or cannot be written.
        ValueError: if views, cameras, depths and normals do not fit together.
    """
    folder = Path(folder)
    if views.dtype != np.uint8 or views.ndim != 4 or views.shape[-1] != 4:
        raise ValueError(f"Argument `views` must be uint8 [V, H, W, 4], but got {views.dtype} {list(views.shape)}.")
    if tuple(cameras.shape) != (len(views),):
        raise ValueError(f"Argument `cameras` must have shape [{len(views)}], but got {list(cameras.shape)}.")
    height, width = views.shape[1:3]
    pictures = {"images": views}
    document: dict[str, Any] = {}
    if depths is not None:
        scale = next((step for step in _DEPTH_SCALES if depths.max() / step <= 65535), _DEPTH_SCALES[-1])
        pictures["depth"] = np.rint(np.clip(depths / scale, 0, 65535)).astype(np.uint16)
        document["depth_unit_scale_factor"] = scale
    if normals is not None:
        nothing = ~normals.any(-1, keepdims=True)
        pictures["normals"] = np.where(nothing, 0, np.rint((normals + 1) * 127.5)).astype(np.uint8)
    for kind, content in pictures.items():
        if content.shape[:3] != views.shape[:3]:
            raise ValueError(
                f"Argument `{kind}` must begin with the shape {list(views.shape[:3])}, but got {list(content.shape)}."
            )
    files = {kind: tuple(f"{kind}/{index:03d}.png" for index in range(len(views))) for kind in pictures}
    scene = Scene(
        folder,
        cameras,
        files["images"],
        height,
        width,
        info or SceneInfo(),
        files.get("depth", ()),
        files.get("normals", ()),
        document.get("depth_unit_scale_factor", 1e-3),
    )
    document = {**transforms_document(cameras, scene.files, width, height, scene.info), **document}
    for key, extra in (("depth_file_path", scene.depth_files), ("normal_file_path", scene.normal_files)):
        for frame, file in zip(document["frames"], extra, strict=False):
            frame[key] = file
    with result_folder(folder, overwrite, marker=TRANSFORMS) as partial:
        for kind, content in pictures.items():
            (partial / kind).mkdir()
            for file, picture in zip(files[kind], content, strict=True):
                Image.fromarray(picture).save(partial / file)
        (partial / TRANSFORMS).write_text(json.dumps(document), encoding="utf-8")
    return scene


def transforms_document(
    cameras: Cameras, files: Sequence[str], width: int, height: int, info: SceneInfo
) -> dict[str, Any]:
    """What ``transforms.json`` says of pictures, as `Scene.load` reads it.

    Args:
        cameras: Cameras of shape ``[V]``, world frame.
        files: ``V`` picture files, relative to the scene's folder.
        width: Of the pictures in pixels.
        height: Likewise.
        info: Source, licence and the like.
    """
    return {**to_transforms(cameras, files, width, height), _OWN_KEY: asdict(info)}


def remove_partial(parent: str | os.PathLike[str], names: Collection[str]) -> None:
    """Remove what killed processes left behind while they wrote scenes.

    Args:
        parent: The folder the scenes are in.
        names: The scenes' names; nobody else may be writing these now.
    """
    for leftover in Path(parent).glob(".*.partial"):
        # The name `result_folder` gives: a dot, the result's name, a dot, something random, ".partial".
        if leftover.name[1:].rsplit(".", 2)[0] in names:
            shutil.rmtree(leftover, ignore_errors=True)


def _info_from(content: dict[str, Any]) -> SceneInfo:
    """Our own keys, if any; a later version may have written more."""
    known = {field.name: content[field.name] for field in fields(SceneInfo) if field.name in content}
    for key in ("centre", "notes"):
        if key in known:
            known[key] = tuple(known[key])
    return SceneInfo(**known)
