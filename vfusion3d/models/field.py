"""Planes to density and colour: the point MLP, and the table that makes it fast.

A linear layer commutes with bilinear interpolation, so the first layer is applied to the texels once instead
of to every sample: the planes become one table of rows already ``field_dim`` wide, and a point's first
activations are a weighted sum of 12 rows (16 with pixel-aligned features), which `embedding_bag` does in one
pass over memory.
"""

from __future__ import annotations

from copy import copy
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vfusion3d.cameras import Cameras
from vfusion3d.models.config import ReconstructorConfig
from vfusion3d.models.linear import linear_without_gradients
from vfusion3d.models.texels import TexelSum, texel_weights

CACHED_POINTS = 8192
"""Points evaluated at once on a processor, whose activations fit its caches."""


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
        """First layer applied to the texels of B objects, padded by one texel for interpolation at the rim.

        Its bias is in the first plane: what a point reads of a plane has weights that add up to 1, also outside.

        Args:
            planes: ``[B, 3, C, R, R]``.
            source_features: ``[B, P, h, w]`` or None.

        Returns:
            One map ``[B, field_dim, R + 2, R + 2]`` per plane, then the source map (zero beyond the picture).
        """
        weight = self.first.weight.float()
        channels = planes.shape[2]
        maps = []
        mode = "constant" if self.padding == "zeros" else "replicate"
        for k, plane in enumerate(planes.unbind(1)):
            projected = F.conv2d(plane, weight[:, k * channels : (k + 1) * channels, None, None])
            maps.append(F.pad(projected, (1, 1, 1, 1), mode=mode))
        maps[0] = maps[0] + self.first.bias.float()[:, None, None]
        if source_features is not None:
            last = 3 * channels + source_features.shape[1]
            projected = F.conv2d(source_features, weight[:, 3 * channels : last, None, None])
            maps.append(F.pad(projected, (1, 1, 1, 1)))
        return maps

    def forward(
        self,
        points: Tensor,
        table: Tensor,
        shapes: list[tuple[int, int]],
        camera: Cameras | None = None,
        outputs: int = 4,
        start: Tensor | None = None,
    ) -> Tensor:
        """Raw density and colour of one object, or of several.

        Args:
            points: In the model's frame, ``[N, 3]``.
            table: Texels of all maps of `project`, one row each, ``[T, field_dim]``; objects one after the other.
            shapes: Height and width of each map.
            camera: Source camera in the model's frame, if there is a source map or depth is a feature; of several
                objects one per point, ``[N]``.
            outputs: 4, 1 for the density alone, or 0 for what `first_sums` returns.
            start: First row of each point's object in the table, int32 ``[N]``; None for one object.

        Returns:
            ``[N, outputs]`` before any activation.
        """
        sums = self.first_sums(points, table, shapes, camera, start)
        return self.decode(sums, outputs) if outputs else sums

    def first_sums(
        self,
        points: Tensor,
        table: Tensor,
        shapes: list[tuple[int, int]],
        camera: Cameras | None = None,
        start: Tensor | None = None,
    ) -> Tensor:
        """What the first layer makes of points, ``[N, field_dim]``; arguments as `forward`."""
        x, y, z = ((points.T + 1) / 2).contiguous()
        places = [(x, y), (x, z), (z, y)]
        depth = None
        if camera is not None and (len(shapes) == 4 or self.depth_frequencies):
            uv, depth = camera.project(points) if start is None else _project_each(camera, points)
            if len(shapes) == 4:
                places.append((uv[:, 0], uv[:, 1]))
        hidden: Tensor = TexelSum.apply(table, *texel_weights(places, shapes, start))
        if camera is not None and depth is not None and self.depth_frequencies:
            extra = depth_features(depth, camera.centers.norm(dim=-1), self.depth_frequencies)
            hidden = hidden + F.linear(extra, self.first.weight[:, -self.depth_features :].float())
        return hidden

    def decode(self, hidden: Tensor, outputs: int = 4) -> Tensor:
        """Raw density and colour ``[N, outputs]`` from the first layer's sums ``[N, field_dim]``."""
        for layer in self.layers[1:-1]:
            hidden = _linear(layer, hidden) if isinstance(layer, nn.Linear) else layer(hidden)
        return _linear(self.last, hidden, outputs).float()


class Decoder:
    """`TriplaneField.decode` for many calls without gradients.

    Args:
        field: The point MLP.
        outputs: 4, or 1 for the density alone.
    """

    def __init__(self, field: TriplaneField, outputs: int) -> None:
        linear = [layer for layer in field.layers[1:-1] if isinstance(layer, nn.Linear)]
        self.inner = [(layer.weight.float(), layer.bias.float()) for layer in linear]
        self.last = (field.last.bias[:outputs, None].float(), field.last.weight[:outputs].float())
        self.activation = field.layers[1]
        self.relu = isinstance(self.activation, nn.ReLU)

    def __call__(self, hidden: Tensor, out: Tensor | None = None) -> Tensor:
        """Raw outputs ``[outputs, N]``, into ``out`` if given, from sums ``[N, field_dim]``, which are overwritten."""
        hidden = hidden.relu_() if self.relu else self.activation(hidden)
        for weight, bias in self.inner:
            hidden = linear_without_gradients(hidden, weight, bias, self.relu)
            hidden = hidden if self.relu else self.activation(hidden)
        return torch.addmm(*self.last, hidden.T, out=out)


