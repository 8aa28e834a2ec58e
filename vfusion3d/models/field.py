"""Planes to density and colour: the point MLP, and the table that makes it fast.

A linear layer commutes with bilinear interpolation, so the first layer is applied to the texels once instead
of to every sample: the planes become one table of rows already ``field_dim`` wide, and a point's first
activations are a weighted sum of 12 rows (16 with pixel-aligned features), which `embedding_bag` does in one
pass over memory.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vfusion3d.cameras import Cameras
from vfusion3d.models.config import ReconstructorConfig


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
        """First layer applied to the texels of one object, padded by one texel for interpolation at the rim.

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
        if source_features is not None:
            last = 3 * channels + source_features.shape[0]
            projected = F.conv2d(source_features[None], weight[:, 3 * channels : last, None, None])
            maps.append(F.pad(projected, (1, 1, 1, 1))[0])
        return maps


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
        self.shapes = [m.shape[-2:] for m in maps]
        self.table = torch.cat([m.flatten(1) for m in maps], dim=1).T.float().contiguous()

    def density(self, points: Tensor) -> Tensor:
        """Density ``[N]`` at points ``[N, 3]``; 0 outside the cube."""
        raw = _linear(self.field.last, self._hidden(points), outputs=1)[:, 0].float()
        return self._inside(self.activate(self._shaped(raw, points)), points)

    def density_and_colour(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Density ``[N]`` and colour ``[N, 3]`` in [-0.001, 1.001] at points ``[N, 3]``."""
        raw, colour = self.raw_density_and_colour(points)
        return self._inside(self.activate(raw), points), colour

    def raw_density_and_colour(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Density before `activate` ``[N]`` and colour ``[N, 3]`` at points ``[N, 3]``, outside the cube too."""
        raw = _linear(self.field.last, self._hidden(points)).float()
        return self._shaped(raw[:, 0], points), torch.sigmoid(raw[:, 1:]) * 1.002 - 0.001

    def activate(self, raw: Tensor) -> Tensor:
        """Density per world unit of raw density."""
        return F.softplus(raw + self.field.density_bias)

    def _shaped(self, raw: Tensor, points: Tensor) -> Tensor:
        if not self.field.sphere_slope:
            return raw
        return raw + self.field.sphere_slope * (self.field.sphere_radius - points.norm(dim=-1))

    @staticmethod
    def _inside(density: Tensor, points: Tensor) -> Tensor:
        return density * (points.abs() <= 1).all(-1)

    def _hidden(self, points: Tensor) -> Tensor:
        """Activations before the last layer, ``[N, field_dim]``."""
        x, y, z = points.unbind(-1)
        places = [((x + 1) / 2, (y + 1) / 2), ((x + 1) / 2, (z + 1) / 2), ((z + 1) / 2, (y + 1) / 2)]
        camera, depth = self.source_camera, None
        if camera is not None and (len(self.shapes) == 4 or self.field.depth_frequencies):
            uv, depth = camera.project(points)
            if len(self.shapes) == 4:
                places.append((uv[:, 0], uv[:, 1]))
        rows, weights, start = [], [], 0
        for (height, width), (u, v) in zip(self.shapes, places, strict=True):
            row, weight = _bilinear(u, v, height, width)
            rows.append(row + start)
            weights.append(weight)
            start += height * width
        x = F.embedding_bag(torch.cat(rows, -1), self.table, mode="sum", per_sample_weights=torch.cat(weights, -1))
        first = self.field.first
        x = x + first.bias
        if camera is not None and depth is not None and self.field.depth_frequencies:
            extra = depth_features(depth, camera.centers.norm(), self.field.depth_frequencies)
            x = x + F.linear(extra, first.weight[:, -self.field.depth_features :].float())
        for layer in self.field.layers[1:-1]:
            x = _linear(layer, x) if isinstance(layer, nn.Linear) else layer(x)
        return x


def _linear(layer: nn.Linear, x: Tensor, outputs: int | None = None) -> Tensor:
    """A layer or its first outputs, in float32 whatever the weights are stored in (autocast still decides)."""
    weight, bias = (layer.weight, layer.bias) if outputs is None else (layer.weight[:outputs], layer.bias[:outputs])
    return F.linear(x, weight.float(), bias.float())


def _bilinear(u: Tensor, v: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Rows ``[N, 4]`` and weights ``[N, 4]`` of positions in the unit square in a map padded by one texel."""
    column = (u * (width - 2) + 0.5).clamp(0, width - 1)
    row = (v * (height - 2) + 0.5).clamp(0, height - 1)
    left, top = column.floor().clamp_max(width - 2), row.floor().clamp_max(height - 2)
    a, b = column - left, row - top
    index = (top * width + left).long()
    rows = torch.stack([index, index + 1, index + width, index + width + 1], -1)
    return rows, torch.stack([(1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b], -1)
