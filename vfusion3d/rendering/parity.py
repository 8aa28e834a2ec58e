"""The published renderer's sampling, quirks included, for comparing with published numbers.

The shipped renderer integrates a whole ray and is deterministic. VFusion3D and OpenLRM do it differently, and their
weights were trained so: colours and raw densities are averaged between neighbouring samples before the activation,
the head of a ray before its first sample is not integrated, importance samples lie half an interval too near and
never in the last one, rays start behind the camera too, and depth is clamped over all rays of a call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from vfusion3d.cameras import Cameras
from vfusion3d.rendering.volume import RayColours

_NOTHING = -1e30  # raw density outside the cube; finite, since it is averaged


class RawField(Protocol):
    """A field that tells its raw density."""

    def raw_density_and_colour(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Raw density ``[N]`` and colour ``[N, 3]`` at points ``[N, 3]``, outside the cube too."""

    def activate(self, raw: Tensor) -> Tensor:
        """Density per world unit of raw density."""


def render_rays_parity(
    fields: Sequence[RawField],
    origins: Tensor,
    directions: Tensor,
    coarse: int = 64,
    fine: int = 64,
    unit_coarse: Tensor | None = None,
    unit_fine: Tensor | None = None,
    chunk: int = 65536,
) -> RayColours:
    """Render rays of B objects in one call as the published code does.

    Args:
        fields: B objects.
        origins: ``[B, R, 3]``, in the fields' frame.
        directions: Unit vectors ``[B, R, 3]``.
        coarse: Samples per ray in equal steps, at least 2; 4 if there are fine ones.
        fine: Samples placed where the coarse ones saw something; 0 for none.
        unit_coarse: Shift of each coarse sample in steps, in [0, 1), ``[B, R, coarse]`` or broadcastable; 0.5 by
            default. The published code draws it anew in every call.
        unit_fine: Numbers in [0, 1] that the fine samples' distribution is inverted at, ``[B, R, fine]`` or
            broadcastable; evenly spaced by default. The published code draws these too.
        chunk: Points evaluated at once.

    Returns:
        Premultiplied colour ``[B, R, 3]``, opacity ``[B, R]``, and depth ``[B, R]``, which for rays that see nothing
        is the call's largest sample distance.

    Raises:
        ValueError: naming the argument.
    """
    if len(fields) != len(origins) or origins.shape != directions.shape or origins.dim() != 3:
        raise ValueError(
            f"Arguments `origins` and `directions` must have shape [{len(fields)}, R, 3], "
            f"but got {list(origins.shape)} and {list(directions.shape)}."
        )
    if coarse < (4 if fine else 2) or fine < 0:
        raise ValueError(f"Arguments `coarse` >= 4 and `fine` >= 0 are needed, but got {coarse} and {fine}.")
    near, far = parity_interval(origins, directions)
    shift = near.new_tensor(0.5) if unit_coarse is None else unit_coarse
    step = torch.arange(coarse, device=near.device, dtype=near.dtype)
    span = (far - near)[..., None]
    depths = near[..., None] + span * (step / (coarse - 1)) + shift * (span / (coarse - 1))

    def evaluate(depths: Tensor) -> tuple[Tensor, Tensor]:
        raws, colours = [], []
        for field, origin, direction, depth in zip(fields, origins, directions, depths, strict=True):
            points = (origin[:, None] + direction[:, None] * depth[..., None]).view(-1, 3)
            parts = [field.raw_density_and_colour(part) for part in points.split(chunk)]
            raw, colour = torch.cat([raw for raw, _ in parts]), torch.cat([colour for _, colour in parts])
            outside = (points.abs() > 1).any(-1)
            raws.append(raw.masked_fill(outside, _NOTHING).view(depth.shape))
            colours.append(colour.masked_fill(outside[:, None], 0.0).view(*depth.shape, 3))
        return torch.stack(raws), torch.stack(colours)

    activate = fields[0].activate
    raw, colour = evaluate(depths)
    if fine:
        weights = parity_weights(depths, raw, activate)
        unit = torch.linspace(0, 1, fine, device=near.device) if unit_fine is None else unit_fine
        extra = parity_importance(depths, weights.detach(), unit)
        more_raw, more_colour = evaluate(extra)
        depths, order = torch.cat([depths, extra], -1).sort(-1)
        raw = torch.cat([raw, more_raw], -1).gather(-1, order)
        colour = torch.cat([colour, more_colour], -2).gather(-2, order[..., None].expand(*order.shape, 3))
    weights = parity_weights(depths, raw, activate)
    opacity = weights.sum(-1)
    rgb = (weights[..., None] * (colour[..., 1:, :] + colour[..., :-1, :]) / 2).sum(-2)
    depth = (weights * (depths[..., 1:] + depths[..., :-1]) / 2).sum(-1) / opacity
    depth = torch.nan_to_num(depth, nan=float("inf")).clamp(depths.min(), depths.max())
    return RayColours(rgb, opacity, depth)


