"""A reconstruction is an object: planes that render, answer point queries and export."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from vfusion3d.cameras import Cameras
from vfusion3d.models.field import BatchField, ObjectField, TriplaneField
from vfusion3d.models.plane_lattice import PlaneLattice
from vfusion3d.rendering import OccupancyGrid, RayColours, render_rays
from vfusion3d.rendering.isosurface import SurfaceMesh, extract_isosurface, vertex_colours, vertex_normals
from vfusion3d.rendering.parity import parity_rays, render_rays_parity
from vfusion3d.rendering.silhouettes import fit_threshold
from vfusion3d.rendering.simplification import simplify
from vfusion3d.rendering.textbook import TextbookField
from vfusion3d.rendering.texture import bake
from vfusion3d.rendering.turntable import turntable_cameras
from vfusion3d.rendering.unwrap import UNWRAP_SECONDS, unwrap
from vfusion3d.rendering.volume import default_chunk

Sampler = Literal["exact", "parity"]
TEXTURE_SIZE = 1024
"""Side of a texture in texels."""
FIT_VIEWS, FIT_SIZE = 8, 64
"""Views, and pixels a side, to which the threshold of a surface is fitted."""
MOSTLY_EMPTY = 0.7
"""Largest share of occupied cells with which skipping the others pays."""


class Rendering(NamedTuple):
    """Pictures of B objects from V cameras each."""

    rgb: Tensor
    """``[B, V, 3, H, W]`` in [0, 1], over the background."""
    opacity: Tensor
    """``[B, V, 1, H, W]`` in [0, 1]."""
    depth: Tensor
    """``[B, V, 1, H, W]``: expected distance along the ray in world units, 0 where empty."""


class Triplanes:
    """B reconstructed objects; made by `TriplaneReconstructor`.

    Points and cameras are in the world (+Z up, object in the unit sphere); the model's own frame, in which the
    field fills the cube ``[-1, 1]^3``, stays inside.

    Args:
        field: The point MLP of the model.
        planes: ``[B, 3, C, R, R]``.
        to_model: World to model frame, rigid, ``[B, 4, 4]``.
        source_features: ``[B, P, h, w]`` or None.
        source_cameras: Source cameras in the model frame, ``[B]``; needed with ``source_features``.
        coarse_samples: Default samples per ray in equal intervals.
        fine_samples: Default samples per ray placed by importance.
    """

    def __init__(
        self,
        field: TriplaneField,
        planes: Tensor,
        to_model: Tensor,
        source_features: Tensor | None = None,
        source_cameras: Cameras | None = None,
        coarse_samples: int = 64,
        fine_samples: int = 64,
    ) -> None:
        self.field = field
        self.planes = planes
        self.to_model = to_model
        self.source_features = source_features
        self.source_cameras = source_cameras
        self.coarse_samples = coarse_samples
        self.fine_samples = fine_samples
        self._fields: dict[int, ObjectField] = {}
        self._grids: dict[int, OccupancyGrid] = {}
        self._split: dict[int, tuple[Tensor, ...]] = {}

    def __len__(self) -> int:
        return len(self.planes)

    def __getitem__(self, index: int) -> Triplanes:
        """One object, still with a batch dimension of 1."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"object {index} of {len(self)}")
        keep = slice(index % len(self), index % len(self) + 1)
        return Triplanes(
            self.field,
            self.planes[keep],
            self.to_model[keep],
            None if self.source_features is None else self.source_features[keep],
            None if self.source_cameras is None else self.source_cameras[keep],
            self.coarse_samples,
            self.fine_samples,
        )

    def object_field(self, index: int) -> ObjectField:
        """Radiance field of one object in the model's frame; kept when no gradient is recorded."""
        if index in self._fields and not torch.is_grad_enabled():
            return self._fields[index]
        features, cameras = self.source_features, self.source_cameras
        field = ObjectField(
            self.field,
            self._unbound(self.planes)[index],
            None if features is None else self._unbound(features)[index],
            None if cameras is None else cameras[index],
        )
        if not torch.is_grad_enabled():
            self._fields[index] = field
        return field

    def _unbound(self, batch: Tensor) -> tuple[Tensor, ...]:
        """The objects of a batch, split once where a model made it: each index would cost a batch of zeros backward.

        Planes that are optimised themselves change in place, which views of them do not survive.
        """
        if batch.grad_fn is None or not torch.is_grad_enabled():
            return batch.unbind()
        if id(batch) not in self._split:
            self._split[id(batch)] = batch.unbind()
        return self._split[id(batch)]

    @property
    def _together(self) -> bool:
        """Whether objects are evaluated at once: accelerators want large calls, a processor's caches small ones."""
        return len(self) > 1 and self.planes.device.type != "cpu"

    def _batch_field(self) -> BatchField:
        """The fields of all objects, in the model's frame."""
        return BatchField(self.field, self.planes, self.source_features, self.source_cameras)

    def _owners(self, count: int) -> Tensor:
        """Which object each of ``count`` rays or points per object belongs to, ``[B * count]``."""
        return torch.arange(len(self), device=self.planes.device).repeat_interleave(count)

    def occupancy(self, index: int) -> OccupancyGrid:
        """Where one object may be, in the model's frame; made once.

        Raises:
            RuntimeError: while gradients are recorded, which empty space would not get.
        """
        if torch.is_grad_enabled():
            raise RuntimeError("`skip_empty` renders without gradients only: wrap the call in torch.no_grad().")
        if index not in self._grids:
            self._grids[index] = OccupancyGrid(self.object_field(index), device=self.planes.device)
        return self._grids[index]

    def render(
        self,
        cameras: Cameras,
        height: int,
        width: int,
        background: float = 1.0,
        coarse_samples: int | None = None,
        fine_samples: int | None = None,
        jitter: Tensor | None = None,
        chunk: int | None = None,
        recompute: bool = True,
        skip_empty: bool = False,
        sampler: Sampler = "exact",
        progress: Callable[[int], None] | None = None,
    ) -> Rendering:
        """Render every object from its own cameras.

        Args:
            cameras: World cameras ``[B, V]``.
            height, width: Size in pixels; render a window by giving `Cameras.crop`.
            background: Grey level in [0, 1] behind the object.
            coarse_samples, fine_samples: Samples per ray; the model's by default.
            jitter: Uniform numbers in [0, 1) that shift samples, ``[B, V, height * width, 2]``; None (default)
                gives the same picture every time.
            chunk, recompute: See `vfusion3d.rendering.render_rays`.
            skip_empty: Evaluate only where a coarse occupancy grid found something: several times faster, no
                longer exact (`vfusion3d.rendering.OccupancyGrid`). Without gradients only.
            sampler: ``exact``, or ``parity`` to sample as the published VFusion3D and OpenLRM code does, quirks
                included (`vfusion3d.rendering.parity`): all rays at once, ``jitter`` of shape
                ``[B, V, height * width, coarse + fine]``, one number per sample.
            progress: Called with the number of rays finished.

        Raises:
            ValueError: if ``cameras`` do not fit the number of objects, or ``sampler`` is unknown.
        """
        if sampler not in get_args(Sampler):
            raise ValueError(f"Argument `sampler` must be one of {get_args(Sampler)}, but got {sampler!r}.")
        if len(cameras.shape) != 2 or cameras.shape[0] != len(self):
            raise ValueError(f"Argument `cameras` must have shape [{len(self)}, V], but got {list(cameras.shape)}.")
        coarse = self.coarse_samples if coarse_samples is None else coarse_samples
        fine = self.fine_samples if fine_samples is None else fine_samples
        cameras = cameras.to(self.to_model).transform(self.to_model[:, None])
        shape = (len(self), cameras.shape[1], height, width)
        if sampler == "parity":
            unit = None if jitter is None else jitter.reshape(len(self), -1, coarse + fine)
            origins, directions = parity_rays(cameras, height, width)
            every = render_rays_parity(
                [TextbookField(self[index]) for index in range(len(self))],  # rounds as the published code does
                origins.flatten(1, 3),
                directions.flatten(1, 3),
                coarse,
                fine,
                None if unit is None else unit[..., :coarse],
                None if unit is None else unit[..., coarse:],
                chunk or default_chunk(origins.device, recompute=False),
            )
            return _pictures(every, background, shape)
        origins, directions = cameras.rays(height, width)
        if self._together and not skip_empty:
            every = render_rays(
                self._batch_field(),
                origins.reshape(-1, 3),
                directions.reshape(-1, 3),
                coarse,
                fine,
                None if jitter is None else jitter.reshape(-1, 2),
                chunk,
                recompute,
                progress=progress,
                owners=self._owners(cameras.shape[1] * height * width),
            )
            return _pictures(every, background, shape)
        parts = []
        for index in range(len(self)):
            grid = self.occupancy(index) if skip_empty else None
            if grid is not None and grid.share > MOSTLY_EMPTY:
                grid = None  # nothing to gain
            rays = render_rays(
                self.object_field(index) if grid is None else grid,
                origins[index].reshape(-1, 3),
                directions[index].reshape(-1, 3),
                coarse,
                fine,
                None if jitter is None else jitter[index].reshape(-1, 2),
                chunk,
                recompute,
                None if grid is None else grid.rays_that_meet,
                progress,
            )
            parts.append(rays)
        return _pictures(RayColours(*map(torch.stack, zip(*parts, strict=True))), background, shape)

    def density(self, points: Tensor, chunk: int | None = None) -> Tensor:
        """Density ``[B, N]`` per world unit at world points ``[B, N, 3]``; 0 outside the field."""
        points, chunk = self._model_points(points), chunk or default_chunk(self.planes.device, recompute=False)
        if self._together:
            field = self._batch_field()
            owners = self._owners(points.shape[1])
            parts = zip(points.reshape(-1, 3).split(chunk), owners.split(chunk), strict=True)
            return torch.cat([field.of(own).density(part) for part, own in parts]).view(points.shape[:2])
        return torch.stack(
            [
                torch.cat([self.object_field(i).density(part) for part in points[i].split(chunk)])
                for i in range(len(self))
            ]
        )

    def query(self, points: Tensor, chunk: int | None = None) -> tuple[Tensor, Tensor]:
        """Density ``[B, N]`` and colour ``[B, N, 3]`` in [-0.001, 1.001] at world points ``[B, N, 3]``."""
        points, chunk = self._model_points(points), chunk or default_chunk(self.planes.device, recompute=False)
        density, colour = [], []
        for i in range(len(self)):
            parts = [self.object_field(i).density_and_colour(part) for part in points[i].split(chunk)]
            density.append(torch.cat([d for d, _ in parts]))
            colour.append(torch.cat([c for _, c in parts]))
        return torch.stack(density), torch.stack(colour)

    @torch.no_grad()
    def surface_threshold(self, index: int = 0) -> float:
        """The density at which a mesh of one object covers what its renders cover.

        See `vfusion3d.rendering.silhouettes.fit_threshold`; the views are those of a turntable that swings.

        Raises:
            EmptySurfaceError: if the renders are nowhere more opaque than a half.
        """
        cameras = turntable_cameras(FIT_VIEWS, path="swing").to(self.to_model).transform(self.to_model[index])
        origins, directions = cameras.rays(FIT_SIZE, FIT_SIZE)
        grid = self.occupancy(index)
        return fit_threshold(grid, origins.reshape(-1, 3), directions.reshape(-1, 3), cull=grid.rays_that_meet)

    def mesh(
        self,
        index: int = 0,
        resolution: int = 128,
        threshold: float | None = None,
        progress: Callable[[int, int], None] | None = None,
        coarse_to_fine: bool = False,
        faces: int | None = None,
    ) -> SurfaceMesh:
        """The surface of one object with vertex colours, in the world.

        Args:
            index: Which object.
            resolution: Lattice points a side.
            threshold: Density of the surface; `surface_threshold` by default.
            progress: Called with the lattice parts done and in all.
            coarse_to_fine: Look for the surface on every fourth lattice point first: several times faster, and the
                same but for separate pieces thinner than that.
            faces: Budget of triangles (`vfusion3d.rendering.simplification.simplify`); all of them by default.

        Raises:
            EmptySurfaceError: if the density nowhere reaches the threshold.
        """
        threshold = self.surface_threshold(index) if threshold is None else threshold
        with torch.no_grad():
            field = self.object_field(index)
            # In the model's frame, whose cube the field fills and whose axes are those of the planes.
            surface = extract_isosurface(
                field.density,
                threshold,
                resolution,
                device=self.planes.device,
                progress=progress,
                lattice=PlaneLattice(field, resolution) if field.planar else None,
                coarse_to_fine=coarse_to_fine,
            )
        vertices, triangles, normals = surface.vertices, surface.faces, surface.normals
        if faces is not None:
            vertices, triangles = simplify(vertices, triangles, faces)
            normals = vertex_normals(vertices, triangles)
        colours = vertex_colours(
            lambda points: field.density_and_colour(points)[1], vertices, device=self.planes.device
        )
        motion = self.to_model[index].cpu().numpy()
        back, shift = motion[:3, :3], motion[:3, 3]  # rows times a rotation are turned by its inverse
        return SurfaceMesh((vertices - shift) @ back, triangles, colours, normals @ back)

    def textured(
        self,
        mesh: SurfaceMesh,
        index: int = 0,
        size: int = TEXTURE_SIZE,
        seconds: float = UNWRAP_SECONDS,
        progress: Callable[[int, int], None] | None = None,
    ) -> SurfaceMesh:
        """A mesh of one object with a texture baked from its field (`vfusion3d.rendering.texture.bake`).

        Args:
            mesh: In the world, as from `mesh`; one of a few ten thousand faces is unwrapped in seconds.
            index: Which object.
            size: Side of the texture in texels.
            seconds: Time that unwrapping may take before it falls back on a square for every two faces.
            progress: Called with the parts of the texture done and in all.
        """
        atlas = unwrap(mesh.vertices, mesh.faces, seconds)
        vertices, normals = mesh.vertices[atlas.original], mesh.normals[atlas.original]
        scene = self[index]

        def query(points: Tensor) -> tuple[Tensor, Tensor]:
            density, colour = scene.query(points[None])
            return density[0], colour[0]

        texture = bake(
            query, vertices, normals, atlas.faces, atlas.uv, size, device=self.planes.device, progress=progress
        )
        colours = mesh.colours[atlas.original]
        return SurfaceMesh(vertices, atlas.faces, colours, normals, atlas.uv, texture, atlas.method)

    def _model_points(self, points: Tensor) -> Tensor:
        if points.dim() != 3 or points.shape[0] != len(self) or points.shape[-1] != 3:
            raise ValueError(f"Argument `points` must have shape [{len(self)}, N, 3], but got {list(points.shape)}.")
        return (
            torch.stack([(points.to(self.to_model) * self.to_model[:, k, None, :3]).sum(-1) for k in range(3)], -1)
            + self.to_model[:, None, :3, 3]
        )


def _pictures(rays: RayColours, background: float, shape: tuple[int, int, int, int]) -> Rendering:
    """Rays of B objects, ``[B, V * H * W]``, as pictures of ``shape``, over a grey background."""
    rgb = rays.rgb + (1 - rays.opacity)[..., None] * background
    opacity, depth = rays.opacity.view(shape), rays.depth.view(shape)
    return Rendering(rgb.view(*shape, 3).permute(0, 1, 4, 2, 3), opacity[:, :, None], depth[:, :, None])
