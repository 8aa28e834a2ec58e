from __future__ import annotations

import pytest
import torch

from vfusion3d.alpha import over_white
from vfusion3d.cameras import orbit
from vfusion3d.data.procedural import sample_objects
from vfusion3d.data.raycast import render
from vfusion3d.engine.stages.planted import KINDS, oracle_labels, oracle_psnr, plant
from vfusion3d.errors import UsageError
from vfusion3d.metrics import psnr


@pytest.fixture(scope="module")
def truth():
    cameras = orbit(16, 0.4).unsqueeze(0).expand(6, 16)
    return over_white(render(sample_objects(torch.arange(6)), cameras, 24, 24, supersample=1))


@pytest.mark.parametrize("kind", KINDS)
def test_every_failure_shows_and_the_first_frame_stays(truth, kind):
    for seed in range(6):
        bad = plant(kind, truth[seed], truth[seed - 1], seed)
        assert bad.shape == truth[seed].shape and bad.min() >= 0 and bad.max() <= 1
        torch.testing.assert_close(bad[0], truth[seed, 0])
        assert torch.equal(bad, plant(kind, truth[seed], truth[seed - 1], seed))
        assert oracle_psnr(bad, truth[seed]) < 24  # a true orbit has 100


def test_failures_grow(truth):
    for kind in ("deformation", "colour drift"):
        figures = psnr(plant(kind, truth[0], truth[1], 0), truth[0])
        assert figures[1] > figures[6] > figures[15] - 0.5


def test_the_oracle_sees_what_a_mean_hides(truth):
    blank = plant("blank frames", truth[0], truth[1], 0)
    noisy = (truth[0] + 0.06 * torch.randn(truth[0].shape)).clamp(0, 1)
    assert psnr(blank, truth[0]).mean() > psnr(noisy, truth[0]).mean()
    both = torch.stack([blank, noisy])
    assert oracle_labels(both, truth[:1].expand(2, -1, -1, -1, -1), 20.0).tolist() == [False, True]


def test_an_unknown_failure_is_refused(truth):
    with pytest.raises(UsageError, match="must be one of deformation, colour drift"):
        plant("flood", truth[0], truth[1], 0)
