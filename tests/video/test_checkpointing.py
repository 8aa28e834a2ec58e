"""Checkpointed layers run twice and give the same gradients."""

import copy

import pytest
import torch

from vfusion3d.errors import UsageError
from vfusion3d.video import create_backbone, enable_checkpointing
from vfusion3d.video.backbone import VideoBackbone
from vfusion3d.video.checkpointing import _layers


def small(name: str) -> VideoBackbone:
    """Training, for dropout."""
    torch.manual_seed(0)
    return create_backbone(name, "tiny", frames=2).train()


def denoise(backbone: VideoBackbone) -> torch.Tensor:
    torch.manual_seed(1)
    conditioning = backbone.condition(torch.rand(1, 3, 8, 8))
    return backbone(torch.randn(1, 2, backbone.codec.channels, 4, 4), torch.tensor([0.5]), conditioning)


def gradients(backbone: VideoBackbone) -> dict[str, torch.Tensor]:
    denoise(backbone).square().mean().backward()
    return {name: p.grad for name, p in backbone.denoiser.named_parameters() if p.grad is not None}


SPATIAL_AND_TEMPORAL = {
    "emu": {"ResnetBlock2D", "TemporalConvLayer", "Transformer2DModel", "TransformerTemporalModel"},
    "svd": {"SpatioTemporalResBlock", "TransformerSpatioTemporalModel"},
}


@pytest.mark.parametrize("name", SPATIAL_AND_TEMPORAL)
def test_layers_run_twice_and_gradients_stay_the_same(name):
    plain = small(name)
    checkpointed = copy.deepcopy(plain)
    enable_checkpointing(checkpointed)
    enable_checkpointing(checkpointed)  # which changes nothing
    layers = list(_layers(checkpointed.denoiser))
    assert {type(layer).__name__ for layer in layers} == SPATIAL_AND_TEMPORAL[name]
    runs = [0] * len(layers)

    def count(index: int) -> None:
        runs[index] += 1

    for index, layer in enumerate(layers):
        norms = [module for module in layer.modules() if isinstance(module, torch.nn.GroupNorm | torch.nn.LayerNorm)]
        norms[-1].register_forward_pre_hook(lambda *_, index=index: count(index))
    got, wanted = gradients(checkpointed), gradients(plain)
    assert runs == [2] * len(layers)
    assert got.keys() == wanted.keys()
    for key, gradient in wanted.items():
        torch.testing.assert_close(got[key], gradient, rtol=1e-5, atol=1e-8)
    with torch.no_grad():
        denoise(checkpointed)
    assert runs == [3] * len(layers)
    copied = copy.deepcopy(checkpointed)  # as averages of weights do
    assert all(layer.forward.args[0].__self__ is layer for layer in _layers(copied.denoiser))


def test_transformers_use_diffusers_own():
    backbone = small("wan")
    assert not backbone.denoiser.is_gradient_checkpointing
    enable_checkpointing(backbone)
    assert backbone.denoiser.is_gradient_checkpointing
    got, wanted = gradients(backbone), gradients(small("wan"))
    for key, gradient in wanted.items():
        torch.testing.assert_close(got[key], gradient, rtol=1e-5, atol=1e-8)


def test_unknown_denoisers_are_refused():
    backbone = small("wan")
    backbone.denoiser = torch.nn.Linear(1, 1)
    with pytest.raises(UsageError, match="knows no gradient checkpointing"):
        enable_checkpointing(backbone)
