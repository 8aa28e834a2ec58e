"""Checkpoints in the published layouts: small random ones here, the released ones' lists of names in ../shared."""

from __future__ import annotations

import json
import logging
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from vfusion3d import ReconstructorConfig, TriplaneReconstructor, orbit
from vfusion3d.cameras import frame_transform, random_sphere
from vfusion3d.cameras.orbits import on_sphere, pinhole
from vfusion3d.errors import CheckpointError
from vfusion3d.metrics import psnr
from vfusion3d.models import Triplanes
from vfusion3d.models.released import config_of, convert_state, family_of, installed_names
from vfusion3d.rendering import render_rays
from vfusion3d.rendering.isosurface import extract_isosurface

SMALL = {
    "encoder_dim": 64,
    "encoder_heads": 1,
    "encoder_layers": 2,
    "encoder_positions": 5,
    "transformer_dim": 64,
    "transformer_heads": 1,
    "transformer_layers": 2,
    "camera_dim": 16,
    "triplane_low": 4,
    "triplane_high": 8,
    "triplane_channels": 8,
    "field_dim": 16,
}
FAMILIES = ("vfusion3d", "openlrm")


def small(family: str) -> TriplaneReconstructor:
    """A random model of a family's kind, every weight different from its initial value."""
    preset = "vfusion3d" if family == "vfusion3d" else "openlrm-large"
    model = TriplaneReconstructor(ReconstructorConfig.preset(preset, **SMALL)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return model


def published(model: TriplaneReconstructor, family: str) -> dict[str, Tensor]:
    """A model's weights under the names of `../shared/REFERENCE.md`, section 10."""
    ours, result = model.state_dict(), {}
    for key, value in ours.items():
        key = key.replace("camera_embedding.layers.", "camera_embedder.mlp.")
        key = key.replace("field.layers.", "synthesizer.decoder.net.")
        if family == "vfusion3d":
            key = key.replace("decoder.positions", "transformer.pos_embed")
            key = key.replace("decoder.upsample.", "transformer.deconv.")
        else:
            key = key.replace("decoder.positions", "pos_embed").replace("decoder.upsample.", "upsampler.")
        if key.startswith("decoder."):
            key = key.replace("decoder.", "transformer.", 1).replace(".modulation.", ".mlp.1.")
            key = re.sub(r"(layers\.\d+\.mlp)\.2\.", r"\1.3.", key)
            if ".self_attention." in key and ".out." not in key:
                block = key.split(".self_attention.")[0]
                parts = [f"{block.replace('transformer', 'decoder', 1)}.self_attention.{n}.weight" for n in NAMES]
                key, value = f"{block}.self_attn.in_proj_weight", torch.cat([ours[part] for part in parts])
            key = key.replace(".self_attention.out.", ".self_attn.out_proj.")
            key = key.replace(".cross_attention.out.", ".cross_attn.out_proj.")
            key = re.sub(r"\.cross_attention\.(.)\w+\.weight", r".cross_attn.\1_proj_weight", key)
        elif key.startswith("encoder.") and family == "vfusion3d":
            key = re.sub(r"attention\.([qkv])_proj\.", lambda m: f"attention.attention.{LETTERS[m[1]]}.", key)
            key = key.replace("attention.o_proj.", "attention.output.dense.")
        elif key.startswith("encoder."):
            if "mask_token" in key:
                continue
            key = key.replace("embeddings.patch_embeddings.projection", "patch_embed.proj")
            key = key.replace("embeddings.position_embeddings", "pos_embed").replace("embeddings.", "")
            key = key.replace("encoder.layer.", "blocks.").replace("model.layernorm.", "model.norm.")
            key = re.sub(r"layer_scale(.)\.lambda1", r"ls\1.gamma", key).replace("attention.o_proj.", "attn.proj.")
            match = re.match(r"(.*)\.attention\.[qkv]_proj\.(\w+)", key)
            if match:
                layer = match[1].replace("blocks.", "encoder.layer.")
                parts = [f"{layer}.attention.{letter}_proj.{match[2]}" for letter in "qkv"]
                key, value = f"{match[1]}.attn.qkv.{match[2]}", torch.cat([ours[part] for part in parts])
        result[key] = value.clone()
    return result


NAMES = ("query", "key", "value")
LETTERS = dict(zip("qkv", NAMES, strict=True))
SETTINGS = {"transformer_heads": 1, "encoder_heads": 1, "rendering_samples_per_ray": 128}


def hub_folder(folder: Path, model: TriplaneReconstructor, family: str) -> Path:
    folder.mkdir()
    save_file(published(model, family), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**SETTINGS, "encoder_freeze": False}))
    return folder


