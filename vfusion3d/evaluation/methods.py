"""What can be scored: checkpoints, folders of meshes, pictures or videos, and any Python function."""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vfusion3d.alpha import pixels_over_white, straight_pixels
from vfusion3d.cameras import Cameras
from vfusion3d.errors import InputImageError, MeshError, UsageError
from vfusion3d.evaluation.memory import is_out_of_memory
from vfusion3d.meshes import Mesh, VtkRenderer, read_mesh, write_mesh
from vfusion3d.meshes.files import files_of
from vfusion3d.meshes.normalisation import normalise
from vfusion3d.meshes.readers import MESH_SUFFIXES, UpAxis
from vfusion3d.models import TriplaneReconstructor, Triplanes
from vfusion3d.rendering.isosurface import SurfaceMesh
from vfusion3d.training.patches import recentre_inputs

Scale = Literal["raw", "fit"]
VIDEO_SUFFIXES = (".mp4", ".webm", ".gif")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_NEAR_ONE = (0.2, 2.0)  # radius of a mesh in world units; the objects' is 1


@dataclass(frozen=True)
class EvaluationItem:
    """What a method gets of an object.

    Args:
        name: The object.
        image: The input view, premultiplied RGBA in [0, 1], ``[4, H, W]``.
        camera: Its camera, shape ``[]``.
        cameras: Of the scored views, ``[V]``.
        views: Their numbers in the protocol.
        size: Side of the pictures in pixels.
        border: Free share of the recentred input.
    """

    name: str
    image: Tensor
    camera: Cameras
    cameras: Cameras
    views: tuple[int, ...]
    size: int
    border: float


class Method(Protocol):
    """Anything that predicts views."""

    @property
    def description(self) -> str:
        """What is scored, in a few words; part of the results."""

    @property
    def identity(self) -> str:
        """Another one where what is scored has changed, so that a run that was cut off does not go on with it."""

    def predict(self, item: EvaluationItem) -> Tensor:
        """The scored views of an object: on white, in [0, 1], ``[V, 3, H, W]``.

        Raises:
            VFusion3DError: if it has none; the object then counts as failed.
        """


class Reconstructor:
    """One of our checkpoints, or a released one of VFusion3D or OpenLRM.

    Args:
        model: Anything `TriplaneReconstructor.from_pretrained` takes.
        device: Where it runs.
        skip_empty: Render around empty space (60 dB and more from exact).
        render: ``volume``, or ``mesh``: what an exported mesh with vertex colours looks like instead, unlit. The two
            are different numbers of one reconstruction.
    """

    def __init__(
        self,
        model: str | Path,
        device: str = "cpu",
        skip_empty: bool = True,
        render: Literal["volume", "mesh"] = "volume",
    ) -> None:
        if render not in ("volume", "mesh"):
            raise UsageError(f"Argument `render` must be 'volume' or 'mesh', but got {render!r}.")
        self.model = TriplaneReconstructor.from_pretrained(model, device=device).eval()
        self.name, self.skip_empty, self.render = str(model), skip_empty, render

    @property
    def description(self) -> str:
        """The checkpoint, and how it is rendered."""
        return f"checkpoint {self.name}, {self.render} renders{'' if self.skip_empty else ', exact'}"

    @property
    def identity(self) -> str:
        """SHA-256 over the weights."""
        return weights_identity(self.model)

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.model.device

    @torch.no_grad()
    def predict(self, item: EvaluationItem) -> Tensor:
        """Reconstruct from the recentred input and render."""
        if self.render == "mesh":
            with tempfile.TemporaryDirectory() as folder:
                write_mesh(self.surface(item), Path(folder) / f"{item.name}.glb")
                return MeshFolder(folder).predict(item)
        cameras = item.cameras.to(self.model.device).unsqueeze(0)
        rendered = self._reconstruct(item).render(cameras, item.size, item.size, skip_empty=self.skip_empty)
        return rendered.rgb[0].float().clamp(0, 1).cpu()

    def surface(self, item: EvaluationItem) -> SurfaceMesh:
        """The exported mesh, in the world.

        Raises:
            EmptySurfaceError: if there is none.
        """
        return self._reconstruct(item).mesh(0, threshold=self.model.config.iso_threshold)

    @torch.no_grad()
    def _reconstruct(self, item: EvaluationItem) -> Triplanes:
        device = self.model.device
        images, camera = recentre_inputs(
            item.image[None].to(device),
            item.camera.to(device).reshape(1),
            self.model.config.image_size,
            torch.full((1,), item.border, device=device),
        )
        return self.model(images, camera)  # type: ignore[no-any-return]


