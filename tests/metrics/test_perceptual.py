from __future__ import annotations

import urllib.error

import lpips
import pytest
import torch
import torchvision

from vfusion3d.errors import CheckpointError, MissingWeightsError
from vfusion3d.metrics import LpipsDistance, LpipsNetwork, lpips_distance


@pytest.fixture(scope="module")
def trunk(tmp_path_factory):
    """A file as torchvision's, of a network that was not trained."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("trunk") / "alexnet.pth"
    features = {f"features.{k}": v for k, v in torchvision.models.alexnet(weights=None).features.state_dict().items()}
    torch.save(features, path)
    return path


@pytest.fixture(scope="module")
def network(trunk) -> LpipsNetwork:
    return LpipsNetwork("alex", trunk)


def test_it_is_that_of_the_package(network, trunk):
    reference = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    state = torch.load(trunk, weights_only=True)
    reference.net.load_state_dict(dict(zip(reference.net.state_dict(), state.values(), strict=True)))
    first, second = torch.rand(2, 2, 3, 3, 40, 48)
    expected = reference((2 * first - 1).flatten(0, 1), (2 * second - 1).flatten(0, 1)).view(2, 3)
    distances = lpips_distance(first, second, network)
    torch.testing.assert_close(distances, expected)
    assert distances.dtype == torch.float32 and distances.min() > 0
    assert torch.equal(lpips_distance(first, first, network), torch.zeros(2, 3))
    assert lpips_distance(first[0, 0], second[0, 0], network).shape == ()


def test_many_pictures_go_in_parts(network):
    first, second = torch.rand(2, 20, 3, 32, 32)
    whole = lpips_distance(first, second, network)
    each = [lpips_distance(*pair, network) for pair in zip(first, second, strict=True)]
    torch.testing.assert_close(whole, torch.stack(each))


def test_half_precision_is_computed_in_full(network):
    first, second = torch.rand(2, 3, 3, 32, 32)
    for kind in (torch.float16, torch.bfloat16):
        exact = lpips_distance(first.to(kind).float(), second.to(kind).float(), network)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(lpips_distance(first.to(kind), second.to(kind), network), exact)


@pytest.mark.parametrize(("net", "smallest"), [("alex", 31), ("vgg", 16), ("squeeze", 17)])
def test_too_small_pictures_are_refused(net, smallest):
    network = LpipsNetwork(net, "random")
    pictures = torch.rand(2, 3, smallest, 40)
    assert (lpips_distance(pictures[:1], pictures[1:], network) > 0).all()
    with pytest.raises(ValueError, match=f"{net}.* at least {smallest} pixels a side"):
        lpips_distance(pictures[..., 1:, :], pictures[..., 1:, :], network)


def test_pictures_that_cannot_be_compared(network):
    picture = torch.rand(1, 3, 32, 32)
    with pytest.raises(ValueError, match=r"one size, .*\[1, 3, 32, 32\] and \[1, 3, 32, 31\]"):
        lpips_distance(picture, picture[..., 1:], network)
    with pytest.raises(ValueError, match="RGB pictures"):
        lpips_distance(picture[:, :1], picture[:, :1], network)
    for bad in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match="NaN or infinite"):
            lpips_distance(picture * bad, picture, network)


def test_without_weights_it_says_so(monkeypatch):
    def refuse(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", refuse)
    with pytest.raises(MissingWeightsError, match=r"alex trunk of LPIPS is not in .*no network.*torchvision file"):
        LpipsNetwork("alex")


def test_other_files_and_nets_are_refused(trunk, tmp_path):
    with pytest.raises(CheckpointError, match="is not a torchvision vgg state dict"):
        LpipsNetwork("vgg", trunk)
    with pytest.raises(CheckpointError, match="cannot be read"):
        LpipsNetwork("alex", tmp_path / "none.pth")
    with pytest.raises(ValueError, match=r"`net` must be one of .*'vgg'.*, but got 'resnet'"):
        LpipsNetwork("resnet")


def test_a_random_trunk_is_never_called_lpips():
    network = LpipsNetwork("alex", "random")
    assert not network.is_lpips
    with pytest.raises(ValueError, match="no LPIPS"):
        LpipsDistance(network)


def test_means_are_per_picture_then_per_object(network):
    target = torch.rand(2, 3, 3, 32, 32)
    prediction = (target + torch.rand(2, 3, 1, 1, 1) * torch.randn_like(target)).clamp(0, 1)
    once, parts = LpipsDistance(network), LpipsDistance(network)
    once.update(prediction, target, torch.tensor([6, 2]))
    for rows in ([0], [1], [0]):  # the first object twice, as from another process
        parts.update(prediction[rows], target[rows], torch.tensor([6, 2])[rows])
    expected = float(lpips_distance(prediction, target, network).mean())
    assert float(once.compute()["lpips"]) == pytest.approx(expected, rel=1e-5)
    assert float(parts.compute()["lpips"]) == pytest.approx(expected, rel=1e-5)
    assert not once.state_dict() and not list(once.parameters())