# -- loading -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("family", FAMILIES)
def test_hub_folder(family: str, tmp_path: Path, caplog: Any) -> None:
    model = small(family)
    loaded = TriplaneReconstructor.from_pretrained(hub_folder(tmp_path / "hub", model, family))
    assert loaded.config == model.config
    for key, value in model.state_dict().items():
        if "mask_token" not in key:
            assert torch.equal(value, loaded.state_dict()[key]), key
    [record] = caplog.records
    assert record.levelno == logging.WARNING and "CC-BY-NC-4.0, for non-commercial use only" in record.message
    # Its own layout keeps the licence, and is the same model.
    loaded.save_pretrained(tmp_path / "ours")
    again = TriplaneReconstructor.from_pretrained(tmp_path / "ours")
    picture = torch.rand(1, 3, 512 if family == "vfusion3d" else 448, 512 if family == "vfusion3d" else 448)
    with torch.no_grad():
        planes = [m(picture, orbit(1)).planes for m in (model, again)]
    assert torch.equal(*planes) and again.config.license == "CC-BY-NC-4.0"


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_single_files(tmp_path: Path, suffix: str) -> None:
    model, path = small("vfusion3d"), tmp_path / f"vfusion3dckpt{suffix}"
    state = published(model, "vfusion3d")
    if suffix == ".pt":
        torch.save({"model_state_dict": state, "epoch": 3}, path)
    else:
        save_file(state, path)
    loaded = TriplaneReconstructor.from_pretrained(path)
    assert loaded.config == model.config  # sizes are read off the weights
    assert torch.equal(loaded.decoder.positions, model.decoder.positions)


def test_names_of_both_versions_of_transformers() -> None:
    model = small("vfusion3d")
    ours = model.state_dict()
    older = {key: value for key, value in published(model, "vfusion3d").items() if key.startswith("encoder.")}
    older = {key: key for key in older}  # what an installed version 4 asks for
    renamed = installed_names(ours, older)
    assert set(older) <= set(renamed)
    assert set(installed_names(convert_state(renamed), ours)) == set(ours)


@pytest.mark.parametrize(
    ("family", "preset", "file"),
    [
        ("vfusion3d", "vfusion3d", "vfusion3d_state_dict_keys.txt"),
        ("openlrm", "openlrm-large", "openlrm_large_state_dict_keys.txt"),
    ],
)
def test_every_published_weight_has_its_place(shared: Path, family: str, preset: str, file: str) -> None:
    with torch.device("meta"):
        state = {}
        for line in (shared / "parity" / file).read_text().splitlines():
            key, shape = line.split("\t")
            state[key] = torch.empty([int(number) for number in re.findall(r"\d+", shape)])
        model = TriplaneReconstructor(preset)
    assert family_of(state) == family
    ours = convert_state(state)
    assert config_of(family, ours, {}) == ReconstructorConfig.preset(preset)  # type: ignore[arg-type]
    shapes = {key: value.shape for key, value in model.state_dict().items() if "mask_token" not in key}
    assert {key: value.shape for key, value in ours.items() if "mask_token" not in key} == shapes


