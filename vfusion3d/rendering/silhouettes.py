"""The isosurface that covers what an object's renders cover."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vfusion3d.rendering.isosurface import EmptySurfaceError
from vfusion3d.rendering.quadrature import box_interval, coarse_depths
from vfusion3d.rendering.volume import Field

SAMPLES = 96
"""Samples of a ray, in equal intervals of its path through the box."""


@torch.no_grad()
def fit_threshold(
    field: Field,
    origins: Tensor,
    directions: Tensor,
    samples: int = SAMPLES,
    chunk: int = 65536,
    cull: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] | None = None,
) -> float:
    """The density at which an isosurface's silhouettes are nearest to the opacity along rays.

    An opaque mesh covers a ray if the density exceeds the threshold somewhere along it. The threshold returned has the
    least sum of squared differences between that (0 or 1) and the ray's opacity.

    Args:
        field: The object.
        origins: ``[R, 3]``, world units, in the field's frame.
        directions: Unit vectors ``[R, 3]`` of rays that see the object from all sides.
        samples: Samples per ray.
        chunk: Points evaluated at once.
        cull: As `vfusion3d.rendering.render_rays`.

    Raises:
        EmptySurfaceError: if no ray is more opaque than a half.
    """
    origins, directions = origins.float(), directions.float()
    near, far = box_interval(origins, directions)
    hit = (far > near).nonzero()[:, 0]
    if cull is not None:
        hit = hit[cull(origins[hit], directions[hit], near[hit], far[hit])]
    peaks, opacities = [near.new_zeros(1)], [near.new_zeros(1)]
    for rays in hit.split(max(1, chunk // samples)):
        depths = coarse_depths(near[rays], far[rays], near.new_full((samples,), 0.5))
        points = origins[rays, None] + directions[rays, None] * depths[..., None]
        density = field.density(points.view(-1, 3)).view(depths.shape)
        peaks.append(density.amax(-1))
        opacities.append(-torch.expm1(-density.mean(-1) * (far - near)[rays]))
    peak, order = torch.cat(peaks).sort(descending=True)
    opacity = torch.cat(opacities)[order]
    # Covering a ray costs (1 - opacity)^2 instead of opacity^2; rays of equal peaks are covered together.
    change = (1 - 2 * opacity).cumsum(0)[:-1].where(peak[:-1] > peak[1:], 0.0)
    if not (change < 0).any():
        raise EmptySurfaceError(
            f"Renders of the object are nowhere more opaque than a half (at most {float(opacity.max()):.2g}), so there "
            "is no surface; try another picture or give a threshold."
        )
    last = int(change.argmin())
    return float(peak[last : last + 2].mean())
