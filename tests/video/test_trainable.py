"""What is trained, and what stays bit for bit as it was."""

import re

import pytest
import torch

from vfusion3d.errors import CheckpointError, UsageError
from vfusion3d.video import Conditioning, choose_trainable, create_backbone, load_trainable_state, trainable_state
from vfusion3d.video.backbone import VideoBackbone
from vfusion3d.video.emu import EmuBackbone


def tiny(seed: int = 0) -> VideoBackbone:
    torch.manual_seed(seed)
    return create_backbone("emu", "tiny", frames=4)


def train_steps(backbone: VideoBackbone, steps: int) -> None:
    """A few optimiser steps on random latents."""
    trained = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-2)
    shape = (1, 4, backbone.codec.channels, 4, 4)
    conditioning = Conditioning(
        image=torch.rand(shape[:1] + shape[2:]), text=torch.rand(1, 2, 32), image_kept=torch.ones(1)
    )
    for _ in range(steps):
        optimizer.zero_grad()
        backbone(torch.randn(shape), torch.tensor([500]), conditioning).square().mean().backward()
        optimizer.step()


def weights(backbone: VideoBackbone) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in backbone.denoiser.state_dict().items()}


def test_temporal_training_leaves_every_spatial_tensor_bit_identical():
    backbone = tiny()
    backbone.fresh = frozenset({"conv_in.weight", "conv_in.bias"})  # as where released weights lack channels
    report = choose_trainable(backbone, "temporal")
    before = weights(backbone)
    train_steps(backbone, 2)  # zero-initialised projections let the layers before them move from the second step on
    changed = {name for name, tensor in weights(backbone).items() if not torch.equal(tensor, before[name])}
    temporal = {name for name in before if re.search(EmuBackbone.temporal, name)}
    assert changed <= temporal | {"conv_in.weight", "conv_in.bias"}
    assert any("temp_convs" in name for name in changed) and any("temp_attentions" in name for name in changed)
    assert "conv_in.weight" in changed
    assert report.tensors == len(temporal) + 2 and report.all_tensors == len(before)
    assert report.frozen["denoiser"] == report.all_parameters - report.parameters
    assert f"{report.parameters:,} of the denoiser's {report.all_parameters:,}" in str(report)


def test_all_trains_the_denoiser_alone():
    report = choose_trainable(tiny(), "all")
    assert report.tensors == report.all_tensors and report.parameters == report.all_parameters and not report.frozen


def test_low_rank_updates_start_without_effect_and_alone_move():
    backbone, plain = tiny().eval(), tiny().eval()
    backbone.fresh = frozenset({"conv_in.bias"})
    report = choose_trainable(backbone, "lora", rank=2)
    assert 0 < report.parameters < report.all_parameters / 5
    shape = (1, 4, backbone.codec.channels, 4, 4)
    conditioning = Conditioning(torch.rand(1, *shape[2:]), torch.rand(1, 2, 32), image_kept=torch.ones(1))
    inputs = torch.randn(shape)
    with torch.no_grad():
        outputs = [model(inputs, torch.tensor([500]), conditioning) for model in (backbone, plain)]
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-6)
    before = weights(backbone)
    train_steps(backbone, 2)
    changed = {name for name, tensor in weights(backbone).items() if not torch.equal(tensor, before[name])}
    assert "conv_in.bias" in changed and all(".lora_" in name for name in changed - {"conv_in.bias"})
    assert any("attn1.to_q.lora_B" in name for name in changed)  # reached although proj_out starts at zero


@pytest.mark.parametrize("train", ["temporal", "lora"])
def test_the_trained_state_round_trips(train):
    first, second = tiny(0), tiny(0)
    for backbone in (first, second):
        choose_trainable(backbone, train, rank=2)
    train_steps(first, 2)
    state = trainable_state(first)
    assert len(state) == sum(parameter.requires_grad for parameter in first.parameters())
    load_trainable_state(second, {name: tensor.clone() for name, tensor in state.items()})
    loaded = weights(second)
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in weights(first).items())


def test_low_rank_updates_are_named_as_peft_names_them_and_stay_when_chosen_again():
    from peft import get_peft_model_state_dict

    backbone = tiny()
    report = choose_trainable(backbone, "lora", rank=2)
    ours = trainable_state(backbone)
    assert ours.keys() == {f"denoiser.{name}" for name in get_peft_model_state_dict(backbone.denoiser)}
    backbone.requires_grad_(False)
    assert choose_trainable(backbone, "lora", rank=2) == report
    again = trainable_state(backbone)
    assert all(again[name].data_ptr() == tensor.data_ptr() for name, tensor in ours.items())


def test_states_that_do_not_fit_change_nothing():
    backbone = tiny()
    choose_trainable(backbone, "temporal")
    state = {name: tensor + 1 for name, tensor in trainable_state(backbone).items()}
    first, *_ = state
    before = weights(backbone)
    wrong = {
        f"1 of them are missing, the first is {first}": {k: v for k, v in state.items() if k != first},
        "1 of them are not trained here, the first is denoiser.other": {**state, "denoiser.other": state[first]},
        f"1 of them have other shapes, the first is {first}": {**state, first: state[first][:1]},
    }
    for message, case in wrong.items():
        with pytest.raises(CheckpointError, match=re.escape(message)):
            load_trainable_state(backbone, case)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(backbone).items())


def test_what_matches_nothing_is_refused():
    backbone = tiny()
    with pytest.raises(UsageError, match="must be one of temporal, all, lora"):
        choose_trainable(backbone, "spatial")
    with pytest.raises(UsageError, match="`rank` must be at least 1"):
        choose_trainable(backbone, "lora", rank=0)
    choose_trainable(backbone, "lora", rank=1)
    with pytest.raises(UsageError, match="`rank` is 2, but this emu model has low-rank updates of rank 1 already"):
        choose_trainable(backbone, "lora", rank=2)
    backbone = tiny()
    backbone.temporal = backbone.lora = "no_such_layer"
    with pytest.raises(UsageError, match="No temporal layer of emu was matched"):
        choose_trainable(backbone, "temporal")
    with pytest.raises(UsageError, match="No module of emu was matched"):
        choose_trainable(backbone, "lora")
