from __future__ import annotations

import pytest
import torch

from vfusion3d.errors import CheckpointError
from vfusion3d.training import (
    LossWeights,
    PerceptualLoss,
    inside_loss,
    opacity_loss,
    parameter_groups,
    total_variation,
)


def test_against_fixtures(shared):
    import numpy as np

    data = np.load(shared / "parity" / "extras" / "data.npz")
    planes = torch.from_numpy(data["tv_planes"])
    assert float(total_variation(planes)) == pytest.approx(float(data["loss_tv"]), rel=1e-5)


def test_opacity_loss():
    opacity, mask = torch.rand(100), torch.rand(100)
    bce = torch.nn.functional.binary_cross_entropy(opacity.clamp(1e-4, 1 - 1e-4), mask)
    torch.testing.assert_close(opacity_loss(opacity, mask), bce)
    torch.testing.assert_close(opacity_loss(opacity, mask, "mse"), (opacity - mask).square().mean())
    edge = torch.tensor([0.0, 1.0], requires_grad=True)
    opacity_loss(edge, torch.tensor([1.0, 0.0])).backward()
    assert torch.isfinite(edge.grad).all()


def test_inside_loss_is_the_entropy_of_a_short_ray():
    density, inside = torch.rand(100) * 40 + 0.1, (torch.rand(100) > 0.5).float()
    opacity = 1 - torch.exp(-density * 0.1)
    wanted = torch.nn.functional.binary_cross_entropy(opacity, inside)
    torch.testing.assert_close(inside_loss(density, inside), wanted, atol=1e-4, rtol=0)
    edge = torch.tensor([0.0, 0.0, 1e6, 1e6], requires_grad=True)
    loss = inside_loss(edge, torch.tensor([0.0, 1.0, 0.0, 1.0]))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(edge.grad).all()
    assert edge.grad[0] > 0 and edge.grad[1] < -100 and edge.grad[2] > 0 and edge.grad[3] == 0  # wrong ones can learn


def test_random_features_are_seeded_and_not_lpips():
    state = torch.get_rng_state()
    first, second = PerceptualLoss("squeeze", "random"), PerceptualLoss("squeeze", "random")
    assert torch.equal(state, torch.get_rng_state())
    a, b = torch.rand(2, 3, 32, 32, requires_grad=True), torch.rand(2, 3, 32, 32)
    assert not first.is_lpips and torch.equal(first(a, b), second(a, b))
    assert float(first(b, b)) == 0 and float(first(a, b)) > 0
    first(a, b).backward()
    assert a.grad.abs().sum() > 0


def test_local_trunk(tmp_path):
    import torchvision

    torch.manual_seed(0)
    network = torchvision.models.squeezenet1_1(weights=None)
    torch.save(network.state_dict(), tmp_path / "trunk.pth")
    loss = PerceptualLoss("squeeze", str(tmp_path / "trunk.pth"))
    assert loss.is_lpips
    own = next(iter(loss.distance.network.net.state_dict().values()))
    assert torch.equal(own, network.state_dict()["features.0.weight"])
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="is not a torchvision squeeze state dict"):
        PerceptualLoss("squeeze", str(tmp_path / "other.pth"))
    (tmp_path / "text.pth").write_text("no")
    with pytest.raises(CheckpointError, match="cannot be read"):
        PerceptualLoss("squeeze", str(tmp_path / "text.pth"))


@pytest.mark.parametrize("changes", [{"l2": -1.0}, {"opacity_form": "l1"}, {"trunk": "resnet"}])
def test_bad_weights(changes):
    with pytest.raises(ValueError, match="Loss"):
        LossWeights(**changes)


def test_groups_cover_all_parameters_once():
    from vfusion3d import TriplaneReconstructor

    model = TriplaneReconstructor("tiny")
    decay, plain = parameter_groups(model, 0.05)
    names = {id(p): n for n, p in model.named_parameters()}
    assert len(decay["params"]) + len(plain["params"]) == len(names)
    assert decay["weight_decay"] == 0.05 and plain["weight_decay"] == 0
    for p in plain["params"]:
        assert names[id(p)].endswith("bias") or "norm" in names[id(p)] or ".1." in names[id(p)]
    assert "decoder.positions" in {names[id(p)] for p in decay["params"]}
