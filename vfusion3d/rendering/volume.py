"""The shipped volume renderer: exact, deterministic, chunked, with checkpointed gradients.

Each shortcut leaves the integral as the textbook twin (`vfusion3d.rendering.textbook`) has it: rays that
miss the box are skipped, chunks keep the working set small, the coarse pass that only places samples keeps
no graph, and with gradients each chunk is recomputed in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vfusion3d.rendering.quadrature import (
    box_interval,
    coarse_depths,
    compositing_weights,
    importance_depths,
    interval_edges,
)

CHUNK, CPU_CHUNK = 1 << 20, 1 << 14
"""Points evaluated at once while gradients are recorded: on an accelerator, on a processor."""
CHUNK_WITHOUT_GRADIENTS, CPU_CHUNK_WITHOUT_GRADIENTS = 1 << 20, 1 << 17
"""The same while none are recorded."""
CHUNK_OF_KEPT = 1 << 22
"""On an accelerator where nothing is recomputed, so that smaller chunks would save no memory."""


def default_chunk(device: torch.device, recompute: bool = True) -> int:
    """Points to evaluate at once: as many as a processor's caches hold, and enough to keep an accelerator busy."""
    if device.type == "cpu":
        return CPU_CHUNK if torch.is_grad_enabled() else CPU_CHUNK_WITHOUT_GRADIENTS
    if not torch.is_grad_enabled():
        return CHUNK_WITHOUT_GRADIENTS
    return CHUNK if recompute else CHUNK_OF_KEPT


class RayColours(NamedTuple):
    """What R rays see."""

    rgb: Tensor
    """Premultiplied colour ``[R, 3]`` in [0, 1] (a black background; add ``(1 - opacity) * background``)."""
    opacity: Tensor
    """Accumulated opacity ``[R]`` in [0, 1]."""
    depth: Tensor
    """Expected distance along the ray ``[R]``, world units; 0 where the ray sees nothing."""


