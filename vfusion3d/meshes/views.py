"""Mesh files -> scene folders: the camera layouts, and the job a rendering worker does."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from vfusion3d.cameras import Cameras, orbit, random_sphere
from vfusion3d.data.scenes import SceneInfo, write_scene
from vfusion3d.errors import UsageError
from vfusion3d.meshes.blender import BlenderSettings, render_with_blender
from vfusion3d.meshes.lighting import Lighting, random_lights, read_environment
from vfusion3d.meshes.normalisation import normalise
from vfusion3d.meshes.readers import UpAxis, read_mesh
from vfusion3d.meshes.vtk_renderer import VtkRenderer

Layout = Literal["orbit", "random", "benchmark"]
LightingName = Literal["lambert", "unlit", "random", "hdri"]


@dataclass(frozen=True)
class ViewSettings:
    """Which cameras look at a mesh.

    Args:
        layout: ``orbit``: a circle at one elevation, drawn per mesh from [0, 45] degrees unless given (paper,
            data section). ``random``: directions on a band of the sphere. ``benchmark``: a circle at 20 degrees
            (the paper's protocol on Google Scanned Objects).
        views: Number of cameras.
        resolution: Height and width of the pictures in pixels.
        elevation: Elevation of all cameras in degrees, or None for the layout's own.
        fov: Field of view in degrees, or None for the layout's own: 40, or drawn from [30, 60] by ``random``.
        offset_noise: Largest shift of a camera's centre per axis in world units (``orbit`` and ``benchmark``).
        seed: Together with a mesh's name it determines every draw.

    Raises:
        UsageError: naming the argument.
    """

    layout: Layout = "orbit"
    views: int = 16
    resolution: int = 256
    elevation: float | None = None
    fov: float | None = None
    offset_noise: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.layout not in get_args(Layout):
            raise UsageError(f"Argument `layout` must be one of {get_args(Layout)}, but got {self.layout!r}.")
        if self.views < 1:
            raise UsageError(f"Argument `views` must be at least 1, but got {self.views}.")
        if not 8 <= self.resolution <= 2048:
            raise UsageError(f"Argument `resolution` must be between 8 and 2048 pixels, but got {self.resolution}.")
        if self.elevation is not None and not -90 <= self.elevation <= 90:
            raise UsageError(f"Argument `elevation` must be between -90 and 90 degrees, but got {self.elevation}.")
        if self.fov is not None and not 1 <= self.fov <= 120:
            raise UsageError(f"Argument `fov` must be between 1 and 120 degrees, but got {self.fov}.")
        if self.offset_noise < 0 or (self.offset_noise and self.layout == "random"):
            raise UsageError(
                "Argument `offset_noise` must be at least 0, and 0 with the layout 'random', "
                f"but got {self.offset_noise}."
            )

    def draw(self, name: str) -> int:
        """The 63-bit seed of everything drawn for the mesh of a name."""
        digest = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
        return int.from_bytes(digest[:8], "little") >> 1

    def cameras(self, name: str) -> Cameras:
        """Cameras of shape ``[views]`` for the mesh of a name."""
        generator = torch.Generator().manual_seed(self.draw(name))
        if self.layout == "random":
            ranges = {}
            if self.elevation is not None:
                ranges["elevation"] = (math.radians(self.elevation),) * 2
            if self.fov is not None:
                ranges["fov"] = (self.fov, self.fov)
            return random_sphere(self.views, generator=generator, **ranges)
        if self.elevation is not None:
            elevation = math.radians(self.elevation)
        elif self.layout == "benchmark":
            elevation = math.radians(20.0)
        else:
            elevation = float(torch.rand((), generator=generator)) * math.pi / 4
        fov = 40.0 if self.fov is None else self.fov
        return orbit(self.views, elevation, fov=fov, offset_noise=self.offset_noise, generator=generator)


@dataclass(frozen=True)
class RenderJob:
    """One mesh to render.

    Args:
        mesh: The file.
        folder: The scene folder to write.
        settings: Cameras and resolution.
        up: The file's up axis (see `read_mesh`).
        lighting: ``lambert``: three white lights; ``unlit``: base colours; ``random``: lights drawn per mesh by
            `random_lights`; ``hdri``: by the picture ``hdri``.
        overwrite: Replace a scene that exists.
        hdri: An equirectangular ``.hdr`` picture (see `read_environment`).
        depth: Write depth too.
        normals: Write normals too.
        caption: What the mesh shows; by default what the file itself says.
        blender: Draw with Blender instead of VTK.

    Raises:
        UsageError: naming the argument.
    """

    mesh: Path
    folder: Path
    settings: ViewSettings
    up: UpAxis = "y"
    lighting: LightingName = "lambert"
    overwrite: bool = False
    hdri: Path | None = None
    depth: bool = False
    normals: bool = False
    caption: str | None = None
    blender: BlenderSettings | None = None

    def __post_init__(self) -> None:
        if self.lighting not in get_args(LightingName):
            raise UsageError(f"Argument `lighting` must be one of {get_args(LightingName)}, but got {self.lighting!r}.")
        if (self.lighting == "hdri") != (self.hdri is not None):
            raise UsageError(
                "Arguments `lighting` and `hdri` do not fit together: 'hdri' needs a picture, the others none."
            )

    def __str__(self) -> str:
        return str(self.mesh)

    @property
    def lighting_label(self) -> str:
        """What the scene says about its light."""
        if self.lighting == "random":
            return f"random:{self.settings.seed}"
        return self.lighting if self.hdri is None else f"hdri:{self.hdri.name}"

    def light(self) -> Lighting:
        """The light on this mesh.

        Raises:
            UsageError: if the environment picture cannot be used.
        """
        if self.lighting == "random":
            return random_lights(self.settings.seed, np.random.default_rng(self.settings.draw(self.folder.name)))
        if self.lighting == "hdri":
            assert self.hdri is not None
            return read_environment(self.hdri)
        return self.lighting


_renderer: VtkRenderer | None = None


def _vtk_renderer(lighting: Lighting) -> VtkRenderer:
    """This process's renderer: one window for all meshes."""
    global _renderer
    if _renderer is None:
        _renderer = VtkRenderer(lighting)
    _renderer.light(lighting)
    return _renderer


def render_scene(job: RenderJob) -> tuple[str, ...]:
    """Render a mesh into its scene folder and return the notes about it; the window is kept for the next mesh.

    Raises:
        MeshError: if the mesh cannot be used.
        UsageError: if the environment picture cannot be used.
        OutputError: if the scene cannot be written.
        MissingExtraError: if VTK or Blender cannot draw here.
    """
    light = job.light()
    mesh, normalisation = normalise(read_mesh(job.mesh, job.up))
    cameras = job.settings.cameras(job.folder.name)
    size = job.settings.resolution
    if job.blender is not None:
        views = render_with_blender(mesh, cameras, size, size, light, job.blender, job.folder)
    else:
        views = _vtk_renderer(light).render(mesh, cameras, size, size)
    depths = normals = None
    if job.depth or job.normals:
        geometry = _vtk_renderer(light).render_geometry(mesh, cameras, size, size)
        depths, normals = geometry.depths if job.depth else None, geometry.normals if job.normals else None
    info = SceneInfo(
        source=job.mesh.name,
        licence=mesh.licence,
        centre=normalisation.centre,
        scale=normalisation.scale,
        up=job.up,
        lighting=job.lighting_label,
        layout=job.settings.layout,
        caption=job.caption or mesh.caption,
        notes=mesh.notes,
        renderer="vtk" if job.blender is None else "blender",
    )
    write_scene(job.folder, views, cameras, info, overwrite=job.overwrite, depths=depths, normals=normals)
    return mesh.notes


def render_scene_in_worker(job: RenderJob) -> tuple[str, ...]:
    """`render_scene` for a worker process: one thread, for there is one worker per core."""
    torch.set_num_threads(1)
    os.environ.setdefault("LP_NUM_THREADS", "1")  # Mesa's software rasteriser
    return render_scene(job)