class FolderMethod:
    """Predictions that were made elsewhere, in a folder.

    Args:
        folder: The folder.
        names: Objects of which it has something.
    """

    def __init__(self, folder: Path, names: Collection[str]) -> None:
        self.folder, self.names = folder, names

    def check_names(self, objects: Collection[str]) -> None:
        """See that the folder is one of these objects; those that are missing are told, and count as failed.

        Raises:
            UsageError: if it has none of them.
        """
        there = self.names
        missing = [name for name in objects if name not in there]
        if len(missing) == len(objects):
            others = f"but {', '.join(sorted(there)[:3])}{' and more' * (len(there) > 3)}" if there else "nor any other"
            raise UsageError(
                f"The folder {self.folder} has none of the {len(objects)} objects, {missing[0]} for one, {others}; "
                "name files and folders as the true meshes."
            )
        if missing:
            print(
                f"The folder {self.folder} lacks {len(missing)} of the {len(objects)} objects, {missing[0]} for one: "
                "they count as failed.",
                file=sys.stderr,
            )


class MeshFolder(FolderMethod):
    """Meshes named as the objects, drawn from the protocol's cameras.

    Args:
        folder: The folder.
        up: Up axis of the files: ``y`` (front +z, glTF's) or ``z`` (front +x).
        scale: ``raw``: the files' units are the world's, in which objects fit the unit sphere; ``fit``: each mesh is
            centred and scaled into it, as the true ones were.
        lighting: ``unlit`` where colours have their light in them, as reconstructions do; ``lambert`` for true meshes.
    """

    def __init__(
        self, folder: str | os.PathLike[str], up: UpAxis = "y", scale: Scale = "raw", lighting: Any = "unlit"
    ) -> None:
        if scale not in get_args(Scale):
            raise UsageError(f"Argument `scale` must be one of {get_args(Scale)}, but got {scale!r}.")
        self.up, self.scale, self.lighting = up, scale, lighting
        self.files = files_by_stem(Path(folder), MESH_SUFFIXES, "meshes", "mesh")
        super().__init__(Path(folder), self.files)
        self._renderer: VtkRenderer | None = None

    @property
    def description(self) -> str:
        """The folder, and how its meshes are drawn."""
        return f"meshes of {self.folder}, scale {self.scale}, {self.lighting}"

    @property
    def identity(self) -> str:
        """Of the files' names, sizes and times."""
        return files_identity([file for path in self.files.values() for file in files_of(path)], self.up)

    def predict(self, item: EvaluationItem) -> Tensor:
        """Draw the object's mesh.

        Raises:
            MeshError: if there is none, or it cannot be used.
        """
        mesh = self.surface(item)
        if self._renderer is None:
            self._renderer = VtkRenderer(self.lighting)
        views = self._renderer.render(mesh, item.cameras, item.size, item.size)
        return _on_white(views, item, str(self.folder))

    def surface(self, item: EvaluationItem) -> Mesh:
        """The object's mesh, in the world.

        Raises:
            MeshError: if there is none, or it cannot be used.
        """
        path = _of(self.files, item.name, self.folder, "mesh")
        mesh = read_mesh(path, self.up)
        if self.scale == "fit":
            return normalise(mesh)[0]
        radius = float(np.linalg.norm(mesh.vertices, axis=-1).max())
        if not _NEAR_ONE[0] <= radius <= _NEAR_ONE[1]:
            raise MeshError(
                f"The mesh {path} reaches {radius:.3g} world units from the origin, but the objects fit the unit "
                "sphere: scale it, or use --predicted-scale fit."
            )
        return mesh


