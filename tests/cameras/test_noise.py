import math

import pytest
import torch

from vfusion3d.cameras import orbit, rigid_noise
from vfusion3d.cameras.noise import rotation_from_vector


def test_rotation_from_vector():
    quarter = rotation_from_vector(torch.tensor([0.0, 0.0, math.pi / 2]))
    torch.testing.assert_close(quarter, torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), atol=1e-6, rtol=0)
    torch.testing.assert_close(rotation_from_vector(torch.zeros(2, 3)), torch.eye(3).expand(2, 3, 3))


def test_rotations_stay_rotations():
    clean = orbit(200, elevation=0.3)
    noisy = rigid_noise(clean, 0.5, 0.1, 0.02, generator=torch.Generator().manual_seed(0))
    noisy.validate(tolerance=1e-5)
    assert (noisy.poses[..., :3] - clean.poses[..., :3]).abs().max() > 0.2


def test_amounts_and_units():
    clean = orbit(500).to(torch.float64)
    noisy = rigid_noise(clean, 0.02, 0.05, 0.01, generator=torch.Generator().manual_seed(0))
    turn = clean.poses[..., :3].transpose(-1, -2) @ noisy.poses[..., :3]
    skew = (turn - turn.transpose(-1, -2)) / 2
    angle = torch.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]])
    shift = (clean.poses[..., :3].transpose(-1, -2) @ (noisy.centers - clean.centers)[..., None]).flatten()
    change = (noisy.intrinsics - clean.intrinsics).flatten()
    for numbers, largest in ((angle, 0.02), (shift, 0.05), (change, 0.01)):
        assert 0.95 * largest < numbers.abs().max() <= largest * 1.0001
        assert numbers.mean().abs() < 0.05 * largest
        assert numbers.std() == pytest.approx(largest / math.sqrt(3), rel=0.05)


def test_none_is_none():
    clean = orbit(5)
    same = rigid_noise(clean, 0.0, 0.0, 0.0)
    torch.testing.assert_close(same.poses, clean.poses)
    torch.testing.assert_close(same.intrinsics, clean.intrinsics)


def test_given_numbers_replace_the_generator():
    clean = orbit(4).reshape(2, 2)
    unit = torch.rand(2, 2, 10, generator=torch.Generator().manual_seed(0))
    noisy = rigid_noise(clean, 0.1, 0.1, 0.1, unit=unit)
    torch.testing.assert_close(noisy[1, 0].poses, rigid_noise(clean[1, 0], 0.1, 0.1, 0.1, unit=unit[1, 0]).poses)
    torch.testing.assert_close(noisy.poses, rigid_noise(clean, 0.1, 0.1, 0.1, unit=unit).poses, atol=0, rtol=0)
    centre = rigid_noise(clean, 0.1, 0.1, 0.1, unit=torch.full((2, 2, 10), 0.5))
    torch.testing.assert_close(centre.poses, clean.poses)


def test_views_are_independent():
    clean = orbit(2)
    noisy = rigid_noise(clean, 0.1, 0.1, generator=torch.Generator().manual_seed(0))
    local = clean.poses[..., :3].transpose(-1, -2) @ (noisy.centers - clean.centers)[..., None]
    assert (local[0] - local[1]).abs().max() > 1e-3
