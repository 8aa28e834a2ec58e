"""Planes to density and colour: the point MLP, and the table that makes it fast.

A linear layer commutes with bilinear interpolation, so the first layer is applied to the texels once instead
of to every sample: the planes become one table of rows already ``field_dim`` wide, and a point's first
activations are a weighted sum of 12 rows (16 with pixel-aligned features), which `embedding_bag` does in one
pass over memory.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vfusion3d.cameras import Cameras
from vfusion3d.models.config import ReconstructorConfig
from vfusion3d.rendering.lattice import Progress

CACHED_POINTS, SLAB_POINTS = 8192, 2048
"""Points evaluated at once on a processor: whose activations fit its caches, without and with a plane's locality."""


class TriplaneField(nn.Module):
    """The point MLP: concatenated features -> raw density and colour (``field_layers`` linear layers, ReLU)."""

    def __init__(self, config: ReconstructorConfig) -> None:
        super().__init__()
        self.depth_frequencies = config.depth_frequencies
        self.depth_features = 1 + 2 * config.depth_frequencies if config.depth_frequencies else 0
        width = 3 * config.triplane_channels + config.pixel_aligned_channels + self.depth_features
        sizes = [width] + [config.field_dim] * (config.field_layers - 1) + [4]
        modules: list[nn.Module] = []
        for fan_in, fan_out in pairwise(sizes):
            linear = nn.Linear(fan_in, fan_out)
            nn.init.zeros_(linear.bias)
            modules += [linear, nn.ReLU()]
        self.layers = nn.Sequential(*modules[:-1])
        self.compiled = False
        self.padding = config.plane_padding
        self.density_bias = config.density_bias
        self.sphere_slope = config.density_sphere_slope
        self.sphere_radius = config.density_sphere_radius

    @property
    def first(self) -> nn.Linear:
        """The layer that reads the features."""
        return cast(nn.Linear, self.layers[0])

    @property
    def last(self) -> nn.Linear:
        """The layer that answers with raw density and colour."""
        return cast(nn.Linear, self.layers[-1])

    def project(self, planes: Tensor, source_features: Tensor | None) -> list[Tensor]:
        """First layer applied to the texels of one object, padded by one texel for interpolation at the rim.

        Its bias is in the first plane: what a point reads of a plane has weights that add up to 1, also outside.

        Args:
            planes: ``[3, C, R, R]``.
            source_features: ``[P, h, w]`` or None.

        Returns:
            One map ``[field_dim, R + 2, R + 2]`` per plane, then the source map (zero beyond the picture).
        """
        weight = self.first.weight.float()
        channels = planes.shape[1]
        maps = []
        mode = "constant" if self.padding == "zeros" else "replicate"
        for k, plane in enumerate(planes):
            projected = F.conv2d(plane[None], weight[:, k * channels : (k + 1) * channels, None, None])
            maps.append(F.pad(projected, (1, 1, 1, 1), mode=mode)[0])
        maps[0] = maps[0] + self.first.bias.float()[:, None, None]
        if source_features is not None:
            last = 3 * channels + source_features.shape[0]
            projected = F.conv2d(source_features[None], weight[:, 3 * channels : last, None, None])
            maps.append(F.pad(projected, (1, 1, 1, 1))[0])
        return maps

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """As `torch.nn.Module.compile`: `forward` becomes one kernel around the matrix products, a sixth faster."""
        super().compile(*args, **kwargs)
        self.compiled = True

    def forward(
        self,
        points: Tensor,
        table: Tensor,
        shapes: list[tuple[int, int]],
        camera: Cameras | None = None,
        outputs: int = 4,
    ) -> Tensor:
        """Raw density and colour of one object.

        Args:
            points: In the model's frame, ``[N, 3]``.
            table: Texels of all maps of `project`, one row each, ``[T, field_dim]``.
            shapes: Height and width of each map.
            camera: Source camera in the model's frame, if there is a source map or depth is a feature.
            outputs: 4, or 1 for the density alone.

        Returns:
            ``[N, outputs]`` before any activation.
        """
        return self.decode(self.first_sums(points, table, shapes, camera), outputs)

    def first_sums(
        self, points: Tensor, table: Tensor, shapes: list[tuple[int, int]], camera: Cameras | None = None
    ) -> Tensor:
        """What the first layer makes of points, ``[N, field_dim]``; arguments as `forward`."""
        x, y, z = (points.T + 1) / 2
        places = [(x, y), (x, z), (z, y)]
        depth = None
        if camera is not None and (len(shapes) == 4 or self.depth_frequencies):
            uv, depth = camera.project(points)
            if len(shapes) == 4:
                places.append((uv[:, 0], uv[:, 1]))
        hidden: Tensor = TexelSum.apply(table, *texel_weights(places, shapes))
        if camera is not None and depth is not None and self.depth_frequencies:
            extra = depth_features(depth, camera.centers.norm(), self.depth_frequencies)
            hidden = hidden + F.linear(extra, self.first.weight[:, -self.depth_features :].float())
        return hidden

    def decode(self, hidden: Tensor, outputs: int = 4) -> Tensor:
        """Raw density and colour ``[N, outputs]`` from the first layer's sums ``[N, field_dim]``."""
        for layer in self.layers[1:-1]:
            hidden = _linear(layer, hidden) if isinstance(layer, nn.Linear) else layer(hidden)
        return _linear(self.last, hidden, outputs).float()


