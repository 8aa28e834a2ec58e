"""Starting the encoder from a published DINOv2."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from vfusion3d.errors import CheckpointError, UsageError
from vfusion3d.models import ReconstructorConfig, TriplaneReconstructor
from vfusion3d.models.checkpoints import load_encoder, read_encoder
from vfusion3d.training import LossWeights, ReconstructorTraining

CHANGES = {
    "encoder": "dinov2",
    "image_size": 28,
    "patch_size": 14,
    "encoder_positions": 2,
    "image_alpha": False,
    "pixel_aligned_channels": 0,
    "depth_frequencies": 0,
}


@pytest.fixture(params=["dinov2", "dinov2_registers"])
def published(request, tmp_path):
    """A folder as transformers writes it, the kind, and the network in it."""
    torch.manual_seed(1)
    network = TriplaneReconstructor(ReconstructorConfig.preset("tiny", **{**CHANGES, "encoder": request.param})).encoder
    network.model.save_pretrained(tmp_path / "dino")
    return tmp_path / "dino", request.param, network


def build(kind, weights):
    changes = {**CHANGES, "encoder": kind}
    return ReconstructorTraining("tiny", changes, encoder_weights=weights, losses=LossWeights(perceptual=0.0)).model


def test_folder_and_file(published):
    folder, kind, network = published
    images = torch.rand(2, 3, 28, 28)
    for weights in (folder, folder / "model.safetensors"):
        model = build(kind, str(weights))
        torch.testing.assert_close(model.encoder(images).tokens, network(images).tokens)
    assert not torch.equal(build(kind, None).encoder(images).tokens, network(images).tokens)


def test_strict(published, tmp_path):
    folder, kind, _ = published
    state = load_file(folder / "model.safetensors")
    name = next(key for key in state if key.endswith("layernorm.weight"))
    save_file({key: value for key, value in state.items() if key != name}, tmp_path / "missing.safetensors")
    save_file({**state, "classifier.weight": torch.zeros(2)}, tmp_path / "more.safetensors")
    save_file({**state, name: torch.zeros(3)}, tmp_path / "wrong.safetensors")
    for file, count in (("missing", "1 missing, 0 un"), ("more", "0 missing, 1 un"), ("wrong", "and 1 differently")):
        with pytest.raises(CheckpointError, match=rf"{file}.safetensors is no encoder of this architecture.*{count}"):
            build(kind, str(tmp_path / f"{file}.safetensors"))


def test_the_names_of_dinov2s_authors(tmp_path):
    torch.manual_seed(2)
    model = TriplaneReconstructor(ReconstructorConfig.preset("tiny", **CHANGES))
    own = model.encoder.state_dict()
    dim = model.config.encoder_dim
    names = {
        "cls_token": "model.embeddings.cls_token",
        "mask_token": "model.embeddings.mask_token",
        "pos_embed": "model.embeddings.position_embeddings",
        "patch_embed.proj.weight": "model.embeddings.patch_embeddings.projection.weight",
        "patch_embed.proj.bias": "model.embeddings.patch_embeddings.projection.bias",
        "norm.weight": "model.layernorm.weight",
        "norm.bias": "model.layernorm.bias",
    }
    state = {name: own[ours].clone() for name, ours in names.items()}
    layer = "model.encoder.layer.0."
    for part in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
        for kind in ("weight", "bias"):
            state[f"blocks.0.{part}.{kind}"] = own[f"{layer}{part}.{kind}"].clone()
    for number in (1, 2):
        state[f"blocks.0.ls{number}.gamma"] = own[f"{layer}layer_scale{number}.lambda1"].clone()
    state["blocks.0.attn.qkv.weight"], state["blocks.0.attn.qkv.bias"] = torch.rand(3 * dim, dim), torch.rand(3 * dim)
    state["blocks.0.attn.proj.weight"], state["blocks.0.attn.proj.bias"] = torch.rand(dim, dim), torch.rand(dim)
    torch.save(state, tmp_path / "dinov2.pth")
    load_encoder(model, *read_encoder(tmp_path / "dinov2.pth"))
    loaded = model.encoder.state_dict()
    query = next(key for key in loaded if "query.weight" in key or "q_proj.weight" in key)
    assert torch.equal(loaded[query], state["blocks.0.attn.qkv.weight"][:dim])


def test_not_to_be_had(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"Encoder 'facebook/dinov2-other' is not on this machine.*encoder_weig"):
        build("dinov2", "facebook/dinov2-other")
    with pytest.raises(UsageError, match="`encoder_weights` is for DINOv2 encoders, but the architecture's is 'vit'"):
        ReconstructorTraining("tiny", encoder_weights="facebook/dinov2-base", losses=LossWeights(perceptual=0.0))
