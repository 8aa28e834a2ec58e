"""Checkpoints of VFusion3D and OpenLRM as their authors published them: their names to ours, their sizes to a preset.

Only names are translated and stacked matrices split; no weight changes. The sizes are read off the weights, so that
smaller models in the same layout load too.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from typing import Any, Literal

from torch import Tensor

from vfusion3d.errors import CheckpointError
from vfusion3d.models.config import PRESETS, ReconstructorConfig

Family = Literal["vfusion3d", "openlrm"]

_NAMES: tuple[tuple[str, str], ...] = (
    (r"^camera_embedder\.mlp\.", "camera_embedding.layers."),
    (r"^transformer\.pos_embed$|^pos_embed$", "decoder.positions"),
    (r"^transformer\.deconv\.|^upsampler\.", "decoder.upsample."),
    (r"^transformer\.", "decoder."),
    (r"^synthesizer\.decoder\.net\.", "field.layers."),
    (r"^(decoder\.layers\.\d+\.norm\d)\.mlp\.1\.", r"\1.modulation."),
    (r"^(decoder\.layers\.\d+\.mlp)\.3\.", r"\1.2."),
    (r"^(decoder\.layers\.\d+)\.cross_attn\.([qkv])_proj_weight$", r"\1.cross_attention.\2.weight"),
    (r"^(decoder\.layers\.\d+)\.(cross|self)_attn\.out_proj\.", r"\1.\2_attention.out."),
    (r"^(decoder\.layers\.\d+)\.self_attn\.in_proj_weight$", r"\1.self_attention.qkv.weight"),
    # DINOv2 as its authors name it (OpenLRM), then as transformers 4 does (VFusion3D)
    (r"^encoder\.model\.(cls_token|register_tokens|mask_token)$", r"encoder.model.embeddings.\1"),
    (r"^encoder\.model\.pos_embed$", "encoder.model.embeddings.position_embeddings"),
    (r"^encoder\.model\.patch_embed\.proj\.", "encoder.model.embeddings.patch_embeddings.projection."),
    (r"^encoder\.model\.norm\.", "encoder.model.layernorm."),
    (r"^encoder\.model\.blocks\.", "encoder.model.encoder.layer."),
    (r"^(encoder\.model\.encoder\.layer\.\d+)\.ls([12])\.gamma$", r"\1.layer_scale\2.lambda1"),
    (r"^(encoder\.model\.encoder\.layer\.\d+)\.attn\.(qkv|proj)\.", r"\1.attention.\2."),
    (r"^(encoder\.model\.encoder\.layer\.\d+\.attention)\.proj\.", r"\1.o."),
    (r"^(encoder\.model\.encoder\.layer\.\d+\.attention)\.attention\.([qkv])(?:uery|ey|alue)\.", r"\1.\2."),
    (r"^(encoder\.model\.encoder\.layer\.\d+\.attention)\.output\.dense\.", r"\1.o."),
)
_ATTENTION = {"q": "query", "k": "key", "v": "value"}


def family_of(keys: Collection[str]) -> Family | None:
    """Whose naming a state dict has, or None if neither's."""
    if "transformer.pos_embed" in keys or "transformer.deconv.weight" in keys:
        return "vfusion3d"
    return "openlrm" if "upsampler.weight" in keys or {"pos_embed", "transformer.norm.weight"} <= set(keys) else None


def convert_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published weights under our names; stacked projections become views of their parts."""
    result: dict[str, Tensor] = {}
    for published, value in state.items():
        key = published
        for pattern, replacement in _NAMES:
            key = re.sub(pattern, replacement, key)
        match = re.match(r"(.*attention)\.(qkv|q|k|v|o)\.(weight|bias)$", key)
        if match is None:
            result[key] = value
            continue
        block, which, kind = match.groups()
        parts = zip("qkv", value.chunk(3), strict=True) if which == "qkv" else [(which, value)]
        for letter, part in parts:
            ours = f"{letter}_proj" if key.startswith("encoder.") else _ATTENTION[letter]
            result[f"{block}.{ours}.{kind}"] = part
    return result


def installed_names(state: Mapping[str, Tensor], wanted: Collection[str]) -> dict[str, Tensor]:
    """Our names with DINOv2's attention called as the installed version of transformers calls it (4 and 5 differ)."""
    result = {}
    for key, value in state.items():
        older = re.sub(r"\.attention\.([qkv])_proj\.", lambda m: f".attention.attention.{_ATTENTION[m[1]]}.", key)
        older = older.replace(".attention.o_proj.", ".attention.output.dense.")
        result[older if key not in wanted and older in wanted else key] = value
    return result


def config_of(family: Family, state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> ReconstructorConfig:
    """Architecture of published weights.

    Args:
        family: Whose they are.
        state: The weights under our names (`convert_state`).
        settings: The published ``config.json``; empty if there is none. Only what weights do not show is read.

    Raises:
        CheckpointError: if a weight that shows a size is missing.
    """

    def shape(key: str) -> tuple[int, ...]:
        if key not in state:
            raise CheckpointError(f"it lacks weights of a {family} checkpoint, among them our {key}")
        return tuple(state[key].shape)

    dim, camera_dim = shape("decoder.layers.0.norm1.modulation.weight")
    dim //= 2
    _, channels, factor, _ = shape("decoder.upsample.weight")
    low = round((shape("decoder.positions")[1] / 3) ** 0.5)
    encoder_dim = shape("decoder.layers.0.cross_attention.key.weight")[1]
    decoder: dict[str, Any] = {
        "encoder_dim": encoder_dim,
        "encoder_heads": settings.get("encoder_heads", max(1, encoder_dim // 64)),
        "transformer_dim": dim,
        "transformer_layers": _layers(state, "decoder.layers."),
        "transformer_heads": settings.get("transformer_heads", max(1, dim // 64)),
        "camera_dim": camera_dim,
        "triplane_low": low,
        "triplane_high": low * factor,
        "triplane_channels": channels,
        "field_dim": shape("field.layers.0.weight")[0],
        "field_layers": len([key for key in state if re.fullmatch(r"field\.layers\.\d+\.weight", key)]),
    }
    if "encoder.model.embeddings.position_embeddings" in state:  # test files may hold the rest alone
        decoder |= {
            "encoder_layers": _layers(state, "encoder.model.encoder.layer."),
            "encoder_positions": round((shape("encoder.model.embeddings.position_embeddings")[1] - 1) ** 0.5),
            "patch_size": shape("encoder.model.embeddings.patch_embeddings.projection.weight")[-1],
        }
    samples = settings.get("rendering_samples_per_ray")
    if isinstance(samples, int):
        decoder |= {"coarse_samples": samples // 2, "fine_samples": samples - samples // 2}
    sizes = {"vfusion3d": ["vfusion3d"], "openlrm": ["openlrm-large", "openlrm-small", "openlrm-base"]}[family]
    preset = next((name for name in sizes if PRESETS[name].transformer_dim == dim), sizes[0])
    return dataclasses.replace(PRESETS[preset], **decoder)


def _layers(state: Mapping[str, Tensor], prefix: str) -> int:
    return 1 + max((int(key[len(prefix) :].split(".")[0]) for key in state if key.startswith(prefix)), default=0)
