"""A torch ray-caster of analytic primitives: training pictures made on the device, with no renderer to wait for.

Every part of an object is, in its own coordinates, the cube ``[-1, 1]^3`` cut by one quadric

    qx x^2 + qy y^2 + qz z^2 + 2 lz z + c <= 0,

which makes boxes, ellipsoids, cylinders, cones, domes, gables and spools with one formula; a part may be hollowed
by another such body. An affine map carries a part into the world, so a ray stays a ray and its parameter t is the
same in all parts.

Only +, -, *, /, sqrt, floor, minima and comparisons are used, elementwise: each of them is rounded correctly, so
a pixel does not depend on what else is in the batch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vfusion3d.cameras import Cameras

PATTERNS = ("plain", "stripes", "checks", "ramp", "noise", "dots", "faces")
SURFACE_SIZE = 18 + len(
    PATTERNS
)  # three colours (9), two wave vectors (6), phase, sharpness, grain, weight per pattern
DECAL_SIZE = 15  # centre (3), half size (3), is round, is mirrored, two colours (6), lines per world unit

_CPU_ELEMENTS = 1 << 17  # rays x parts per pass: a dozen temporaries of this size stay in a core's cache
_GPU_ELEMENTS = 1 << 25
_CONTRAST = 0.03  # a pixel is supersampled when a neighbour differs by more than this in any channel


class ProceduralObjects(NamedTuple):
    """B objects of at most P parts, the first K of which are hollowed by a carver each.

    A named tuple, so that loaders collate it and Lightning moves it. Unused rows hold an empty quadric, a decal of
    size zero or a black light.

    Fields:
        transforms: World to part, ``[B, P, 3, 4]``.
        quadrics: ``(qx, qy, qz, lz, c)``, ``[B, P, 5]``.
        surfaces: Colours and pattern (see SURFACE_SIZE), ``[B, P, S]``.
        carver_transforms: World to carver, ``[B, K, 3, 4]``.
        carver_quadrics: ``[B, K, 5]``.
        carver_surfaces: What the hollow shows, ``[B, K, S]``.
        decals: Regions of the world painted over (see DECAL_SIZE), ``[B, D, 15]``.
        ambient: Light on faces that look up and on faces that look down, RGB, ``[B, 2, 3]``.
        light_directions: Unit vectors towards the lights, in the world, ``[B, L, 3]``.
        light_colours: RGB, ``[B, L, 3]``.
        mirrored: 1 where patterns are mirrored across y = 0, else 0, ``[B]``.
        counts: Parts, carvers and decals in use, int64, ``[B, 3]``.
    """

    transforms: Tensor
    quadrics: Tensor
    surfaces: Tensor
    carver_transforms: Tensor
    carver_quadrics: Tensor
    carver_surfaces: Tensor
    decals: Tensor
    ambient: Tensor
    light_directions: Tensor
    light_colours: Tensor
    mirrored: Tensor
    counts: Tensor


@torch.no_grad()
def render(objects: ProceduralObjects, cameras: Cameras, height: int, width: int, supersample: int = 2) -> Tensor:
    """Pictures of B objects from V cameras each, with exact intersections and anti-aliased edges.

    Every pixel is cast once through its centre; where it differs from a neighbour it becomes the mean of
    ``supersample^2`` rays, so opacity is coverage.

    Args:
        objects: B objects.
        cameras: Cameras outside of the objects, ``[B, V]``.
        height, width: Size of the pictures in pixels.
        supersample: Rays per pixel and axis along edges; 1 switches anti-aliasing off.

    Returns:
        Premultiplied RGBA in [0, 1], float32, ``[B, V, 4, height, width]`` on the objects' device.

    Raises:
        ValueError: if the cameras' shape does not fit the objects.
    """
    batch, device = objects.transforms.shape[0], objects.transforms.device
    if len(cameras.shape) != 2 or cameras.shape[0] != batch:
        raise ValueError(f"Argument `cameras` must have shape [{batch}, V], but got {list(cameras.shape)}.")
    cameras = cameras.to(device=device, dtype=torch.float32)
    views = cameras.shape[1]
    images = torch.empty(batch, views, 4, height, width, device=device)
    budget = _CPU_ELEMENTS if device.type == "cpu" else _GPU_ELEMENTS
    counts = objects.counts.cpu()
    most = int(counts[:, :2].sum(1).max()) if batch else 1
    step = max(1, budget // (views * height * width * most))
    for start in range(0, batch, step):
        rows = slice(start, start + step)
        parts, carvers, decals = counts[rows].amax(0).tolist()
        chunk = ProceduralObjects(*(field[rows] for field in objects))
        scene = _Scene(chunk._replace(decals=chunk.decals[:, :decals]), cameras[rows], parts, carvers)
        images[rows] = _render_scene(scene, height, width, supersample).unflatten(0, (-1, views))
    return images


def _render_scene(scene: _Scene, height: int, width: int, supersample: int) -> Tensor:
    """Pictures of the scene's R cameras, ``[R, 4, height, width]``."""
    device = scene.device
    u = ((torch.arange(width, device=device) + 0.5) / width).view(1, 1, 1, width)
    v = ((torch.arange(height, device=device) + 0.5) / height).view(1, 1, height, 1)
    images = scene.trace(u, v)
    if supersample > 1:
        row, pixel = _edges(images).flatten(1).nonzero(as_tuple=True)
        if len(row):
            # Ragged to rectangular: row r gets its edge pixels, padded with repetitions of pixel 0.
            first = torch.searchsorted(row, torch.arange(images.shape[0], device=device))
            column = torch.arange(len(row), device=device) - first[row]
            pixels = pixel.new_zeros(images.shape[0], int(column.max()) + 1)
            pixels[row, column] = pixel
            offset = (torch.arange(supersample, device=device) + 0.5) / supersample
            u = ((pixels % width)[:, :, None, None] + offset) / width
            v = ((pixels // width)[:, :, None, None] + offset[:, None]) / height
            u, v = (x.expand(*pixels.shape, supersample, supersample).flatten(1)[:, None, None] for x in (u, v))
            fine = scene.trace(u, v).unflatten(-1, (-1, supersample**2)).squeeze(2)
            mean = fine[..., 0]
            for k in range(1, supersample**2):  # a sum in a fixed order, whatever the shape
                mean = mean + fine[..., k]
            mean = mean / supersample**2
            images.flatten(2)[row, :, pixel] = mean.transpose(1, 2)[row, column]
    return images


def _edges(images: Tensor) -> Tensor:
    """Pixels that differ from one of their eight neighbours, ``[R, H, W]`` bool."""
    low, high = images, images
    for dim in (-1, -2):
        size = images.shape[dim]
        ahead = torch.arange(1, size + 1, device=images.device).clamp_max(size - 1)
        behind = torch.arange(-1, size - 1, device=images.device).clamp_min(0)
        low = torch.minimum(low, torch.minimum(low.index_select(dim, ahead), low.index_select(dim, behind)))
        high = torch.maximum(high, torch.maximum(high.index_select(dim, ahead), high.index_select(dim, behind)))
    return (high - low).amax(1) > _CONTRAST


def _pick(table: Tensor, index: Tensor) -> Tensor:
    """Columns of a ``[K, N]`` table, ``[K, n]``; a view if all are the same."""
    return table if table.shape[1] == 1 else table.index_select(1, index)


def _apply(matrix: Tensor, vector: Tensor) -> Tensor:
    """``[..., 3, 3] x [..., 3]`` in a fixed order of summation."""
    return (matrix[..., 0] * vector[..., None, 0] + matrix[..., 1] * vector[..., None, 1]) + (
        matrix[..., 2] * vector[..., None, 2]
    )


def _triangle(x: Tensor) -> Tensor:
    """Triangle wave of period 1 between 0 and 1."""
    return ((x - torch.floor(x)) * 2 - 1).abs()


class _Scene:
    """R = B V cameras with their objects' parts, laid out for casting.

    The direction of the ray at image position (u, v) is ``base + u across + v down``, in the world and, mapped
    linearly, in every part.
    """

    def __init__(self, objects: ProceduralObjects, cameras: Cameras, parts: int, carvers: int) -> None:
        batch, views = cameras.shape
        self.device = cameras.device
        self.parts, self.carvers = parts, carvers
        transforms = torch.cat([objects.transforms[:, :parts], objects.carver_transforms[:, :carvers]], 1)
        quadrics = torch.cat([objects.quadrics[:, :parts], objects.carver_quadrics[:, :carvers]], 1)
        surfaces = torch.cat([objects.surfaces[:, :parts], objects.carver_surfaces[:, :carvers]], 1)

        cameras = cameras.reshape(batch * views)
        fx, fy, cx, cy = (cameras.intrinsics[:, k, None] for k in range(4))
        right, up, backward, self.centre = cameras.poses.unbind(-1)
        self.across, self.down = right / fx, -up / fy
        self.base = up * (cy / fy) - right * (cx / fx) - backward

        maps = transforms.repeat_interleave(views, 0)  # [R, Q, 3, 4]
        linear = maps[..., :3]
        self.origin = _apply(linear, self.centre[:, None]) + maps[..., 3]  # [R, Q, 3]
        self.rays = [_apply(linear, x[:, None]) for x in (self.base, self.across, self.down)]
        self.quadrics = quadrics.repeat_interleave(views, 0)

        # Tables for shading, one column per part or object.
        self.owner = torch.arange(batch, device=self.device).repeat_interleave(views)
        self.part_table = torch.cat([transforms.flatten(2), quadrics, surfaces], -1).flatten(0, 1).T.contiguous()
        self.decals = objects.decals.permute(1, 2, 0).contiguous()
        lights = [objects.ambient.flatten(1), objects.light_directions.flatten(1), objects.light_colours.flatten(1)]
        self.lights = torch.cat(lights, 1).T.contiguous()
        self.light_count = objects.light_directions.shape[1]
        self.mirrored = objects.mirrored[None]
        self.all_parts = parts + carvers
        self.opens = bool((quadrics[..., :3] < 0).any())

    def trace(self, u: Tensor, v: Tensor) -> Tensor:
        """Premultiplied RGBA ``[R, 4, H, W]`` at image positions broadcastable to ``[R, 1, H, W]``."""
        t, part = self._cast(u, v)
        image = t.new_zeros(t.shape[0], 4, *t.shape[1:])
        hit = torch.isfinite(t)
        row, y, x = hit.nonzero(as_tuple=True)
        if len(row):
            u, v = (w.expand(t.shape[0], 1, *t.shape[1:])[row, 0, y, x] for w in (u, v))
            colour = self._shade(row, u, v, t[row, y, x], part[row, y, x])
            image[row, :, y, x] = torch.cat([colour, torch.ones_like(colour[:1])]).T
        return image

    def _cast(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Nearest hit of each ray: its parameter (infinity if none) and the part or carver it lies on."""
        entry, leave = self._intervals(u, v)
        hit_carver = None
        if self.carvers:
            k = self.carvers
            inner_entry, inner_leave = entry[:, self.parts :], leave[:, self.parts :]
            hollow = (inner_entry <= entry[:, :k]) & (inner_leave > entry[:, :k])
            entry[:, :k] = torch.where(hollow, inner_leave, entry[:, :k])
            hit_carver = hollow
        entry, leave = entry[:, : self.parts], leave[:, : self.parts]
        t, part = torch.where(entry < leave, entry, torch.inf).min(1)
        if hit_carver is not None:
            carved = hit_carver.gather(1, part[:, None].clamp_max(self.carvers - 1))[:, 0] & (part < self.carvers)
            part = part + self.parts * carved
        return t, part

    def _intervals(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Where each ray enters and leaves each part and carver, ``[R, Q, H, W]``; entry > leave on a miss."""
        near = far = qa = None
        squares = self.quadrics[..., :3]
        for k in range(3):
            base, across, down = (x[..., k, None, None] for x in self.rays)
            direction = (u * across + base) + v * down
            inverse = 1 / direction
            centre = inverse * -self.origin[..., k, None, None]
            half = inverse.abs_()
            low, high = centre - half, centre.add_(half)
            near = low if near is None else torch.maximum(near, low, out=near)
            far = high if far is None else torch.minimum(far, high, out=far)
            term = direction.mul_(direction).mul_(squares[..., k, None, None])
            qa = term if qa is None else qa.add_(term)
        assert near is not None and far is not None and qa is not None
        near.clamp_min_(0)  # nothing behind the camera
        weight = squares * self.origin
        weight = torch.stack([weight[..., 0], weight[..., 1], weight[..., 2] + self.quadrics[..., 3]], -1)
        base, across, down = (
            ((x[..., 0] * weight[..., 0] + x[..., 1] * weight[..., 1]) + x[..., 2] * weight[..., 2])[..., None, None]
            for x in self.rays
        )
        qb = (u * across + base) + v * down
        sums = squares * self.origin * self.origin
        qc = (sums[..., 0] + sums[..., 1]) + sums[..., 2]
        qc = (qc + 2 * self.quadrics[..., 3] * self.origin[..., 2] + self.quadrics[..., 4])[..., None, None]

        # Roots of qa t^2 + 2 qb t + qc without cancellation; NaN where there are none, which no comparison passes.
        root = (qb * qb).sub_(qa * qc).sqrt_()
        s = root.copysign_(qb).add_(qb).neg_()
        first, second = s / qa, qc / s
        low, high = torch.minimum(first, second), torch.maximum(first, second)
        if not self.opens:
            return torch.maximum(near, low, out=low), torch.minimum(far, high, out=high)
        # Where qa < 0 the inside is before the first root and after the second (of a cone's two nappes the cube
        # holds one), or everywhere if there are none.
        opens = qa < 0
        before = near <= low
        open_low = torch.where(before, -torch.inf, high.nan_to_num(-torch.inf))
        open_high = torch.where(before, low, torch.inf)
        low, high = torch.where(opens, open_low, low), torch.where(opens, open_high, high)
        return torch.maximum(near, low, out=low), torch.minimum(far, high, out=high)

    def _shade(self, row: Tensor, u: Tensor, v: Tensor, t: Tensor, part: Tensor) -> Tensor:
        """Lit colours ``[3, n]`` of n hits."""
        owner = self.owner[row]
        camera = torch.cat([self.centre, self.base, self.across, self.down], -1).T.contiguous().index_select(1, row)
        world = camera[:3] + t * ((camera[3:6] + u * camera[6:9]) + v * camera[9:12])
        table = self.part_table.index_select(1, owner * self.all_parts + part)
        matrix, quadric, surface = table[:12].unflatten(0, (3, 4)), table[12:17], table[17:]
        local = (matrix[:, 0] * world[0] + matrix[:, 1] * world[1]) + (matrix[:, 2] * world[2] + matrix[:, 3])
        face, normal = self._normal(local, matrix, quadric, part >= self.parts)
        colour = self._paint(owner, world, face, surface)
        lights = _pick(self.lights, owner)
        sky = normal[2] * 0.5 + 0.5
        light = lights[3:6] + sky * (lights[0:3] - lights[3:6])
        count = self.light_count
        for k in range(count):
            direction, power = lights[6 + 3 * k : 9 + 3 * k], lights[6 + 3 * (count + k) : 9 + 3 * (count + k)]
            cosine = (normal[0] * direction[0] + normal[1] * direction[1]) + normal[2] * direction[2]
            light = light + power * cosine.clamp_min(0)
        return (colour * light).clamp(0, 1)

    def _normal(self, local: Tensor, matrix: Tensor, quadric: Tensor, hollow: Tensor) -> tuple[Tensor, Tensor]:
        """Which of the cube's faces hits lie on (weights ``[3, n]``, 0 on the quadric) and unit world normals."""
        gradient = quadric[:3] * local
        gradient[2] += quadric[3]
        value = (gradient[0] * local[0] + gradient[1] * local[1]) + (gradient[2] * local[2] + quadric[3] * local[2])
        length = ((gradient[0] * gradient[0] + gradient[1] * gradient[1]) + gradient[2] * gradient[2]).sqrt()
        sides = (1 - local.abs()).abs_()
        side = torch.minimum(torch.minimum(sides[0], sides[1]), sides[2])
        curved = ((value + quadric[4]).abs_() < side * (2 * length)).to(side.dtype)
        flat = (sides <= side).to(side.dtype) * (1 - curved)
        inner = torch.copysign(flat, local) + gradient * curved
        inner = inner * (1 - 2 * hollow.to(side.dtype))
        normal = (matrix[0, :3] * inner[0] + matrix[1, :3] * inner[1]) + matrix[2, :3] * inner[2]
        size = ((normal[0] * normal[0] + normal[1] * normal[1]) + normal[2] * normal[2]).sqrt()
        return flat, normal / size.clamp_min(1e-12)

    def _paint(self, owner: Tensor, world: Tensor, face: Tensor, surface: Tensor) -> Tensor:
        """Colours ``[3, n]`` of n hits before lighting."""
        mirrored = _pick(self.mirrored, owner)[0]
        x, y, z = world
        folded = y.abs()
        y_paint = y + mirrored * (folded - y)
        phase, sharpness, grain, weights = surface[15], surface[16], surface[17], surface[18:]
        first = (surface[9] * x + surface[10] * y_paint) + (surface[11] * z + phase)
        second = (surface[12] * x + surface[13] * y_paint) + (surface[14] * z + phase)
        wave, other = _triangle(first), _triangle(second)
        # Two triangle waves bent by each other stand in for smooth noise.
        noise = _triangle(first + 0.9 * other + 0.37 * x) + _triangle(second * 0.7 + 1.1 * wave - 0.29 * z)
        noise = noise * 0.5 - 0.5
        checks = torch.floor(first) + torch.floor(second)
        checks = checks - 2 * torch.floor(checks * 0.5)
        dots = 0.3 - (wave * wave + other * other)
        mix = weights[1] * (wave - 0.5) + weights[2] * (checks - 0.5)
        mix = mix + weights[3] * (first - 0.5) + weights[4] * noise + weights[5] * dots
        mix = (mix * sharpness + 0.5).clamp_(0, 1) * (1 - weights[0] - weights[6])
        top, side = face[2] * weights[6], face[1] * weights[6]
        colour = surface[0:3] + (mix + top) * (surface[3:6] - surface[0:3]) + side * (surface[6:9] - surface[0:3])
        colour = colour * (1 + grain * noise)
        for decal in self.decals:
            d = _pick(decal, owner)
            dx = ((x - d[0]) / d[3]).abs_()
            dy = ((y + d[7] * (folded - y) - d[1]) / d[4]).abs_()
            dz = ((z - d[2]) / d[5]).abs_()
            size = torch.maximum(torch.maximum(dx, dy), dz)
            size = size + d[6] * (((dx * dx + dy * dy) + dz * dz) - size)
            line = (_triangle(z * d[14]) > 0.6).to(x.dtype)
            paint = d[8:11] + line * (d[11:14] - d[8:11])
            colour = torch.where(size < 1, paint, colour)
        return colour