class Decoder:
    """`TriplaneField.decode` for many calls without gradients, with memory of its own.

    Fresh memory costs as much as the products, which is why the results overwrite each other.

    Args:
        field: The point MLP.
        outputs: 4, or 1 for the density alone.
        points: Most points of a call.
    """

    def __init__(self, field: TriplaneField, outputs: int, points: int) -> None:
        linear = [layer for layer in field.layers[1:-1] if isinstance(layer, nn.Linear)]
        width = field.first.out_features
        self.inner = [
            (layer.weight.float().T, layer.bias.float(), layer.weight.new_empty(points, width, dtype=torch.float32))
            for layer in linear
        ]
        self.last = (field.last.weight[:outputs].float(), field.last.bias[:outputs].float())
        self.activation = field.layers[1]

    def __call__(self, hidden: Tensor) -> Tensor:
        """Raw outputs ``[N, outputs]``, one or four, from sums ``[N, field_dim]``, which are overwritten."""
        hidden = self._activate(hidden)
        for weight, bias, memory in self.inner:
            hidden = self._activate(torch.addmm(bias, hidden, weight, out=memory[: len(hidden)]))
        return F.linear(hidden, *self.last)

    def _activate(self, hidden: Tensor) -> Tensor:
        return hidden.relu_() if isinstance(self.activation, nn.ReLU) else self.activation(hidden)


