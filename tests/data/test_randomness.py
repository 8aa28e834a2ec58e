from __future__ import annotations

import torch

from vfusion3d.data.randomness import _mix, _mix_number, _signed, sample_generator, sample_seed, unit_noise


def test_tensor_and_number_hash_agree_with_the_published_sequence() -> None:
    # splitmix64 started at 0: the first outputs of the reference implementation.
    golden = 0x9E3779B97F4A7C15
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [_mix_number(golden * k % 2**64) for k in (1, 2, 3)] == expected
    bits = torch.arange(1, 4) * _signed(golden)
    assert _mix(bits).tolist() == [_signed(x) for x in expected]


def test_unit_noise_is_uniform() -> None:
    noise = unit_noise(3, torch.arange(4000), torch.zeros(4000, dtype=torch.int64), count=5)
    assert noise.dtype == torch.float32 and noise.shape == (4000, 5)
    assert float(noise.min()) >= 0 and float(noise.max()) < 1
    torch.testing.assert_close(noise.mean(0), torch.full((5,), 0.5), atol=0.02, rtol=0)
    torch.testing.assert_close(noise.var(0), torch.full((5,), 1 / 12), atol=0.005, rtol=0)
    correlation = torch.corrcoef(torch.cat([noise[:-1], noise[1:]], 1).T) - torch.eye(10)
    assert float(correlation.abs().max()) < 0.06


def test_unit_noise_depends_on_each_argument_and_not_on_the_batch() -> None:
    samples, epochs = torch.tensor([3, 4, 3]), torch.tensor([0, 0, 1])
    noise = unit_noise(0, samples, epochs, 4)
    for row in range(3):
        assert torch.equal(noise[row], unit_noise(0, samples[row : row + 1], epochs[row : row + 1], 4)[0])
    others = [unit_noise(1, samples, epochs, 4), unit_noise(0, samples, epochs, 4, stream=1), noise[[1, 2, 0]]]
    assert all(bool((noise != other).any(1).all()) for other in others)
    assert torch.equal(noise[:, :2], unit_noise(0, samples, epochs, 2))


def test_sample_seed_has_no_collisions_between_neighbours() -> None:
    keys = [(s, n, e, k) for s in range(3) for n in range(20) for e in range(20) for k in range(3)]
    seeds = {sample_seed(*key) for key in keys}
    assert len(seeds) == len(keys)
    assert all(0 <= seed < 2**63 for seed in seeds)
    first, second = (torch.rand(3, generator=sample_generator(0, 5, e)) for e in (0, 1))
    assert not torch.equal(first, second)
