from __future__ import annotations

import pytest

from vfusion3d.callbacks import ResolutionSchedule


def test_paper_stages():
    schedule = ResolutionSchedule([128, 192, 256, 320, 384], [5, 5, 5, 5, 10])
    assert [schedule.resolution(e) for e in range(0, 30, 5)] == [128, 192, 256, 320, 384, 384]
    assert schedule.resolution(4.999) == 128 and schedule.resolution(5.0) == 192


def test_fractional_epochs_survive_rounding():
    schedule = ResolutionSchedule([8, 16], [0.3, 1.0])
    assert schedule.resolution(0.1 + 0.2) == 16  # 0.30000000000000004, and 0.3 by another sum
    assert schedule.resolution(0.3 - 1e-12) == 16


def test_uniform():
    assert ResolutionSchedule(uniform=(128, 384)).resolution(7) == (128, 384)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "`resolutions` and `epochs`"),
        ({"resolutions": [8], "epochs": [1, 2]}, "same length"),
        ({"resolutions": [8], "epochs": [0]}, "positive"),
        ({"resolutions": [8], "epochs": [1], "uniform": (4, 8)}, "excludes"),
        ({"uniform": (8, 4)}, "low <= high"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ResolutionSchedule(**arguments)
