"""The estimates against what real steps of a tiny model keep and compute."""

from __future__ import annotations

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from vfusion3d.models import ReconstructorConfig, TriplaneReconstructor
from vfusion3d.training import LossWeights
from vfusion3d.training.cost import step_cost

CONFIG = ReconstructorConfig.preset(
    "tiny",
    encoder="dinov2",
    image_size=28,
    patch_size=14,
    encoder_positions=2,
    image_alpha=False,
    pixel_aligned_channels=0,
    depth_frequencies=0,
)


def test_parameters_and_operations_of_a_real_model():
    cost = step_cost(CONFIG, LossWeights(perceptual=0.0), views=1, patch=1, coarse=1, fine=0, checkpointing=False)
    model = TriplaneReconstructor(CONFIG)
    assert cost.parameters == sum(p.numel() for p in model.parameters() if p.requires_grad)
    with FlopCounterMode(display=False) as counter:
        planes = model.decoder(model.encoder(torch.rand(1, 3, 28, 28)).tokens, torch.rand(1, CONFIG.camera_dim))
        planes.sum().backward()
    # Three times the forward pass is the rule of thumb; the first layers need no gradient of their input.
    assert counter.get_total_flops() == pytest.approx(cost.sample_flops, rel=0.1)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_bytes_that_a_real_model_keeps(checkpointing):
    """In float32, without the renderer; a processor's own attention keeps no weights either."""
    model = TriplaneReconstructor(CONFIG)
    model.gradient_checkpointing_enable(checkpointing)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    def measured(count):
        kept.clear()
        with saved_tensors_hooks(pack, lambda tensor: tensor):
            tokens = model.encoder(torch.rand(count, 3, 28, 28)).tokens
            planes = model.decoder(tokens, torch.rand(count, CONFIG.camera_dim))
        return sum(storage.nbytes() for storage in kept.values()), planes

    few, many = measured(1)[0], measured(3)[0]
    settings = {"views": 1, "patch": 1, "coarse": 1, "fine": 0, "recompute": False, "half": False}
    cost = step_cost(CONFIG, LossWeights(perceptual=0.0), checkpointing=checkpointing, **settings)
    planes = 2 * 3 * CONFIG.triplane_high**2 * 4 * (CONFIG.triplane_channels + CONFIG.field_dim)
    assert cost.sample_bytes - planes == pytest.approx((many - few) / 2, rel=0.1)


def test_what_costs_more():
    def cost(**changes):
        settings = {"patch": 16, "checkpointing": False, "half": True, **changes}
        return step_cost(CONFIG, LossWeights(perceptual=0.0, l2=1.0), **settings)

    plain = cost()
    assert cost(half=False).sample_bytes > plain.sample_bytes
    assert cost(views=8).sample_bytes > plain.sample_bytes and cost(views=8).sample_flops > plain.sample_flops
    assert cost(recompute=False).sample_bytes > 2 * plain.sample_bytes
    perceptual = step_cost(CONFIG, LossWeights(trunk="squeeze", trunk_weights="random"), patch=32)
    without = step_cost(CONFIG, LossWeights(perceptual=0.0), patch=32)
    assert perceptual.sample_bytes > without.sample_bytes and perceptual.fixed_bytes > without.fixed_bytes
    assert perceptual.sample_flops > without.sample_flops
