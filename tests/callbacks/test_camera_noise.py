from __future__ import annotations

import pytest
import torch

from vfusion3d import random_sphere
from vfusion3d.callbacks import CameraNoise


def batch(samples, epoch=0):
    cameras = random_sphere(len(samples) * 4, generator=torch.Generator().manual_seed(0)).reshape(-1, 4)
    return cameras, {"sample": torch.tensor(samples), "epoch": torch.full((len(samples),), epoch)}


def test_a_rotation_stays_a_rotation_and_noise_is_bounded():
    cameras, b = batch([3, 9])
    noisy = CameraNoise(0.02, 0.03, 0.01).apply(cameras, b, "render")
    noisy.validate(1e-4)
    turn = noisy.poses[..., :3] @ cameras.poses[..., :3].transpose(-1, -2)
    angle = torch.arccos(((turn.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).clamp(-1, 1))
    assert 0 < float(angle.max()) <= 0.02 * 3**0.5 + 1e-3
    shift = (noisy.centers - cameras.centers).norm(dim=-1)
    assert 0 < float(shift.max()) <= 0.03 * 3**0.5 + 1e-6
    change = (noisy.intrinsics - cameras.intrinsics).abs()
    assert 0.005 < float(change.max()) <= 0.01 + 1e-6


def test_noise_is_a_function_of_sample_and_epoch_and_independent_per_view():
    noise = CameraNoise()
    cameras, both = batch([3, 9])
    second, alone = cameras[1:], {"sample": torch.tensor([9]), "epoch": torch.tensor([0])}
    torch.testing.assert_close(
        noise.apply(cameras, both, "render").poses[1:], noise.apply(second, alone, "render").poses
    )
    other = noise.apply(second, {**alone, "epoch": torch.tensor([1])}, "render")
    assert not torch.allclose(other.poses, noise.apply(second, alone, "render").poses)
    moved = (noise.apply(cameras, both, "render").centers - cameras.centers).reshape(-1, 3)
    assert len(torch.unique(moved, dim=0)) == 8


@pytest.mark.parametrize(
    ("targets", "changed"), [("source", {"source"}), ("render", {"render"}), ("both", {"source", "render"})]
)
def test_targets(targets, changed):
    cameras, b = batch([1])
    for target in ("source", "render"):
        noisy = CameraNoise(targets=targets).apply(cameras, b, target)
        assert torch.equal(noisy.poses, cameras.poses) == (target not in changed)


def test_bad_arguments():
    with pytest.raises(ValueError, match="`targets` must be one of"):
        CameraNoise(targets="everything")
    with pytest.raises(ValueError, match="`rotation` must not be negative"):
        CameraNoise(rotation=-1)
