from __future__ import annotations

import pytest
import torch

from vfusion3d.models.field import CACHED_POINTS


@torch.no_grad()
def test_pieces_and_padding_do_not_change_values(plain_field):
    field = plain_field()
    points = torch.rand(CACHED_POINTS + 77, 3) * 2.4 - 1.2
    density, colour = field.density_and_colour(points)
    with torch.enable_grad():
        whole = field.density_and_colour(points)
    torch.testing.assert_close(density, whole[0].detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(colour, whole[1].detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(field.density(points), density, atol=1e-5, rtol=1e-5)
    assert not density[(points.abs() > 1).any(-1)].any()


@pytest.mark.slow
@torch.no_grad()
def test_compiled_field_has_the_same_values(plain_field):
    field = plain_field()
    points = torch.rand(1000, 3) * 2 - 1
    before = field.density_and_colour(points)
    field.field.compile()
    for a, b in zip(field.density_and_colour(points), before, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
