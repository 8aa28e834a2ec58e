from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from vfusion3d import ReconstructorConfig
from vfusion3d.models.field import ObjectField, TriplaneField


@pytest.fixture
def plain_field() -> Callable[..., ObjectField]:
    """A small random field of three planes, every weight and bias drawn."""

    def build(slope: float = 0.0, padding: str = "zeros") -> ObjectField:
        changes = {"pixel_aligned_channels": 0, "depth_frequencies": 0, "image_alpha": False}
        config = ReconstructorConfig.preset("tiny", density_sphere_slope=slope, plane_padding=padding, **changes)
        field = TriplaneField(config)
        for parameter in field.parameters():
            torch.nn.init.normal_(parameter, std=0.4)  # the biases too
        return ObjectField(field, torch.randn(3, config.triplane_channels, 8, 8))

    return build
