from __future__ import annotations

import pytest
import torch

from vfusion3d.errors import UsageError
from vfusion3d.video import ElucidatedDiffusion, VariancePreserving

PROCESSES = {
    "emu": VariancePreserving(),
    "i2vgen": VariancePreserving("squaredcos_cap_v2"),
    "svd": ElucidatedDiffusion(),
    "emu, clean": VariancePreserving(prediction_type="sample"),
    "svd, clean": ElucidatedDiffusion(prediction_type="sample"),
}
SOLVERS = [(name, solver) for name, process in PROCESSES.items() for solver in process.solvers]


def levels_at(process, times):
    """The levels of what the denoiser is told."""
    return (4 * times).exp() if isinstance(process, ElucidatedDiffusion) else times.long()


@pytest.mark.parametrize("name", PROCESSES)
def test_a_right_answer_is_the_clean_video(name):
    process = PROCESSES[name]
    clean, noise = torch.randn(5, 2, 3, 4, 4), torch.randn(5, 2, 3, 4, 4)
    levels = process.levels(torch.tensor([0.0, 0.2, 0.5, 0.8, 0.999]))
    pair = process.pair(clean, noise, levels)
    torch.testing.assert_close(process.clean(pair.target, pair.inputs, levels), clean, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(levels_at(process, pair.timesteps), levels, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "solver"), SOLVERS)
def test_a_perfect_denoiser_is_sampled_exactly(name, solver):
    """Solvers and training agree on levels, scaling and target: with the right answers the noise stays what it is."""
    process, clean = PROCESSES[name], torch.randn(1, 2, 3, 4, 4)
    scheduler = process.scheduler(solver)
    scheduler.set_timesteps(9)
    noise = torch.randn(1, 2, 3, 4, 4)
    latents = noise * scheduler.init_noise_sigma
    for time in scheduler.timesteps:
        inputs = scheduler.scale_model_input(latents, time)
        levels = levels_at(process, time[None])
        torch.testing.assert_close(inputs, process.pair(clean, noise, levels).inputs, rtol=0.02, atol=0.02)
        nothing, one = (process.clean(torch.full_like(inputs, raw), inputs, levels) for raw in (0.0, 1.0))
        right = (nothing - clean) / (nothing - one)  # `clean` is linear in the raw output
        latents = scheduler.step(right, time, latents, return_dict=False)[0]
    torch.testing.assert_close(latents, clean, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("name", PROCESSES)
def test_solvers_there_are_not(name):
    with pytest.raises(UsageError, match=r"`solver` must be one of .*euler.*, but got 'heun'"):
        PROCESSES[name].scheduler("heun")


def test_svd_levels_are_log_normal():
    sigma = PROCESSES["svd"].levels(torch.arange(20_001) / 20_001)
    log = sigma.log()
    assert torch.isfinite(log).all() and (log.diff() >= 0).all()
    assert log.mean() == pytest.approx(0.7, abs=0.01) and log.std() == pytest.approx(1.6, abs=0.01)


def test_svd_weights_are_edms():
    """Equal weights on v are EDM's ``(sigma^2 + s^2) / (sigma s)^2`` on the clean video, for s = 1."""
    process = PROCESSES["svd"]
    clean, noise, raw = (torch.randn(3, 2, 3, 4, 4, dtype=torch.float64) for _ in range(3))
    sigma = torch.tensor([0.01, 1.0, 50.0], dtype=torch.float64)
    pair = process.pair(clean, noise, sigma)
    ours = pair.weight * (raw - pair.target).square().mean((1, 2, 3, 4))
    edm = (process.clean(raw, pair.inputs, sigma) - clean).square().mean((1, 2, 3, 4)) * (sigma**2 + 1) / sigma**2
    torch.testing.assert_close(ours, edm, rtol=1e-9, atol=0)


def test_emu_ends_in_pure_noise():
    clean, noise = torch.randn(2, 2, 3, 4, 4), torch.randn(2, 2, 3, 4, 4)
    pair = VariancePreserving().pair(clean, noise, torch.tensor([999, 0]))
    torch.testing.assert_close(pair.inputs[0], noise[0])
    torch.testing.assert_close(pair.inputs[1], clean[1], atol=0.2, rtol=0)


def test_min_snr_weights():
    """Of v-prediction: ``min(snr, gamma) / (snr + 1)`` (arXiv 2303.09556)."""
    process = VariancePreserving(snr_gamma=5.0, zero_terminal_snr=False)
    levels = torch.tensor([0, 500, 999])
    squared = process.scheduler("ddim").alphas_cumprod[levels]
    snr = squared / (1 - squared)
    weight = process.pair(*torch.zeros(2, 3, 1, 1, 1, 1), levels).weight
    torch.testing.assert_close(weight, snr.clamp(max=5) / (snr + 1))


def test_min_snr_weighs_clean_latents_and_v_alike():
    clean, noise, raw = torch.randn(3, 3, 2, 3, 4, 4)
    levels = torch.tensor([900, 600, 100])
    ours = VariancePreserving(snr_gamma=5.0, prediction_type="sample").pair(clean, noise, levels)
    process = VariancePreserving(snr_gamma=5.0)
    other = process.pair(clean, noise, levels)
    wrong = (process.clean(raw, other.inputs, levels) - ours.target).square().mean((1, 2, 3, 4))
    expected = other.weight * (raw - other.target).square().mean((1, 2, 3, 4))
    torch.testing.assert_close(ours.weight * wrong, expected, rtol=1e-4, atol=1e-6)


def test_clean_latents_cost_what_v_does_where_there_is_noise():
    clean, noise, raw = torch.randn(3, 3, 2, 3, 4, 4)
    for name, levels, weight in (("emu", [999, 700, 1], 10.0), ("svd", [20.0, 0.5, 0.01], 10.0)):
        level = torch.tensor(levels)
        ours, other = PROCESSES[f"{name}, clean"].pair(clean, noise, level), PROCESSES[name].pair(clean, noise, level)
        wrong = (PROCESSES[name].clean(raw, other.inputs, level) - clean).square().mean((1, 2, 3, 4))
        expected = (raw - other.target).square().mean((1, 2, 3, 4))
        torch.testing.assert_close((ours.weight * wrong)[:2], expected[:2], rtol=1e-3, atol=1e-4)
        assert ours.weight[2] == weight
