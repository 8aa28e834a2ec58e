from __future__ import annotations

import pytest
import torch

from vfusion3d.data.resize import area_resize


def test_whole_factors_are_means() -> None:
    images = torch.rand(2, 4, 12, 18, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(area_resize(images, 4, 6), torch.nn.functional.avg_pool2d(images, 3))
    torch.testing.assert_close(area_resize(images, 24, 36), images.repeat_interleave(2, -1).repeat_interleave(2, -2))
    assert area_resize(images, 12, 18) is images


@pytest.mark.parametrize("size", [5, 7, 11, 13])
def test_other_factors_equal_the_detour_over_a_common_multiple(size: int) -> None:
    images = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    fine = images.repeat_interleave(size, -1).repeat_interleave(size, -2)
    expected = torch.nn.functional.avg_pool2d(fine, 8)
    torch.testing.assert_close(area_resize(images, size, size), expected)
    torch.testing.assert_close(area_resize(images, size, size).mean(), images.mean())
