"""Flow matching: levels, target and solvers belong together."""

import math

import pytest
import torch

from vfusion3d.errors import UsageError
from vfusion3d.video import FlowMatching


def test_levels_are_a_shifted_logit_normal():
    process = FlowMatching(shift=3.0)
    levels = process.levels(torch.linspace(0, 1, 1001)[:-1])
    assert bool((levels.diff() > 0).all()) and float(levels[0]) > 0 and float(levels[-1]) < 1
    middle = process.levels(torch.tensor([0.5]))  # sigmoid(0) = 1/2, shifted: 3/4
    assert float(middle) == pytest.approx(0.75, abs=1e-6)
    above = process.levels(torch.tensor([0.8413447]))  # one standard deviation above
    plain = 1 / (1 + math.exp(-1))
    assert float(above) == pytest.approx(3 * plain / (1 + 2 * plain), abs=1e-5)


def test_the_target_leads_back_to_the_clean_latents():
    process = FlowMatching()
    clean, noise, levels = torch.randn(2, 3, 4, 2, 2), torch.randn(2, 3, 4, 2, 2), torch.tensor([0.2, 0.9])
    pair = process.pair(clean, noise, levels)
    torch.testing.assert_close(pair.inputs[1], 0.1 * clean[1] + 0.9 * noise[1])
    torch.testing.assert_close(pair.timesteps, torch.tensor([200.0, 900.0]))
    torch.testing.assert_close(process.clean(pair.target, pair.inputs, levels), clean)


@pytest.mark.parametrize("solver", FlowMatching.solvers)
def test_solvers_follow_a_true_velocity_to_the_data(solver):
    process = FlowMatching(shift=5.0)
    scheduler = process.scheduler(solver)
    scheduler.set_timesteps(8)
    data, noise = torch.randn(1, 2, 3, 2, 2), torch.randn(1, 2, 3, 2, 2)
    latents = noise * scheduler.init_noise_sigma
    for time in scheduler.timesteps:
        inputs = scheduler.scale_model_input(latents, time)
        assert 0 < float(time) <= 1000
        latents = scheduler.step(noise - data, time, inputs, return_dict=False)[0]
    torch.testing.assert_close(latents, data, rtol=1e-3, atol=1e-3)


def test_other_solvers_are_refused():
    with pytest.raises(UsageError, match="must be one of unipc, euler, but got 'ddim'"):
        FlowMatching().scheduler("ddim")