# -- wrong files -------------------------------------------------------------------------------------------------
def refused(path: Path, sentence: str) -> None:
    with pytest.raises(CheckpointError, match=sentence) as caught:
        TriplaneReconstructor.from_pretrained(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_missing_key(tmp_path: Path) -> None:
    state = published(small("openlrm"), "openlrm")
    del state["transformer.layers.1.mlp.0.bias"]
    save_file(state, tmp_path / "part.safetensors")
    refused(tmp_path / "part.safetensors", r"is incomplete: 1 of \d+ weights are missing .*layers\.1\.mlp\.0\.bias")
    del state["transformer.layers.0.norm1.mlp.1.weight"]
    save_file(state, tmp_path / "part.safetensors")
    refused(tmp_path / "part.safetensors", "it lacks weights of a openlrm checkpoint")


def test_another_model(tmp_path: Path) -> None:
    save_file(torch.nn.Linear(3, 3).state_dict(), tmp_path / "other.safetensors")
    refused(tmp_path / "other.safetensors", "holds no weights of a model this library knows .*bias")
    torch.save([1, 2], tmp_path / "list.pt")
    refused(tmp_path / "list.pt", "holds no state dict")


class Evil:
    """What a pickle can do."""

    def __reduce__(self) -> Any:
        return (Path("ran").touch, ())


def test_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model_state_dict": published(small("vfusion3d"), "vfusion3d"), "args": Evil()}, tmp_path / "evil.pt")
    refused(tmp_path / "evil.pt", "holds Python code besides weights, which is not run")
    (tmp_path / "evil.bin").write_bytes(pickle.dumps(Evil()))
    refused(tmp_path / "evil.bin", "holds Python code besides weights, which is not run")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_half_downloaded(tmp_path: Path, suffix: str) -> None:
    path, state = tmp_path / f"half{suffix}", published(small("vfusion3d"), "vfusion3d")
    if suffix == ".pt":
        torch.save({"model_state_dict": state}, path)
    else:
        save_file(state, path)
    whole = path.read_bytes()
    for share in (0.5, 0.99):
        path.write_bytes(whole[: int(len(whole) * share)])
        refused(path, "is cut off or no file of torch weights|is not a complete safetensors file")
    path.write_bytes(b"")
    refused(path, "is cut off or no file of torch weights|is not a complete safetensors file")
    path.write_text("<html>404</html>")
    refused(path, "is cut off or no file of torch weights|is not a complete safetensors file|or damaged")


# -- camera conventions ------------------------------------------------------------------------------------------
PUBLISHED_SOURCE = {  # camera-to-world of the source view in each model's own frame; REFERENCE, section 3
    "vfusion3d": [[0.0, 0.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]],
    "openlrm-base": [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1.0, -1.0], [0.0, 1.0, 0.0, 0.0]],
}


class World:
    """Three coloured soft balls, no symmetry, seen through a rigid motion into a model's frame."""

    def __init__(self, to_model: Tensor) -> None:
        self.to_model = to_model

    def density_and_colour(self, points: Tensor) -> tuple[Tensor, Tensor]:
        points = (points - self.to_model[:3, 3]) @ self.to_model[:3, :3]
        centres = torch.tensor([[0.45, 0.0, 0.1], [-0.2, 0.4, -0.3], [0.0, -0.3, 0.5]])
        near = torch.exp(-40 * (points[:, None] - centres).square().sum(-1))
        return 30 * near.sum(-1), near @ torch.eye(3) / near.sum(-1, keepdim=True).clamp_min(1e-12)

    def density(self, points: Tensor) -> Tensor:
        return self.density_and_colour(points)[0]


@pytest.mark.parametrize("preset", sorted(PUBLISHED_SOURCE))
@pytest.mark.parametrize(("azimuth", "elevation"), [(0.0, 0.0), (1.1, 0.5), (-2.4, -0.3)])
@torch.no_grad()
def test_ground_truth_through_a_models_frame_and_back(
    preset: str, azimuth: float, elevation: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object that stands in the model's frame as its authors define it comes back where it was in the world."""
    config = ReconstructorConfig.preset(preset)
    source = on_sphere(torch.tensor([azimuth]), torch.tensor([elevation]), 1.9, pinhole())
    # What a perfect model of this convention answers: the object before its own source camera, at the true distance.
    pose = torch.tensor(PUBLISHED_SOURCE[preset])
    pose[:, 3] *= 1.9
    own = torch.cat([pose, torch.tensor([[0.0, 0, 0, 1]])]) @ source.world_to_camera[0]
    answer = World(own)
    field = TriplaneReconstructor("tiny").field
    triplanes = Triplanes(field, torch.zeros(1, 3, 8, 8, 8), frame_transform(source, config.source_frame))
    monkeypatch.setattr(triplanes, "object_field", lambda index: answer)
    views = random_sphere(6, generator=torch.Generator().manual_seed(0))
    seen = triplanes.render(views.unsqueeze(0), 32, 32, coarse_samples=160, fine_samples=0).rgb[0]
    origins, directions = views.rays(32, 32)
    truth = render_rays(World(torch.eye(4)), origins.reshape(-1, 3), directions.reshape(-1, 3), 160, 0)
    wanted = (truth.rgb + 1 - truth.opacity[:, None]).view(6, 32, 32, 3).permute(0, 3, 1, 2)
    assert float(psnr(seen, wanted).min()) >= 40
    assert float(psnr(seen, wanted.roll(1, 0)).max()) < 30  # the views differ enough to tell
    surface = extract_isosurface(lambda points: triplanes_density(triplanes, answer, points), 5.0, 24)
    back = World(torch.eye(4)).density(torch.from_numpy(surface.vertices))
    assert float((back - 5).abs().median()) < 0.5


def triplanes_density(triplanes: Triplanes, answer: World, points: Tensor) -> Tensor:
    return answer.density(triplanes._model_points(points[None])[0])