def texel_weights(places: list[tuple[Tensor, Tensor]], shapes: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Bilinear interpolation as rows of a table.

    Args:
        places: Position in the unit square of each map, column then row, ``[N]`` each.
        shapes: Height and width of the maps, padded by one texel, that the table lists one after the other.

    Returns:
        Rows, int32, and their weights, ``[N, 4 * maps]``.
    """
    rows, weights, start = [], [], 0
    for (u, v), (height, width) in zip(places, shapes, strict=True):
        column = (u * (width - 2) + 0.5).clamp(0, width - 1)
        row = (v * (height - 2) + 0.5).clamp(0, height - 1)
        left, top = column.floor().clamp_max(width - 2), row.floor().clamp_max(height - 2)
        right_share, lower_share = column - left, row - top
        left_share, upper_share = 1 - right_share, 1 - lower_share
        index = (top.int() * width + left.int()) + start
        rows += [index, index + 1, index + width, index + width + 1]
        weights += [
            left_share * upper_share,
            right_share * upper_share,
            left_share * lower_share,
            right_share * lower_share,
        ]
        start += height * width
    return torch.stack(rows, -1), torch.stack(weights, -1)


class TexelSum(torch.autograd.Function):
    """Weighted sums of table rows, ``embedding_bag`` with a backward pass that is twice as fast.

    Forward: table ``[T, D]``, rows int32 ``[N, K]``, weights ``[N, K]`` -> ``[N, D]``.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
        """Sums ``[N, D]``."""
        ctx.texels = len(table)
        ctx.save_for_backward(rows, weights, table if ctx.needs_input_grad[2] else None)
        return F.embedding_bag(rows, table, mode="sum", per_sample_weights=weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        """Gradients of the table, and of the weights where points have one."""
        rows, weights, table = ctx.saved_tensors
        to_table = to_weights = None
        if ctx.needs_input_grad[0]:
            # Sorted by texel, each texel's gradient is a weighted sum of rows again, of the samples that read it.
            texels, order = rows.flatten().sort()
            starts = torch.searchsorted(texels, torch.arange(ctx.texels, dtype=texels.dtype, device=texels.device))
            samples = (order // rows.shape[1]).int()
            shares = weights.flatten()[order]
            to_table = F.embedding_bag(samples, gradient, starts.int(), mode="sum", per_sample_weights=shares)
        if ctx.needs_input_grad[2]:
            to_weights = torch.stack([(table[row] * gradient).sum(-1) for row in rows.T], -1)
        return to_table, None, to_weights


def depth_features(depth: Tensor, distance: Tensor, frequencies: int) -> Tensor:
    """Depth relative to the world's origin, and octaves of its sine and cosine.

    Args:
        depth: Along the source camera's axis, ``[N]``, world units.
        distance: Of the source camera from the origin, ``[]``.
        frequencies: Octaves; the slowest has a period of 4 world units.

    Returns:
        ``[N, 1 + 2 frequencies]``.
    """
    offset = depth - distance
    octaves = 2.0 ** torch.arange(frequencies, device=depth.device, dtype=depth.dtype) * (torch.pi / 2)
    phases = offset[:, None] * octaves
    return torch.cat([offset[:, None], torch.sin(phases), torch.cos(phases)], dim=-1)


class ObjectField:
    """One object's radiance field in the model's frame (the `Field` protocol of `vfusion3d.rendering`).

    Args:
        field: The point MLP.
        planes: ``[3, C, R, R]``.
        source_features: ``[P, h, w]`` or None.
        source_camera: Camera of the source picture in the model's frame, shape ``[]``; needed with features or
            depth frequencies.
    """

    def __init__(
        self,
        field: TriplaneField,
        planes: Tensor,
        source_features: Tensor | None = None,
        source_camera: Cameras | None = None,
    ) -> None:
        self.field = field
        self.source_camera = source_camera
        maps = field.project(planes, source_features)
        self.shapes = [(m.shape[-2], m.shape[-1]) for m in maps]
        self.table = torch.cat([m.flatten(1) for m in maps], dim=1).T.float().contiguous()

    def density(self, points: Tensor) -> Tensor:
        """Density ``[N]`` at points ``[N, 3]``; 0 outside the cube."""
        raw = self._evaluate(points, outputs=1)[:, 0]
        return self._inside(self.activate(self.shaped(raw, points)), points)

    def density_and_colour(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Density ``[N]`` and colour ``[N, 3]`` in [-0.001, 1.001] at points ``[N, 3]``."""
        raw, colour = self.raw_density_and_colour(points)
        return self._inside(self.activate(raw), points), colour

    def raw_density_and_colour(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Density before `activate` ``[N]`` and colour ``[N, 3]`` at points ``[N, 3]``, outside the cube too."""
        raw = self._evaluate(points, outputs=4)
        return self.shaped(raw[:, 0], points), torch.sigmoid(raw[:, 1:]) * 1.002 - 0.001

    def activate(self, raw: Tensor) -> Tensor:
        """Density per world unit of raw density."""
        return F.softplus(raw + self.field.density_bias)

    def on_lattice(self, resolution: int) -> PlaneLattice | None:
        """The density on the lattice over the cube, or None where a point's features are not a sum of the planes'."""
        if len(self.shapes) > 3 or self.field.depth_frequencies:
            return None
        return PlaneLattice(self, resolution)

    def _evaluate(self, points: Tensor, outputs: int) -> Tensor:
        """Raw outputs ``[N, outputs]``; without gradients in pieces that stay in the processor's cache."""
        field, where = self.field, (self.table, self.shapes, self.source_camera)
        if torch.is_grad_enabled() or points.device.type != "cpu":
            raw: Tensor = field(points, *where, outputs)
            return raw
        result = points.new_empty(len(points), outputs)
        decoder = Decoder(field, outputs, min(CACHED_POINTS, len(points)))
        for part, place in zip(points.split(CACHED_POINTS), result.split(CACHED_POINTS), strict=True):
            place.copy_(field(part, *where, outputs) if field.compiled else decoder(field.first_sums(part, *where)))
        return result

    def shaped(self, raw: Tensor, points: Tensor) -> Tensor:
        """Raw density with the initial ball, if the model has one."""
        if not self.field.sphere_slope:
            return raw
        return raw + self.field.sphere_slope * (self.field.sphere_radius - points.norm(dim=-1))

    @staticmethod
    def _inside(density: Tensor, points: Tensor) -> Tensor:
        return density * (points.abs() <= 1).all(-1)


class PlaneLattice:
    """One object's density on the lattice over the cube ``[-1, 1]^3`` (the `Lattice` protocol), without gradients.

    On a lattice the planes are read at the same places again and again: they are resampled once, and a point's first
    activations are the sum of one row of each. Exact but for the order of sums.

    Args:
        field: The object; its features are those of the three planes alone.
        resolution: Lattice points a side.
    """

    def __init__(self, field: ObjectField, resolution: int) -> None:
        self.field, self.resolution = field, resolution
        self.device = field.table.device
        self.axis = torch.linspace(-1, 1, resolution, device=self.device)
        unit = (self.axis + 1) / 2
        place = (unit.repeat(resolution), unit.repeat_interleave(resolution))  # columns vary fastest
        tables = field.table.detach().split([height * width for height, width in field.shapes])
        with torch.no_grad():
            maps = [
                TexelSum.apply(table, *texel_weights([place], [shape]))
                for table, shape in zip(tables, field.shapes, strict=True)
            ]
        self.table = torch.cat(maps)
        xy, xz, zy = (rows.view(resolution, resolution, -1).transpose(0, 1) for rows in maps)
        self.by_x = (xy, xz)  # [x, y] and [x, z]
        self.yz = zy.transpose(0, 1).contiguous()

    @torch.no_grad()
    def at(self, index: Tensor) -> Tensor:
        """As `Lattice.at`."""
        size, result = self.resolution, self.axis.new_empty(len(index))
        decoder = Decoder(self.field.field, 1, min(CACHED_POINTS, len(index)))
        for part, place in zip(index.int().split(CACHED_POINTS), result.split(CACHED_POINTS), strict=True):
            z, rest = part % size, part // size
            x, y = rest // size, rest % size
            rows = torch.stack([y * size + x, z * size + (x + size**2), y * size + (z + 2 * size**2)], -1)
            hidden = F.embedding_bag(rows, self.table, mode="sum")
            place.copy_(self._density(decoder(hidden)[:, 0], x, y, z))
        return result

    @torch.no_grad()
    def everywhere(self, progress: Progress | None = None) -> Tensor:
        """As `Lattice.everywhere`."""
        size, width = self.resolution, self.table.shape[1]
        count = max(1, SLAB_POINTS // size) if self.device.type == "cpu" else size
        result = torch.empty(size, size, size)
        memory = self.table.new_empty(count, size, width)
        decoder = Decoder(self.field.field, 1, count * size)
        every = torch.arange(size, device=self.device)
        for start in range(0, size, count):
            rows = slice(start, min(start + count, size))
            block = self.yz[rows].clone()  # stays in the cache while x runs
            slab = self.axis.new_empty(size, len(block), size)
            for x in range(size):
                hidden = torch.add(block, self.by_x[1][x], out=memory[: len(block)])
                hidden = hidden.add_(self.by_x[0][x, rows, None]).view(-1, width)
                slab[x] = decoder(hidden).view(-1, size)
            result[:, rows] = self._density(slab, every[:, None, None], every[rows, None], every).cpu()
            if progress is not None:
                progress(rows.stop, size)
        return result

    def _density(self, raw: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Density from raw density at lattice indices that broadcast to its shape."""
        if self.field.field.sphere_slope:
            places = torch.broadcast_tensors(self.axis[x], self.axis[y], self.axis[z])
            raw = self.field.shaped(raw, torch.stack(places, -1))
        return self.field.activate(raw)


def _linear(layer: nn.Linear, x: Tensor, outputs: int | None = None) -> Tensor:
    """A layer or its first outputs, in float32 whatever the weights are stored in (autocast still decides)."""
    weight, bias = (layer.weight, layer.bias) if outputs is None else (layer.weight[:outputs], layer.bias[:outputs])
    return F.linear(x, weight.float(), bias.float())