class Field(Protocol):
    """A radiance field of one object in the cube ``[-1, 1]^3``."""

    def density(self, points: Tensor) -> Tensor:
        """Density ``[N]`` per world unit at points ``[N, 3]``."""

    def density_and_colour(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Density ``[N]`` and colour ``[N, 3]`` in [0, 1] at points ``[N, 3]``."""


class SeveralFields(Protocol):
    """Radiance fields of several objects."""

    def of(self, owners: Tensor) -> Field:
        """The field of points on R rays, as many on each, of which ``owners`` ``[R]`` tells the objects."""


def render_rays(
    field: Field | SeveralFields,
    origins: Tensor,
    directions: Tensor,
    coarse: int = 64,
    fine: int = 64,
    jitter: Tensor | None = None,
    chunk: int | None = None,
    recompute: bool = True,
    cull: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] | None = None,
    progress: Callable[[int], None] | None = None,
    owners: Tensor | None = None,
) -> RayColours:
    """Render rays of one object, or of several.

    Args:
        field: The object; with ``owners`` the objects.
        origins: ``[R, 3]``, world units, in the field's frame.
        directions: Unit vectors ``[R, 3]``.
        coarse: Samples in equal intervals of a ray's path through the box.
        fine: Samples placed where the coarse pass saw something; 0 for none.
        jitter: Uniform numbers in [0, 1), ``[R, 2]``, that shift all samples of a ray inside their intervals
            (training); None gives the midpoints, and the same picture every time.
        chunk: Points evaluated at once; `default_chunk` of the device by default.
        recompute: Keep no activations of a chunk for the backward pass but evaluate it again there (gradient
            checkpointing): a third slower, memory independent of the number of rays.
        cull: From origins, directions, near and far, which rays can see anything (`OccupancyGrid.rays_that_meet`);
            the others see nothing.
        progress: Called with the number of rays finished.
        owners: Which of several objects each ray meets, int64 ``[R]``.

    Returns:
        Colours, opacities and depths of all rays, in order.

    Raises:
        ValueError: naming the argument.
    """
    if origins.shape != directions.shape or origins.dim() != 2 or origins.shape[-1] != 3:
        raise ValueError(
            "Arguments `origins` and `directions` must both have shape [R, 3], "
            f"but got {list(origins.shape)} and {list(directions.shape)}."
        )
    if coarse < 1 or fine < 0:
        raise ValueError(f"Arguments `coarse` >= 1 and `fine` >= 0 are needed, but got {coarse} and {fine}.")
    origins, directions = origins.float(), directions.float()
    near, far = box_interval(origins, directions)
    hit = (far > near).nonzero()[:, 0]
    if cull is not None:
        hit = hit[cull(origins[hit], directions[hit], near[hit], far[hit])]
    chunk = chunk or default_chunk(origins.device, recompute)
    rays_per_chunk = max(1, chunk // (coarse + fine))
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for index in hit.split(rays_per_chunk):
        bundle = (origins[index], directions[index], near[index], far[index])
        shift = None if jitter is None else jitter[index]
        here = cast(Field, field) if owners is None else cast(SeveralFields, field).of(owners[index])
        if not torch.is_grad_enabled():
            part = _integrate_once(here, *bundle, coarse, fine, shift)
        elif recompute:
            depths = sample_depths(here, *bundle, coarse, fine, shift)
            part = checkpoint(_integrate, here, *bundle, depths, use_reentrant=False, preserve_rng_state=False)
        else:
            part = _integrate(here, *bundle, sample_depths(here, *bundle, coarse, fine, shift))
        parts.append(part)
        if progress is not None:
            progress(len(index))
    rgb, opacity, depth = origins.new_zeros(len(origins), 3), near.new_zeros(len(near)), near.new_zeros(len(near))
    if parts:
        colours, opacities, depths = (torch.cat(column) for column in zip(*parts, strict=True))
        rgb, opacity = rgb.index_copy(0, hit, colours), opacity.index_copy(0, hit, opacities)
        depth = depth.index_copy(0, hit, depths)
    if progress is not None:
        progress(len(origins) - len(hit))
    return RayColours(rgb, opacity, depth)


@torch.no_grad()
def sample_depths(
    field: Field,
    origins: Tensor,
    directions: Tensor,
    near: Tensor,
    far: Tensor,
    coarse: int,
    fine: int,
    jitter: Tensor | None = None,
) -> Tensor:
    """Sorted sample distances ``[R, coarse + fine]`` of rays that hit the box (arguments as `render_rays`)."""
    shift = near.new_full((1, 2), 0.5) if jitter is None else jitter
    depths = coarse_depths(near, far, shift[:, :1].expand(-1, coarse))
    if not fine:
        return depths
    density = field.density(_points(origins, directions, depths)).view(depths.shape)
    extra = _fine_depths(depths, density, near, far, fine, shift)
    return torch.cat([depths, extra], -1).sort(-1).values


def _fine_depths(depths: Tensor, density: Tensor, near: Tensor, far: Tensor, fine: int, shift: Tensor) -> Tensor:
    """Importance samples ``[R, fine]`` from the density at the coarse ones."""
    edges = interval_edges(depths, near, far)
    step = torch.arange(fine, device=near.device, dtype=near.dtype)
    weights = compositing_weights(density, edges.diff(dim=-1))
    return importance_depths(edges, weights, (step + shift[:, 1:]) / fine)


Part = tuple[Tensor, Tensor, Tensor]
"""Premultiplied colour ``[R, 3]``, opacity ``[R]`` and depth ``[R]`` of a chunk of rays."""


def _integrate(field: Field, origins: Tensor, directions: Tensor, near: Tensor, far: Tensor, depths: Tensor) -> Part:
    density, colour = field.density_and_colour(_points(origins, directions, depths))
    return _composite(depths, density.view(depths.shape), colour.view(*depths.shape, 3), near, far)


def _integrate_once(
    field: Field,
    origins: Tensor,
    directions: Tensor,
    near: Tensor,
    far: Tensor,
    coarse: int,
    fine: int,
    jitter: Tensor | None,
) -> Part:
    """As `_integrate` at `sample_depths`, but no sample is evaluated twice: without gradients all is kept."""
    shift = near.new_full((1, 2), 0.5) if jitter is None else jitter
    depths = coarse_depths(near, far, shift[:, :1].expand(-1, coarse))
    density, colour = field.density_and_colour(_points(origins, directions, depths))
    density, colour = density.view(depths.shape), colour.view(*depths.shape, 3)
    if fine:
        extra = _fine_depths(depths, density, near, far, fine, shift)
        more_density, more_colour = field.density_and_colour(_points(origins, directions, extra))
        depths, order = torch.cat([depths, extra], -1).sort(-1)
        density = torch.cat([density, more_density.view(extra.shape)], -1).gather(-1, order)
        colour = torch.cat([colour, more_colour.view(*extra.shape, 3)], 1)
        colour = colour.gather(1, order[..., None].expand(-1, -1, 3))
    return _composite(depths, density, colour, near, far)


def _composite(depths: Tensor, density: Tensor, colour: Tensor, near: Tensor, far: Tensor) -> Part:
    weights = compositing_weights(density, interval_edges(depths, near, far).diff(dim=-1))
    opacity = weights.sum(-1)
    depth = (weights * depths).sum(-1) / opacity.clamp_min(1e-10)
    # Not an einsum, which autocast would round to half precision.
    return (weights[..., None] * colour).sum(1), opacity, depth


def _points(origins: Tensor, directions: Tensor, depths: Tensor) -> Tensor:
    return (origins[:, None] + directions[:, None] * depths[..., None]).view(-1, 3)