class ImageFolder(FolderMethod):
    """Folders named as the objects, each with one picture per view of the protocol, in order.

    A folder holds all views of the protocol, the input's too, or those that are scored, named by their numbers from 0
    (which are not taken for such where any object has pictures numbered from 1 to the last).

    Args:
        folder: The folder of folders.
        views: Views of the protocol, the input among them.
    """

    def __init__(self, folder: str | os.PathLike[str], views: int) -> None:
        self.views, place = views, Path(folder)
        if not place.is_dir():
            raise UsageError(f"The folder {place} does not exist; name a folder of folders of pictures.")
        super().__init__(place, [path.name for path in place.iterdir() if path.is_dir()])
        # Where pictures are numbered from 1, no number says that the input was left out.
        from_one = set(range(1, views + 1))
        self._from_one = any(_numbers(self._pictures(name)).keys() == from_one for name in self.names)

    def _pictures(self, name: str) -> list[Path]:
        inside = self.folder / name / "images"  # of a scene folder
        return pictures_in(inside if inside.is_dir() else self.folder / name)

    @property
    def description(self) -> str:
        """The folder."""
        return f"pictures of {self.folder}"

    @property
    def identity(self) -> str:
        """Of the files' names, sizes and times."""
        return files_identity([path for path in self.folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES])

    def predict(self, item: EvaluationItem) -> Tensor:
        """Read the object's pictures.

        Raises:
            InputImageError: if there are none, too few or too many, or of another size.
        """
        files, place = self._pictures(item.name), str(self.folder / item.name)
        if not files:
            raise InputImageError(f"There are no pictures of object {item.name} in {place}; add them.")
        numbers = _numbers(files)
        if set(item.views) == numbers.keys() and not self._from_one:  # the input, which is not scored, was left out
            chosen = [numbers[view] for view in item.views]
        else:
            chosen = _chosen(files, item, self.views, place)
        return _on_white([read_pixels(path) for path in chosen], item, place)


class VideoFolder(FolderMethod):
    """Videos named as the objects, with one frame per view of the protocol, in order.

    Args:
        folder: The folder; also folders named as the objects with ``turntable.mp4``, as `vfusion3d reconstruct` leaves.
        views: Views of the protocol, the input among them.
    """

    def __init__(self, folder: str | os.PathLike[str], views: int) -> None:
        self.views = views
        self.files = files_by_stem(Path(folder), VIDEO_SUFFIXES, "videos", "turntable")
        super().__init__(Path(folder), self.files)

    @property
    def description(self) -> str:
        """The folder."""
        return f"videos of {self.folder}"

    @property
    def identity(self) -> str:
        """Of the files' names, sizes and times."""
        return files_identity([*self.files.values()])

    def predict(self, item: EvaluationItem) -> Tensor:
        """Read the object's video.

        Raises:
            InputImageError: if there is none, or it has another number of frames or another size.
        """
        path = _of(self.files, item.name, self.folder, "video")
        frames = read_frames(path)
        return _on_white(_chosen(frames, item, self.views, str(path)), item, str(path))


class EntryPoint:
    """A Python function ``image -> renderable``.

    The function gets the input as a straight-alpha RGBA `PIL.Image` and returns an object with
    ``render(cameras, height, width)``: `Cameras` of shape ``[V]`` in, pictures on white ``[V, 3, H, W]`` in [0, 1] out,
    or a tuple that begins with them, in our world: the input was taken at azimuth 0.

    Args:
        name: ``module:function``; the working folder is searched too.
    """

    def __init__(self, name: str) -> None:
        module, colon, function = name.partition(":")
        if not colon:
            raise UsageError(f"Entry point {name!r} must be module:function.")
        if "" not in sys.path:
            sys.path.insert(0, "")
        try:
            self.function: Callable[[Image.Image], Any] = getattr(importlib.import_module(module), function)
        except Exception as error:  # someone else's code
            raise UsageError(f"Entry point {name!r} cannot be imported ({type(error).__name__}: {error}).") from error
        self.name = name

    @property
    def description(self) -> str:
        """The function."""
        return f"function {self.name}"

    @property
    def identity(self) -> str:
        """Of the function's name and its module's source; what that imports is not known."""
        file = getattr(sys.modules[self.name.partition(":")[0]], "__file__", None)
        source = b"" if file is None else Path(file).read_bytes()
        return hashlib.sha256(self.name.encode() + source).hexdigest()

    def predict(self, item: EvaluationItem) -> Tensor:
        """Call the function and render what it returns.

        Raises:
            UsageError: if it fails, whatever it raised.
        """
        try:
            found = self.function(Image.fromarray(straight_pixels(item.image)))
            rendered = found.render(item.cameras, item.size, item.size)
            rgb = rendered[0] if isinstance(rendered, (tuple, list)) else rendered
            return torch.as_tensor(rgb).detach().float().cpu()
        except (Exception, SystemExit) as error:  # someone else's code
            if is_out_of_memory(error):
                raise
            raise UsageError(f"{self.name} failed on {item.name} ({type(error).__name__}: {error}).") from error


