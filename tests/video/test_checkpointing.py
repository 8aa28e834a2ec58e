"""Checkpointed layers run twice and give the same gradients."""

import copy

import pytest
import torch

from vfusion3d.errors import UsageError
from vfusion3d.video import Conditioning, create_backbone, enable_checkpointing
from vfusion3d.video.backbone import VideoBackbone
from vfusion3d.video.checkpointing import _layers


@pytest.fixture(scope="module")
def plain() -> VideoBackbone:
    torch.manual_seed(0)
    return create_backbone("emu", "tiny", frames=2).train()  # its temporal convolutions have dropout


def gradients(backbone: VideoBackbone) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    shape = (1, 2, backbone.codec.channels, 2, 2)
    conditioning = Conditioning(torch.rand(1, *shape[2:]), torch.rand(1, 2, 32), image_kept=torch.ones(1))
    backbone(torch.randn(shape), torch.tensor([500]), conditioning).square().mean().backward()
    return {name: p.grad for name, p in backbone.denoiser.named_parameters() if p.grad is not None}


def test_layers_run_twice_and_gradients_stay_the_same(plain):
    checkpointed = copy.deepcopy(plain)
    enable_checkpointing(checkpointed)
    enable_checkpointing(checkpointed)  # which changes nothing
    layers = list(_layers(checkpointed.denoiser))
    assert {type(layer).__name__ for layer in layers} == {
        "ResnetBlock2D",
        "TemporalConvLayer",
        "Transformer2DModel",
        "TransformerTemporalModel",
    }
    inner = [next(module for module in layer.modules() if isinstance(module, torch.nn.GroupNorm)) for layer in layers]
    runs = [0] * len(layers)

    def count(index: int) -> None:
        runs[index] += 1

    for index, module in enumerate(inner):
        module.register_forward_pre_hook(lambda *_, index=index: count(index))
    got, wanted = gradients(checkpointed), gradients(plain)
    assert runs == [2] * len(layers)
    assert got.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-5, atol=1e-8)
    with torch.no_grad():
        shape = (1, 2, plain.codec.channels, 2, 2)
        checkpointed(
            torch.zeros(shape),
            torch.tensor([1]),
            Conditioning(torch.zeros(1, *shape[2:]), torch.zeros(1, 1, 32), image_kept=torch.ones(1)),
        )
    assert runs == [3] * len(layers)


def test_diffusers_own_is_used_where_there_is_one(plain, monkeypatch):
    calls = []
    monkeypatch.setattr(plain.denoiser, "_supports_gradient_checkpointing", True, raising=False)
    monkeypatch.setattr(plain.denoiser, "enable_gradient_checkpointing", lambda: calls.append("on"))
    enable_checkpointing(plain)
    assert calls == ["on"]


def test_unknown_denoisers_are_refused(plain, monkeypatch):
    monkeypatch.setattr(plain, "denoiser", torch.nn.Linear(1, 1))
    with pytest.raises(UsageError, match="knows no gradient checkpointing"):
        enable_checkpointing(plain)
