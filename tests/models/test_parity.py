"""The decoder, the planes and the point MLP against numbers of the published code (developers' fixtures)."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vfusion3d import Cameras, ReconstructorConfig
from vfusion3d.models.field import ObjectField, TriplaneField
from vfusion3d.models.transformer import CameraEmbedding, TriplaneDecoder


def renamed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Published names to ours."""
    table = (
        ("camera_embedder.mlp.", "camera_embedding.layers."),
        ("transformer.pos_embed", "decoder.positions"),
        ("pos_embed", "decoder.positions"),
        ("transformer.deconv.", "decoder.upsample."),
        ("upsampler.", "decoder.upsample."),
        ("transformer.", "decoder."),
        ("synthesizer.decoder.net.", "field.layers."),
    )
    inner = (
        (".mlp.1.", ".modulation."),
        (".mlp.3.", ".mlp.2."),
        ("cross_attn.q_proj_weight", "cross_attention.query.weight"),
        ("cross_attn.k_proj_weight", "cross_attention.key.weight"),
        ("cross_attn.v_proj_weight", "cross_attention.value.weight"),
        ("cross_attn.out_proj", "cross_attention.out"),
        ("self_attn.out_proj", "self_attention.out"),
    )
    result = {}
    for key, value in state.items():
        for old, new in table:
            if key.startswith(old):
                key = new + key[len(old) :]
                break
        for old, new in inner:
            key = key.replace(old, new)
        if "self_attn.in_proj_weight" in key:
            base = key.replace("self_attn.in_proj_weight", "self_attention.")
            result |= dict(zip((base + f"{n}.weight" for n in ("query", "key", "value")), value.chunk(3), strict=True))
        else:
            result[key] = value
    return result


@pytest.mark.parametrize("name", ["vfusion3d_a", "openlrm_a"])
@torch.no_grad()
def test_decoder_and_field(shared, name):
    folder = shared / "parity" / name
    settings = json.loads((folder / "config.json").read_text())["config"]
    data = {key: torch.from_numpy(value) for key, value in np.load(folder / "data.npz").items() if value.ndim}
    config = ReconstructorConfig(
        encoder_dim=settings["encoder_feat_dim"],
        encoder_heads=1,
        transformer_dim=settings["transformer_dim"],
        transformer_layers=settings["transformer_layers"],
        transformer_heads=settings["transformer_heads"],
        camera_dim=settings["camera_embed_dim"],
        triplane_low=settings["triplane_low_res"],
        triplane_high=settings["triplane_high_res"],
        triplane_channels=settings["triplane_dim"],
    )
    modules = torch.nn.ModuleDict(
        {
            "camera_embedding": CameraEmbedding(config.camera_dim),
            "decoder": TriplaneDecoder(config),
            "field": TriplaneField(config),
        }
    )
    modules.load_state_dict(renamed(load_file(folder / "weights.safetensors")))
    source = Cameras.from_vectors(data["source_camera"])
    camera = modules["camera_embedding"](source.vectors)
    torch.testing.assert_close(camera, data["camera_embedding"], atol=1e-5, rtol=0)
    planes = modules["decoder"](data["image_feats"], camera)
    torch.testing.assert_close(planes, data["planes"], atol=1e-5, rtol=0)
    points = data["query_points"][0]
    inside = (points.abs() <= 1).all(-1)  # the published query is not masked outside the cube
    density, colour = ObjectField(modules["field"], planes[0]).density_and_colour(points[inside])
    torch.testing.assert_close(density, data["points_sigma"][0, inside, 0], atol=1e-4, rtol=0)
    torch.testing.assert_close(colour, data["points_rgb"][0][inside], atol=1e-5, rtol=0)
    poses = Cameras(data["render_pose"], data["render_camera"][..., [16, 20, 18, 21]])
    side = round(data["ray_directions"].shape[2] ** 0.5)
    origins, directions = poses[:1].rays(side, side)
    torch.testing.assert_close(directions.flatten(2, 3), data["ray_directions"], atol=1e-5, rtol=0)
    torch.testing.assert_close(origins.flatten(2, 3), data["ray_origins"], atol=1e-5, rtol=0)