def weights_identity(model: torch.nn.Module) -> str:
    """SHA-256 over a model's weights and their names."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode() + value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def files_identity(files: Sequence[Path], *more: str) -> str:
    """SHA-256 over the files' names, sizes and times, and more."""
    facts = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(files)]
    return hashlib.sha256(repr((facts, more)).encode()).hexdigest()


def read_frames(path: Path) -> list[np.ndarray]:
    """All frames of a video, uint8 ``[H, W, 3]`` each.

    Raises:
        InputImageError: if it cannot be read.
    """
    import imageio.v3 as iio

    try:
        return [frame[..., :3] for frame in iio.imiter(path)]
    except Exception as error:  # imageio's plugins raise what they like
        said = next(iter(str(error).splitlines()), "").rstrip(":. ")  # and not all that ffmpeg says
        raise InputImageError(f"The video {path} cannot be read ({type(error).__name__}: {said}).") from error


def _numbers(files: Sequence[Path]) -> dict[int, Path]:
    """Pictures by the numbers they are named by; -1 for another name."""
    return {int(path.stem) if path.stem.isdecimal() else -1: path for path in files}


def _chosen(items: Sequence[Any], item: EvaluationItem, views: int, place: str) -> list[Any]:
    """Those of the scored views.

    Raises:
        InputImageError: if there are not as many as the protocol has views.
    """
    if len(items) != views:
        raise InputImageError(f"{place} has {len(items)} views, but the protocol has {views}; render all of them.")
    return [items[view] for view in item.views]


def _on_white(pictures: Sequence[np.ndarray] | np.ndarray, item: EvaluationItem, place: str) -> Tensor:
    sizes = {picture.shape[:2] for picture in pictures}
    if sizes != {(item.size, item.size)}:
        height, width = next(iter(sizes - {(item.size, item.size)}))
        raise InputImageError(
            f"{place} has pictures of {width} x {height} pixels, but the protocol's are {item.size} x {item.size}; "
            "render them in that size, since a resized picture scores otherwise."
        )
    flat = np.stack([pixels_over_white(picture) for picture in pictures])
    return torch.from_numpy(flat).permute(0, 3, 1, 2) / 255


def read_pixels(path: Path) -> np.ndarray:
    """A picture, uint8 ``[H, W, 4]`` where it has transparency, else ``[H, W, 3]``.

    Raises:
        InputImageError: if it cannot be read.
    """
    try:
        with Image.open(path) as picture:
            return np.array(picture.convert("RGBA" if picture.has_transparency_data else "RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise InputImageError(f"The picture {path} cannot be read ({error}).") from error


def pictures_in(folder: Path) -> list[Path]:
    """The picture files of a folder, 2 before 10; none if there is no such folder."""

    def order(path: Path) -> list[Any]:
        return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]

    return sorted((path for path in folder.glob("*") if path.suffix.lower() in PICTURE_SUFFIXES), key=order)


def files_by_stem(folder: Path, suffixes: Sequence[str], kind: str, inside: str) -> dict[str, Path]:
    """As `find_by_stem`.

    Raises:
        UsageError: also if there is no such file.
    """
    found = find_by_stem(folder, suffixes, kind, inside)
    if not found:
        raise UsageError(f"The folder {folder} has no {kind} ({', '.join(suffixes)}); name another.")
    return found


def find_by_stem(folder: Path, suffixes: Sequence[str], kind: str, inside: str) -> dict[str, Path]:
    """Files by their stems, and files ``NAME/INSIDE.*`` by their folder's name.

    Raises:
        UsageError: if there is no such folder, or two files of one object.
    """
    if not folder.is_dir():
        raise UsageError(f"The folder {folder} does not exist; name a folder of {kind}.")
    found: dict[str, Path] = {}
    named = [(path.stem, path) for path in sorted(folder.iterdir())]
    for name, path in [*named, *((path.parent.name, path) for path in sorted(folder.glob(f"*/{inside}.*")))]:
        if path.suffix.lower() in suffixes and path.is_file():
            if name in found:
                raise UsageError(f"Both {found[name]} and {path} are {kind} of object {name}; remove one of them.")
            found[name] = path
    return found


def _of(files: dict[str, Path], name: str, folder: Path, kind: str) -> Path:
    if name not in files:
        error = MeshError if kind == "mesh" else InputImageError
        raise error(f"There is no {kind} of object {name} in {folder}; add it.")
    return files[name]
