"""The estimates of video models against what a tiny one keeps, and the counts of full-size ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from vfusion3d.errors import UsageError
from vfusion3d.training.plan import RunSettings, estimate_memory
from vfusion3d.training.video_cost import VideoModel, video_step_cost
from vfusion3d.video import create_backbone
from vfusion3d.video.trainable import choose_trainable

TINY = VideoModel("emu", "tiny", "all", options=(("frames", 4),))


def test_bytes_and_operations_of_a_real_model():
    """In float32, on one processor, whose attention keeps no weights either."""
    backbone = create_backbone("emu", "tiny", frames=4)
    report = choose_trainable(backbone, "all")
    own = {p.untyped_storage().data_ptr() for p in backbone.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    def measured(count):
        kept.clear()
        conditioning = backbone.condition(torch.rand(count, 3, 16, 16))
        with saved_tensors_hooks(pack, lambda tensor: tensor), FlopCounterMode(display=False) as counter:
            raw = backbone(torch.rand(count, 4, 12, 8, 8), torch.zeros(count), conditioning)
            size = sum(storage.nbytes() for storage in kept.values())
            raw.sum().backward()
        return size, counter.get_total_flops()

    (few, flops), (many, _) = measured(1), measured(3)
    cost = video_step_cost(TINY, 16, False, False)
    assert cost.parameters == report.parameters and cost.frozen_bytes == 0
    assert cost.sample_bytes == pytest.approx((many - few) / 2, rel=0.1)
    assert cost.sample_flops == pytest.approx(flops, rel=0.1)


def test_what_is_trained_decides_memory():
    whole = video_step_cost(TINY, 16, False, True)
    temporal = video_step_cost(replace(TINY, train="temporal"), 16, False, True)
    again = video_step_cost(TINY, 16, True, True)
    assert temporal.parameters < whole.parameters
    assert 4 * (whole.parameters - temporal.parameters) == temporal.frozen_bytes
    assert temporal.sample_flops < whole.sample_flops < again.sample_flops
    assert again.sample_bytes + again.peak_bytes < whole.sample_bytes and again.peak_bytes > 0
    run = RunSettings(64, 1, 2, distributed=True, averaged=True)
    memory = estimate_memory(run, temporal)
    assert memory.weights == memory.average == 4 * whole.parameters
    assert memory.gradients == memory.moments == 8 * temporal.parameters


def test_architectures_of_weights():
    assert VideoModel("svd", "stabilityai/stable-video-diffusion-img2vid").preset == "released"
    assert VideoModel("wan", "Wan-AI/Wan2.2-TI2V-5B-Diffusers", "lora").preset == "released_5b"
    assert VideoModel("emu", "tiny").preset == "tiny"
    with pytest.raises(UsageError, match="`backbone` must be one of"):
        _ = VideoModel("sora", "x/y").preset


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "train", "trained"), [("svd", "temporal", 656_076_838), ("emu", "temporal", 545_323_136)]
)
def test_full_size(name, train, trained):
    """VIDEO.md's counts; a step of an orbit of 16 frames at 512 pixels fits in 80 GB, recomputed."""
    cost = video_step_cost(VideoModel(name, "released", "temporal"), 512, True, True)
    assert cost.parameters == trained
    memory = estimate_memory(RunSettings(10**5, 1, 1, 80, distributed=True), cost)
    assert 15 < memory.total / 2**30 < 80
