"""Our implementation against numbers of the published VFusion3D and OpenLRM code, stage by stage.

    python benchmarks/parity.py FOLDER --json

FOLDER holds one fixture: `config.json`, `weights.safetensors` and `data.npz` of a small random model run through the
published code, or `extras` (cameras, losses, image encoders). Each stage is computed from our own result of the stage
before. Standard output is one JSON document with --json, a table without; the exit code is 0 if all stages pass, 1 if
one fails, 2 if the folder holds no fixture.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from vfusion3d import Cameras, ReconstructorConfig
from vfusion3d.cameras import frame_transform, orbit, source_vectors
from vfusion3d.cameras.conventions import from_openlrm, from_render_vectors
from vfusion3d.cameras.frames import openlrm_canonical_pose
from vfusion3d.cameras.orbits import pinhole
from vfusion3d.errors import CheckpointError, VFusion3DError
from vfusion3d.models.dinov2 import DinoEncoder, resample_positions
from vfusion3d.models.field import TriplaneField
from vfusion3d.models.released import Family, config_of, convert_state, family_of, installed_names
from vfusion3d.models.transformer import CameraEmbedding, TriplaneDecoder
from vfusion3d.models.triplanes import Rendering, Triplanes
from vfusion3d.rendering.isosurface import extract_isosurface
from vfusion3d.rendering.parity import line_interval, parity_rays, render_rays_parity
from vfusion3d.rendering.textbook import TextbookField
from vfusion3d.training.losses import total_variation

TOKENS, RAW, RGB, COARSE, SAMPLED, POSES = 1e-5, 1e-4, 1e-5, 5e-5, 5e-4, 1e-5
JITTER = 0.4  # of the fixtures' coarse samples


class Stages(dict[str, dict[str, Any]]):
    """Largest differences by stage."""

    def compare(self, name: str, ours: Tensor, published: Any, tolerance: float) -> None:
        """Note the largest absolute difference; another shape or a NaN fails."""
        published = torch.as_tensor(np.asarray(published))
        error = float("inf")
        if ours.shape == published.shape and ours.numel():
            error = float((ours.detach().double() - published.double()).abs().max())
        passed = error <= tolerance
        self[name] = {"max_error": error if math.isfinite(error) else None, "tolerance": tolerance, "passed": passed}

    @property
    def passed(self) -> bool:
        """Whether there were stages and all passed."""
        return bool(self) and all(stage["passed"] for stage in self.values())


@torch.no_grad()
def check_model(folder: Path) -> Stages:
    """From image tokens to pictures and a mesh, of a fixture with weights.

    Raises:
        CheckpointError: if it is none.
    """
    document, data = _read(folder / "config.json"), _arrays(folder / "data.npz")
    published = load_file(folder / "weights.safetensors")
    family = family_of(published)
    if family is None:
        raise CheckpointError(f"{folder / 'weights.safetensors'} has neither VFusion3D's nor OpenLRM's names.")
    state = convert_state(published)
    config = config_of(family, state, document["config"])
    modules = torch.nn.ModuleDict(
        {
            "camera_embedding": CameraEmbedding(config.camera_dim),
            "decoder": TriplaneDecoder(config),
            "field": TriplaneField(config),
        }
    )
    modules.load_state_dict(state)
    stages = Stages()
    source = from_openlrm_free(data["source_pose"], data["source_intrinsics"])
    stages.compare("source_camera", source.vectors, data["source_camera"], POSES)
    embedding = modules["camera_embedding"](source.vectors)
    stages.compare("camera_embedding", embedding, data["camera_embedding"], TOKENS)
    decoder: Any = modules["decoder"]
    kept: dict[str, Tensor] = {}
    for number, layer in enumerate(decoder.layers):
        layer.register_forward_hook(_keep(kept, f"tokens_after_layer{number}"))
    decoder.norm.register_forward_hook(_keep(kept, "tokens"))
    planes = decoder(torch.from_numpy(data["image_feats"]), embedding)
    for name, value in kept.items():
        stages.compare(name, value, data[name], TOKENS)
    stages.compare("planes", planes, data["planes"], TOKENS)
    field: Any = modules["field"]
    # Fixtures' poses are in the model's own frame, as the published code has it.
    triplanes = Triplanes(field, planes, torch.eye(4).expand(len(planes), 4, 4))
    _check_points(stages, triplanes, data)
    _check_rays(stages, data)
    _check_pictures(stages, triplanes, data, family, document)
    return stages


def _check_points(stages: Stages, triplanes: Triplanes, data: dict[str, np.ndarray]) -> None:
    fields = [triplanes.object_field(k) for k in range(len(triplanes))]
    points = torch.from_numpy(data["query_points"])
    raw, colour = map(torch.stack, zip(*map(_raw, fields, points), strict=True))
    stages.compare("raw_density", raw[..., None], data["points_sigma_raw"], RAW)
    stages.compare("density", fields[0].activate(raw)[..., None], data["points_sigma"], RAW)
    stages.compare("point_rgb", colour, data["points_rgb"], RGB)
    axis = torch.linspace(-1, 1, 24)
    lattice = torch.cartesian_prod(axis, axis, axis)
    values = [_raw(field, lattice) for field in fields]
    density = torch.stack([fields[0].activate(raw) for raw, _ in values]).view(-1, 24, 24, 24)
    stages.compare("grid_density", density, data["grid24_sigma"], RAW)
    stages.compare("grid_rgb", values[0][1].view(1, 24, 24, 24, 3), data["grid24_rgb"], RGB)
    surface = extract_isosurface(
        lambda points: fields[0].activate(_raw(fields[0], points)[0]), float(data["mesh_threshold"]), 24, min_share=0.0
    )
    # Ours is closed where the object leaves the box, has no inner walls, and has more vertices inside ambiguous cells:
    # those of its vertices that lie on an edge of the lattice inside the box are theirs.
    ours, theirs = torch.from_numpy(surface.vertices), torch.from_numpy(data["mesh_vertices"]).float()
    cell = (ours + 1) * (23 / 2)
    on_edge = ((cell - cell.round()).abs() < 1e-4).sum(-1) >= 2
    inner = ours[on_edge & (ours.abs() < 1 - 1e-5).all(-1)]
    exact = "donot_use_mm_for_euclid_dist"
    nearest = torch.cat([torch.cdist(part, theirs, compute_mode=exact).amin(1) for part in inner.split(2048)])
    stages.compare("mesh_vertices", nearest, np.zeros(len(nearest)), RAW)
    _, colour = _raw(fields[0], theirs)
    stages.compare("mesh_rgb", colour, data["mesh_vertex_rgb"], 2e-5)


def _check_rays(stages: Stages, data: dict[str, np.ndarray]) -> None:
    side = round(data["ray_origins"].shape[2] ** 0.5)
    cameras = from_render_vectors(torch.from_numpy(data["render_camera"]))[:1]
    origins, directions = (rays.flatten(2, 3) for rays in cameras.rays(side, side))
    stages.compare("ray_origins", origins, data["ray_origins"], POSES)
    stages.compare("ray_directions", directions, data["ray_directions"], POSES)
    near, far = line_interval(origins, directions)
    hit = near <= far
    stages.compare("ray_near", torch.where(hit, near, -1), data["ray_near"], POSES)
    stages.compare("ray_far", torch.where(hit, far, -2), data["ray_far"], POSES)


def _check_pictures(
    stages: Stages, triplanes: Triplanes, data: dict[str, np.ndarray], family: Family, document: dict[str, Any]
) -> None:
    cameras = from_render_vectors(torch.from_numpy(data["render_camera"]))
    objects, views = cameras.shape
    side = int(document["render_size"])
    half = int(document["samples_per_ray"]) // 2

    def group(name: str, rendered: Rendering, tolerance: float) -> None:
        stages.compare(f"{name}_rgb", rendered.rgb, data[f"{name}_rgb"], tolerance)
        stages.compare(f"{name}_opacity", rendered.opacity, data[f"{name}_weight"], SAMPLED)
        stages.compare(f"{name}_depth", rendered.depth, data[f"{name}_depth"], SAMPLED)

    def jitter(coarse: int, fine: int) -> Tensor:
        steps = torch.cat([torch.full((coarse,), JITTER), torch.linspace(0, 1, fine)])
        return steps.expand(objects, views, side * side, -1)

    def render(unit: Tensor, fine: int) -> Rendering:
        coarse = unit.shape[-1] - fine
        return triplanes.render(
            cameras, side, side, coarse_samples=coarse, fine_samples=fine, jitter=unit, sampler="parity"
        )

    group("coarse", render(jitter(2 * half, 0), 0), COARSE)
    group("det", render(jitter(half, half), half), SAMPLED)
    drawn = torch.from_numpy(np.concatenate([data["rand_u_coarse"], data["rand_u_fine"]], -1))
    group("rand", render(drawn, half), SAMPLED)
    small = side // 2
    if family == "vfusion3d":
        group("crop", window(triplanes, cameras, small, half, 7.0, 5.0, side, 1.0), SAMPLED)
        return
    top, left = torch.from_numpy(data["patch_anchors"]).float().unbind(-1)
    full, grey = (torch.from_numpy(data[f"patch_{name}"])[..., 0].float() for name in ("resolutions", "bg_colors"))
    group("patch", window(triplanes, cameras, small, half, top, left, full, grey), SAMPLED)


def window(
    triplanes: Triplanes,
    cameras: Cameras,
    size: int,
    half: int,
    top: Tensor | float,
    left: Tensor | float,
    full: Tensor | float,
    grey: Tensor | float,
) -> Rendering:
    """A square window of larger pictures, over a grey per view."""
    rays = parity_rays(cameras, size, size, top, left, full)
    fields = [TextbookField(triplanes[k]) for k in range(len(triplanes))]
    shift = torch.tensor(JITTER)
    seen = render_rays_parity(fields, *(part.flatten(1, 3) for part in rays), half, half, shift)
    shape = (*cameras.shape, size, size)
    opacity = seen.opacity.view(shape)
    background = (1 - opacity) * torch.as_tensor(grey).expand(cameras.shape)[..., None, None]
    rgb = (seen.rgb.view(*shape, 3) + background[..., None]).permute(0, 1, 4, 2, 3)
    return Rendering(rgb, opacity[:, :, None], seen.depth.view(shape)[:, :, None])


def from_openlrm_free(poses: np.ndarray, intrinsics: np.ndarray) -> Cameras:
    """Cameras of the fixtures' poses and pixel intrinsics, in the model's own frame."""
    k = torch.from_numpy(intrinsics)
    return Cameras(torch.from_numpy(poses), (k[..., :2, :] / k[..., 2:, :]).flatten(-2))


@torch.no_grad()
def check_extras(folder: Path) -> Stages:
    """Encoders, cameras and losses of the folder `extras`."""
    data, encoder = _arrays(folder / "data.npz"), _arrays(folder / "vfusion3d_encoder.npz")
    stages = Stages()
    model = _encoder(load_file(folder / "vfusion3d_tiny_dinov2.safetensors"), "vfusion3d", encoder["image"].shape[-1])
    image = torch.from_numpy(encoder["image"])
    stages.compare("vfusion3d_pixels", (image - model.mean) / model.std, encoder["pixel_values"], TOKENS)
    stages.compare("vfusion3d_encoder", model(image).tokens, encoder["features"], TOKENS)
    learned = torch.from_numpy(encoder["pos_embed_37"])
    for size in (512, 448, 336, 224):
        ours = resample_positions(learned, size // 14, size // 14)
        stages.compare(f"vfusion3d_positions_{size}", ours, encoder[f"pos_embed_at_{size}"], TOKENS)
    weights = load_file(folder / "openlrm_tiny_dinov2_reg.safetensors")
    image = torch.from_numpy(data["olrm_enc_image"])
    model = _encoder({f"encoder.model.{key}": value for key, value in weights.items()}, "openlrm", image.shape[-1])
    stages.compare("openlrm_encoder", model(image).tokens, data["olrm_enc_features"], TOKENS)
    for degrees in (0, 20):
        views = orbit(8, elevation=math.radians(degrees), radius=1.5)
        stages.compare(f"vfusion3d_orbit_{degrees}", views.poses, data[f"vf3d_surround_8_r1.5_e{degrees}"], POSES)
    intrinsics = torch.from_numpy(data["olrm_intrinsics_f0.75_c0.5"]).expand(8, 3, 2)
    theirs = from_openlrm(torch.from_numpy(data["olrm_surround_8_r2_h0.8"]), intrinsics)
    views = orbit(7, elevation=math.asin(0.4), radius=2.0)  # theirs ends with the first view again
    stages.compare("openlrm_orbit", torch.cat([views.poses, views.poses[:1]]), theirs.poses.numpy(), POSES)
    scene = Cameras(torch.from_numpy(data["norm_in_poses"]), pinhole())
    matrix = frame_transform(scene[0], "source_relative")
    stages.compare("openlrm_normalisation_matrix", matrix, data["norm_auto_matrix"], POSES)
    stages.compare("openlrm_normalisation", scene.transform(matrix).poses, data["norm_auto_poses"], POSES)
    row = torch.tensor([[0.0, 0.0, 0.0, 1.0]])
    at_two = torch.cat([openlrm_canonical_pose(2.0), row]) @ scene[0].world_to_camera
    stages.compare("openlrm_normalisation_2", scene.transform(at_two).poses, data["norm_2.0_poses"], POSES)
    item = from_openlrm_free(data["ds_poses"], data["ds_intrinsics"][None].repeat(len(data["ds_poses"]), 0))
    chosen = item[torch.from_numpy(data["ds_views"]).long()]
    stages.compare(
        "openlrm_item_source", source_vectors(chosen[0], "source_relative"), data["ds_out_source_camera"], POSES
    )
    moved = chosen.transform(frame_transform(chosen[0], "source_relative"))
    stages.compare(
        "openlrm_item_views",
        moved.poses,
        from_render_vectors(torch.from_numpy(data["ds_out_render_camera"])).poses,
        POSES,
    )
    x, y = torch.from_numpy(data["loss_x"]), torch.from_numpy(data["loss_y"])
    stages.compare("loss_mse", torch.nn.functional.mse_loss(x, y), data["loss_mse"], RGB)
    stages.compare("loss_total_variation", total_variation(torch.from_numpy(data["tv_planes"])), data["loss_tv"], RGB)
    return stages


def _encoder(weights: dict[str, Tensor], family: Family, size: int) -> DinoEncoder:
    """A small DINOv2 out of published weights."""
    state = {key.removeprefix("encoder."): value for key, value in convert_state(weights).items()}
    positions, patches = (
        state[f"model.embeddings.{name}"] for name in ("position_embeddings", "patch_embeddings.projection.weight")
    )
    layers = {key.split(".")[3] for key in state if key.startswith("model.encoder.layer.")}
    preset = ReconstructorConfig.preset("vfusion3d" if family == "vfusion3d" else "openlrm-base")
    config = dataclasses.replace(
        preset,
        image_size=size,
        encoder_dim=positions.shape[-1],
        encoder_heads=2,
        encoder_layers=len(layers),
        encoder_positions=round((positions.shape[1] - 1) ** 0.5),
        patch_size=patches.shape[-1],
    )
    model = DinoEncoder(config)
    state.setdefault("model.embeddings.mask_token", torch.zeros(1, config.encoder_dim))
    model.load_state_dict(installed_names(state, model.state_dict()))
    return model.eval()


def _keep(kept: dict[str, Tensor], name: str) -> Callable[..., None]:
    def hook(module: torch.nn.Module, inputs: Any, output: Tensor) -> None:
        kept[name] = output

    return hook


def _raw(field: Any, points: Tensor) -> tuple[Tensor, Tensor]:
    result: tuple[Tensor, Tensor] = field.raw_density_and_colour(points)
    return result


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def _read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def main() -> int:
    """Check, print; 0, 1 if a stage fails, 2 if there is no fixture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="one fixture folder")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    arguments = parser.parse_args()
    folder = Path(arguments.folder)
    try:
        if (folder / "weights.safetensors").is_file():
            stages = check_model(folder)
        elif (folder / "vfusion3d_encoder.npz").is_file():
            stages = check_extras(folder)
        else:
            raise CheckpointError(f"{folder} holds no fixture: neither weights.safetensors nor vfusion3d_encoder.npz.")
    except (VFusion3DError, OSError, ValueError, KeyError, RuntimeError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else (str(error).splitlines() or [repr(error)])[0]
        prefix = "" if str(folder) in reason else f"{folder}: "
        print(f"parity.py: {prefix}{reason}", file=sys.stderr)
        return 2
    if arguments.json:
        print(json.dumps({"stages": stages, "passed": stages.passed}))
    else:
        for name, stage in stages.items():
            error = "shape or NaN" if stage["max_error"] is None else f"{stage['max_error']:.1e}"
            print(f"{name:<32}{error:>14}  <= {stage['tolerance']:.0e}  {'ok' if stage['passed'] else 'FAILED'}")
    return 0 if stages.passed else 1


if __name__ == "__main__":
    sys.exit(main())
