"""Where a ray is sampled and how samples add up. Everything here is fp32, per ray, without randomness.

The box is the cube ``[-1, 1]^3`` and distances are along unit rays. A sample owns the interval between the
midpoints to its neighbours, the first from the ray's entry and the last to its exit, so no part of a ray is
left out and a uniform medium gets its analytic opacity.
"""

from __future__ import annotations

import torch
from torch import Tensor

IMPORTANCE_FLOOR = 0.01
"""Added to every coarse weight, so that fine samples also reach space the coarse pass found empty."""


def box_interval(origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Entry and exit distances of rays and the cube ``[-1, 1]^3`` (slab test), never behind the origin.

    Args:
        origins: ``[R, 3]``.
        directions: Unit vectors ``[R, 3]``.

    Returns:
        near and far, each ``[R]``; a ray that misses has ``near == far``.
    """
    tiny = torch.where(directions < 0, -1e-12, 1e-12).to(directions)
    inverse = 1 / torch.where(directions.abs() < 1e-12, tiny, directions)
    first, second = (-1 - origins) * inverse, (1 - origins) * inverse
    near = torch.minimum(first, second).amax(-1).clamp_min(0)
    far = torch.maximum(first, second).amin(-1)
    return near, torch.maximum(near, far)


def coarse_depths(near: Tensor, far: Tensor, unit: Tensor) -> Tensor:
    """One sample in each of n equal intervals of ``[near, far]``.

    Args:
        near, far: ``[R]``.
        unit: Position inside each interval in ``[0, 1]``, ``[n]`` or ``[R, n]`` (0.5: the midpoints).

    Returns:
        Sorted distances ``[R, n]``.
    """
    n = unit.shape[-1]
    fraction = (torch.arange(n, device=near.device, dtype=near.dtype) + unit) / n
    return near[:, None] + (far - near)[:, None] * fraction


def interval_edges(depths: Tensor, near: Tensor, far: Tensor) -> Tensor:
    """Boundaries ``[R, n + 1]`` of the intervals owned by sorted samples ``[R, n]``."""
    middles = (depths[:, 1:] + depths[:, :-1]) / 2
    return torch.cat([near[:, None], middles, far[:, None]], dim=-1)


def compositing_weights(density: Tensor, lengths: Tensor) -> Tensor:
    """Share of each sample in the pixel: ``exp(-sum of earlier tau) * (1 - exp(-tau))``, ``[R, n]``.

    Args:
        density: ``[R, n]``, per world unit.
        lengths: Interval lengths ``[R, n]``.
    """
    tau = density * lengths
    before = torch.cumsum(tau, dim=-1) - tau
    return torch.exp(-before) * -torch.expm1(-tau)


def importance_depths(edges: Tensor, weights: Tensor, unit: Tensor) -> Tensor:
    """Inverse-transform samples of the piecewise-constant density that coarse weights define.

    Weights are widened to the larger neighbour (so a surface between two samples is found) and lifted by
    `IMPORTANCE_FLOOR`.

    Args:
        edges: ``[R, n + 1]``.
        weights: ``[R, n]``.
        unit: Ascending numbers in ``[0, 1)``, ``[m]`` or ``[R, m]``.

    Returns:
        Sorted distances ``[R, m]``.
    """
    wide = torch.nn.functional.pad(weights, (1, 1))
    larger = torch.maximum(wide[:, 1:], wide[:, :-1])
    mass = (larger[:, 1:] + larger[:, :-1]) / 2 + IMPORTANCE_FLOOR
    cdf = torch.cumsum(mass, dim=-1)
    total = cdf[:, -1:]
    cdf = torch.nn.functional.pad(cdf / total, (1, 0))
    unit = unit.expand(edges.shape[0], -1).contiguous()
    index = torch.searchsorted(cdf, unit, right=True).clamp(1, weights.shape[-1])
    low, high = cdf.gather(-1, index - 1), cdf.gather(-1, index)
    start, end = edges.gather(-1, index - 1), edges.gather(-1, index)
    return start + (end - start) * ((unit - low) / (high - low)).clamp(0, 1)