def parity_rays(
    cameras: Cameras,
    height: int,
    width: int,
    top: Tensor | float = 0.0,
    left: Tensor | float = 0.0,
    full: Tensor | float | None = None,
) -> tuple[Tensor, Tensor]:
    """Rays of all pixels, rounded as the published code rounds them (otherwise those of `Cameras.rays`).

    Its sampling amplifies differences in the last bit where a ray sees next to nothing.

    Args:
        cameras: In the model's frame, ``[...]``.
        height, width: Size of the window in pixels.
        top, left: First row and column of the window in the whole picture, numbers or ``[...]``.
        full: Side of the square whole picture, a number or ``[...]``; by default the window is the picture.

    Returns:
        Origins and unit directions, ``[..., height, width, 3]``.
    """
    poses = cameras.poses.reshape(-1, 3, 4)
    fx, fy, cx, cy = cameras.intrinsics.reshape(-1, 4, 1, 1).unbind(1)

    def positions(count: int, first: Tensor | float) -> Tensor:
        """Pixel centres in units of the picture, one row for each camera."""
        side = count if full is None else full
        step, offset = (
            torch.as_tensor(x, dtype=poses.dtype, device=poses.device).reshape(-1, 1) for x in (side, first)
        )
        pixels = torch.arange(count, dtype=poses.dtype, device=poses.device) + offset
        return (pixels * (1 / step) + 0.5 / step).expand(len(poses), -1)

    x = (positions(width, left)[:, None, :] - cx) / fx
    y = (positions(height, top)[:, :, None] - cy) / fy
    x, y = x.expand(-1, height, -1), y.expand(-1, -1, width)
    one = torch.ones_like(x)
    ends = torch.bmm(poses, torch.stack([x, -y, -one, one], 1).flatten(2)).transpose(1, 2)
    directions = F.normalize(ends - poses[:, None, :, 3], dim=-1)
    shape = (*cameras.shape, height, width, 3)
    return poses[:, None, :, 3].expand_as(directions).reshape(shape), directions.reshape(shape)


def parity_interval(origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Where rays ``[..., 3]`` enter and leave the cube ``[-1, 1]^3``, behind their origin too, ``[...]`` each.

    Rays that miss it get the smallest entry of those that hit, and the largest *entry* as their exit.
    """
    near, far = line_interval(origins, directions)
    hit = near <= far
    if bool(hit.any()):
        entries = near[hit]
        near, far = torch.where(hit, near, entries.min()), torch.where(hit, far, entries.max())
    return near, far


def line_interval(origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Where lines ``[..., 3]`` enter and leave the cube ``[-1, 1]^3`` (entry > exit: never)."""
    inverse = 1 / directions
    first, second = (-1 - origins) * inverse, (1 - origins) * inverse
    return torch.minimum(first, second).amax(-1), torch.maximum(first, second).amin(-1)


def parity_weights(depths: Tensor, raw: Tensor, activate: Callable[[Tensor], Tensor]) -> Tensor:
    """Compositing weights ``[..., n - 1]`` of the intervals between sorted samples ``[..., n]``."""
    density = activate((raw[..., 1:] + raw[..., :-1]) / 2)
    # Rounded once: the last bit of the exponential is most of a nearly empty interval's weight, and its vectorised
    # versions differ in that.
    alpha = 1 - torch.exp(-(density * depths.diff(dim=-1)).double()).to(density.dtype)
    clear = torch.cumprod(F.pad(1 - alpha + 1e-10, (1, 0), value=1.0), -1)[..., :-1]
    return alpha * clear


def parity_importance(depths: Tensor, weights: Tensor, unit: Tensor) -> Tensor:
    """Fine sample distances ``[..., fine]`` from the weights ``[..., n - 1]`` of coarse ones at ``[..., n]``.

    Weights are widened to the larger neighbour and averaged back; of the n - 1 intervals only n - 3 become bins,
    the first and the last mass dropped, each bin half an interval nearer than its mass.
    """
    padded = F.pad(weights, (1, 1))  # weights are not negative: 0 never wins
    larger = torch.maximum(padded[..., 1:], padded[..., :-1])
    mass = (larger[..., 1:] + larger[..., :-1]) / 2 + 0.01
    edges = (depths[..., 1:] + depths[..., :-1]) / 2
    inner = mass[..., 1:-1] + 1e-5
    cdf = F.pad(torch.cumsum(inner / inner.sum(-1, keepdim=True), -1), (1, 0))
    unit = unit.expand(*depths.shape[:-1], unit.shape[-1]).contiguous()
    index = torch.searchsorted(cdf, unit, right=True)
    low, high = (index - 1).clamp_min(0), index.clamp_max(cdf.shape[-1] - 1)
    start, end = edges.gather(-1, low), edges.gather(-1, high)
    below, above = cdf.gather(-1, low), cdf.gather(-1, high)
    span = above - below
    span = torch.where(span < 1e-5, torch.ones_like(span), span)
    return start + (unit - below) / span * (end - start)