def depth_features(depth: Tensor, distance: Tensor, frequencies: int) -> Tensor:
    """Depth relative to the world's origin, and octaves of its sine and cosine.

    Args:
        depth: Along the source camera's axis, ``[N]``, world units.
        distance: Of the source camera from the origin, ``[]`` or ``[N]``.
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
        maps = field.project(planes[None], None if source_features is None else source_features[None])
        self.shapes = [(m.shape[-2], m.shape[-1]) for m in maps]
        self.table = _texels(maps)[0]

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
        colour = torch.add(raw.new_tensor(-0.001), torch.sigmoid(raw[:, 1:]), alpha=1.002)  # one pass, not two
        return self.shaped(raw[:, 0], points), colour

    def activate(self, raw: Tensor) -> Tensor:
        """Density per world unit of raw density."""
        return F.softplus(raw + self.field.density_bias)

    @property
    def planar(self) -> bool:
        """Whether a point's features come from the three planes alone."""
        return len(self.shapes) == 3 and not self.field.depth_frequencies

    def _evaluate(self, points: Tensor, outputs: int) -> Tensor:
        """Raw outputs ``[N, outputs]``; without gradients in pieces that stay in the processor's cache."""
        field, where = self.field, (self.table, self.shapes, self.source_camera)
        if torch.is_grad_enabled() or points.device.type != "cpu":
            raw: Tensor = field(points, *where, outputs)
            return raw
        result = points.new_empty(outputs, len(points))
        decoder = Decoder(field, outputs)
        for part, place in zip(points.split(CACHED_POINTS), result.split(CACHED_POINTS, 1), strict=True):
            decoder(field(part, *where, 0), out=place)
        return result.T

    def shaped(self, raw: Tensor, points: Tensor) -> Tensor:
        """Raw density with the initial ball, if the model has one."""
        if not self.field.sphere_slope:
            return raw
        return raw + self.field.sphere_slope * (self.field.sphere_radius - points.norm(dim=-1))

    @staticmethod
    def _inside(density: Tensor, points: Tensor) -> Tensor:
        """Density without what lies outside the cube."""
        if points.device.type == "cpu" and len(points):
            low, high = torch.aminmax(points.detach())
            if low >= -1 and high <= 1:  # as all samples of rays
                return density
        return density * (points.abs() <= 1).all(-1)


class BatchField(ObjectField):
    """The radiance fields of B objects, evaluated together: accelerators are idle while they start a kernel for each.

    Points are those of rays of which `of` told the objects.

    Args:
        field: The point MLP.
        planes: ``[B, 3, C, R, R]``.
        source_features: ``[B, P, h, w]`` or None.
        source_cameras: Cameras of the source pictures in the model's frame, ``[B]``; needed as by `ObjectField`.
    """

    def __init__(
        self,
        field: TriplaneField,
        planes: Tensor,
        source_features: Tensor | None = None,
        source_cameras: Cameras | None = None,
    ) -> None:
        self.field = field
        self.source_camera = source_cameras
        maps = field.project(planes, source_features)
        self.shapes = [(m.shape[-2], m.shape[-1]) for m in maps]
        self.table = _texels(maps).flatten(0, 1)
        self.texels = len(self.table) // len(planes)
        self.owners: Tensor | None = None

    def of(self, owners: Tensor) -> BatchField:
        """The field of points that lie on rays, as many on each, in order.

        Args:
            owners: Which object each ray meets, int64 ``[R]``.
        """
        field = copy(self)
        field.owners = owners
        return field

    def _evaluate(self, points: Tensor, outputs: int) -> Tensor:
        if self.owners is None:
            raise ValueError("Say with `of` which objects the points are of.")
        owners = self.owners.repeat_interleave(len(points) // len(self.owners))
        camera = None if self.source_camera is None else self.source_camera[owners]
        raw: Tensor = self.field(points, self.table, self.shapes, camera, outputs, owners.int() * self.texels)
        return raw


def _texels(maps: list[Tensor]) -> Tensor:
    """Maps ``[B, D, H, W]`` of any sizes as rows of one table for each object, ``[B, T, D]``."""
    return torch.cat([m.flatten(2) for m in maps], dim=2).mT.float().contiguous()


def _project_each(cameras: Cameras, points: Tensor) -> tuple[Tensor, Tensor]:
    """Each of N points by a camera of its own: positions ``[N, 2]`` and depths ``[N]``."""
    uv, depth = cameras.project(points[:, None])
    return uv[:, 0], depth[:, 0]


def _linear(layer: nn.Linear, x: Tensor, outputs: int | None = None) -> Tensor:
    """A layer or its first outputs, in float32 whatever the weights are stored in (autocast still decides)."""
    weight, bias = (layer.weight, layer.bias) if outputs is None else (layer.weight[:outputs], layer.bias[:outputs])
    return F.linear(x, weight.float(), bias.float())
