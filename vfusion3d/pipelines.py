"""From pictures to 3D assets in a few lines of Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vfusion3d.alpha import over_white, straight_pixels
from vfusion3d.cameras import Cameras
from vfusion3d.errors import UsageError
from vfusion3d.models import ReconstructorConfig, TriplaneReconstructor, Triplanes
from vfusion3d.models.triplanes import TEXTURE_SIZE
from vfusion3d.preprocessing import (
    BORDER,
    ELEVATION,
    EXTENT,
    FOV,
    Window,
    centre_picture,
    source_camera,
    window_focal,
)
from vfusion3d.rendering.isosurface import Progress, SurfaceMesh
from vfusion3d.rendering.maps import Maps, render_maps
from vfusion3d.rendering.turntable import (
    FRAMES,
    TURN_ELEVATION,
    TurnPath,
    contact_sheet,
    render_views,
    turntable_cameras,
)

MESH_RESOLUTION = 128
MESH_FACES = 20000
SHEET_VIEWS = 8


@dataclass(frozen=True)
class PreparedPicture:
    """What a model reads of a picture.

    Args:
        rgba: The recentred object, premultiplied RGBA in [0, 1], ``[4, S, S]``.
        camera: Its camera, shape ``[]``.
        window: The part of the (upright) picture that was cut out, in its pixels.
        background: How the object was told from the background, in words.
        warnings: What looks wrong with the picture or has no effect, one sentence each.
    """

    rgba: Tensor
    camera: Cameras
    window: Window
    background: str
    warnings: tuple[str, ...] = ()

    def image(self) -> Image.Image:
        """The recentred object as a straight-alpha RGBA picture."""
        return Image.fromarray(straight_pixels(self.rgba))


@dataclass(frozen=True)
class Reconstruction:
    """One picture's 3D object.

    Args:
        picture: What the model read.
        triplanes: The object (a batch of one); renders views and answers point queries.
        config: Configuration of the model that made it.
    """

    picture: PreparedPicture
    triplanes: Triplanes
    config: ReconstructorConfig

    def mesh(
        self,
        resolution: int = MESH_RESOLUTION,
        threshold: float | None = None,
        progress: Progress | None = None,
        faces: int | None = None,
    ) -> SurfaceMesh:
        """The surface with vertex colours.

        Args:
            resolution: Lattice points a side.
            threshold: Density of the surface; by default the model's own, or fitted to the renders if it has none
                (`Triplanes.surface_threshold`).
            progress: Called with the lattice chunks done and in all.
            faces: Budget of triangles; all of them by default.

        Raises:
            EmptySurfaceError: if the density nowhere reaches the threshold.
        """
        threshold = self.config.iso_threshold if threshold is None else threshold
        return self.triplanes.mesh(0, resolution, threshold, progress, faces=faces)

    def textured_mesh(
        self,
        resolution: int = MESH_RESOLUTION,
        faces: int = MESH_FACES,
        size: int = TEXTURE_SIZE,
        progress: Progress | None = None,
        threshold: float | None = None,
    ) -> SurfaceMesh:
        """The surface with a texture baked from the field; see `Triplanes.mesh` and `Triplanes.textured`.

        Args:
            resolution: Lattice points a side.
            faces: Budget of triangles.
            size: Texels a side.
            progress: Called with the lattice chunks done and in all, then with the parts of the texture.
            threshold: Density of the surface, as `mesh`.

        Raises:
            EmptySurfaceError: if the density nowhere reaches the threshold.
        """
        return self.triplanes.textured(self.mesh(resolution, threshold, progress, faces), 0, size, progress=progress)

    def turntable(
        self,
        frames: int = FRAMES,
        size: int | None = None,
        elevation: float = TURN_ELEVATION,
        progress: Progress | None = None,
        path: TurnPath = "circle",
    ) -> np.ndarray:
        """Views of a full turn, starting at the front, counter-clockwise seen from above.

        Args:
            frames: Number of views.
            size: Pixels a side; the model's own by default.
            elevation: Degrees above the horizon.
            progress: Called with the frames done and in all.
            path: ``circle`` or ``swing`` (`vfusion3d.rendering.turntable.turntable_cameras`).

        Returns:
            uint8 on white, ``[frames, size, size, 3]``.
        """
        size = self.config.render_size if size is None else size
        return render_views(self.triplanes, turntable_cameras(frames, elevation, path=path), size, progress)

    def maps(
        self,
        frames: int = FRAMES,
        size: int | None = None,
        elevation: float = TURN_ELEVATION,
        progress: Progress | None = None,
        path: TurnPath = "circle",
    ) -> tuple[Maps, Cameras]:
        """Views of a full turn with alpha, depth and normals, and their cameras; arguments as `turntable`."""
        size = self.config.render_size if size is None else size
        cameras = turntable_cameras(frames, elevation, path=path)
        return render_maps(self.triplanes, cameras, size, progress), cameras

    def contact_sheet(self, views: np.ndarray) -> Image.Image:
        """The input and `SHEET_VIEWS` of the views, evenly spread, three in a row.

        Args:
            views: uint8, ``[V, H, W, 3]``, as from `turntable`.
        """
        size = views.shape[1]
        white = (over_white(self.picture.rgba) * 255 + 0.5).to(torch.uint8).permute(1, 2, 0).numpy()
        source = np.asarray(Image.fromarray(white).resize((size, size), Image.Resampling.BICUBIC))
        chosen = np.arange(SHEET_VIEWS) * len(views) // SHEET_VIEWS
        return contact_sheet([source, *views[chosen]], columns=3)


class ImageTo3DPipeline:
    """Pictures in, 3D objects out.

    Args:
        model: The reconstructor.
        fov: Field of view in degrees of a camera in whose frame the object just fits: what is assumed of pictures
            whose field of view is not given.
        extent: World units assumed along the long side of the object's box in the picture.

    Example:
        >>> from PIL import Image, ImageDraw
        >>> from vfusion3d import ImageTo3DPipeline, TriplaneReconstructor
        >>> picture = Image.new("RGB", (96, 96), "white")
        >>> ImageDraw.Draw(picture).ellipse((20, 20, 70, 80), fill="red")
        >>> pipeline = ImageTo3DPipeline(TriplaneReconstructor("tiny"))
        >>> [result] = pipeline(picture)
        >>> result.turntable(frames=2, size=8).shape
        (2, 8, 8, 3)
    """

    def __init__(self, model: TriplaneReconstructor, fov: float = FOV, extent: float = EXTENT) -> None:
        self.model = model.eval()
        self.fov = fov
        self.extent = extent

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path = "nano", device: str = "auto") -> ImageTo3DPipeline:
        """Load a model.

        Args:
            name_or_path: See `TriplaneReconstructor.from_pretrained`.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``, ...

        Raises:
            UsageError: if there is no such device.
            CheckpointError: if the model cannot be loaded.
        """
        return cls(TriplaneReconstructor.from_pretrained(name_or_path, device=choose_device(device)))

    def __call__(
        self,
        pictures: str | Path | Image.Image | Sequence[str | Path | Image.Image],
        elevation: float | Callable[[Image.Image], float] = ELEVATION,
        border: float = BORDER,
        fov: float | None = None,
        background: str = "auto",
        background_weights: str | Path | None = None,
    ) -> list[Reconstruction]:
        """Reconstruct one object per picture, all in one batch.

        Args:
            pictures: A picture or several: files, or PIL pictures of any mode.
            elevation: Degrees above the horizon from which they were taken, or what tells them from an object that was
                cut out (`vfusion3d.preprocessing.ElevationEstimator`).
            border: Free share of the recentred square on each side of the object.
            fov: Field of view in degrees along the longer side of the pictures as they are given, if it is known;
                it fixes how far away the camera stood. Without effect on models whose source frame is ``fixed``.
            background: How the object is cut out, one of `vfusion3d.preprocessing.STRATEGIES`.
            background_weights: The ONNX file of the strategies ``rembg`` and ``birefnet``.

        Raises:
            InputImageError: if a picture cannot be used.
            UsageError: if an argument is out of range.
            CheckpointError: if the background's weights cannot be used.
            MissingExtraError: if the background strategy needs an extra that is not installed.
        """
        if isinstance(pictures, (str, Path, Image.Image)):
            pictures = [pictures]
        return self.reconstruct(
            [self.prepare(picture, elevation, border, fov, background, background_weights) for picture in pictures]
        )

    def prepare(
        self,
        picture: str | Path | Image.Image,
        elevation: float | Callable[[Image.Image], float] = ELEVATION,
        border: float = BORDER,
        fov: float | None = None,
        background: str = "auto",
        background_weights: str | Path | None = None,
    ) -> PreparedPicture:
        """Read, cut out and recentre one picture; see `__call__`."""
        config = self.model.config
        centred = centre_picture(picture, config.image_size, border, background, background_weights)
        if callable(elevation):
            elevation = elevation(centred.image())
        focal = None if fov is None else window_focal(fov, centred.size, centred.window)
        camera = source_camera(elevation, border, self.fov, self.extent, focal)
        warnings = centred.warnings
        if fov is not None and config.source_frame == "fixed":
            warnings += (f"The model '{config.name}' assumes one fixed camera: the field of view has no effect.",)
        return PreparedPicture(centred.rgba, camera, centred.window, centred.background, warnings)

    def reconstruct(self, pictures: Sequence[PreparedPicture]) -> list[Reconstruction]:
        """Run the model on prepared pictures, in one batch."""
        if not pictures:
            return []
        images = torch.stack([picture.rgba for picture in pictures]).to(self.model.device)
        with torch.no_grad():
            triplanes = self.model(images, Cameras.stack([picture.camera for picture in pictures]))
        return [Reconstruction(picture, triplanes[k], self.model.config) for k, picture in enumerate(pictures)]


def choose_device(name: str = "auto") -> torch.device:
    """The device of a name; ``auto`` is a GPU if there is one.

    Raises:
        UsageError: if the name is unknown or this machine has no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except Exception as error:  # torch raises RuntimeError, AssertionError or NotImplementedError by kind of device
        raise UsageError(
            f"Device '{name}' is not available on this machine; use 'auto' or 'cpu', "
            f"or one of cuda, cuda:N and mps where there is one."
        ) from error
    return device
