"""Consistency of real photographs and of renders of real objects: yes to them, no to what was done to them."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vfusion3d.alpha import over_white
from vfusion3d.cameras import Cameras
from vfusion3d.cameras.conventions import to_opencv_w2c
from vfusion3d.data.posed_photos import load_posed_photos
from vfusion3d.data.scenes import Scene
from vfusion3d.meshes import RenderJob, ViewSettings, render_scene
from vfusion3d.metrics import find_cameras, match_score, rotation_errors
from vfusion3d.metrics.consistency import MATCH_LIMIT, neighbour_errors

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("pycolmap") is None, reason="needs pycolmap"),
]
MESHES = ("gso_schleich_lion_action_figure", "ycb_power_drill", "gso_bunny_racer")


def frames_of(name: str, shared: Path, place: Path) -> tuple[Tensor, Cameras]:
    if name == "temple_sparse_ring":
        photos = load_posed_photos(shared / "data" / "multiview" / name)
        return torch.stack([photos.image(k)[:3] for k in range(len(photos))]), photos.cameras
    render_scene(RenderJob(shared / "data" / "meshes" / f"{name}.glb", place / name, ViewSettings(resolution=512)))
    scene = Scene.load(place / name)
    return over_white(scene.images()), scene.cameras


def bent(frames: Tensor, share: float = 0.05) -> Tensor:
    """Each frame bent in its own way, by up to 13 of 512 pixels."""
    shift = F.interpolate((2 * torch.rand(len(frames), 2, 4, 4) - 1) * share, frames.shape[-2:], mode="bicubic")
    grid = F.affine_grid(torch.eye(2, 3).expand(len(frames), 2, 3), list(frames.shape), align_corners=False)
    return F.grid_sample(frames, grid + shift.permute(0, 2, 3, 1), padding_mode="border", align_corners=False)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", [*MESHES, "temple_sparse_ring"])
def test_real_orbits_are_consistent(name: str, shared: Path, tmp_path: Path) -> None:
    frames, cameras = frames_of(name, shared, tmp_path)
    assert len(frames) == 16
    found = find_cameras(frames, cameras.intrinsics, timeout=1800)
    ideal = to_opencv_w2c(cameras, 1, 1)[0][:, :3, :3]
    assert int((rotation_errors(found.rotations, ideal[found.frames]) <= 10).sum()) >= 8

    order = torch.randperm(16)
    assert int((rotation_errors(found.rotations, ideal[order][found.frames]) <= 10).sum()) < 8

    # The photographs come in no order: of 16 in a row 10 are 20 to 25 degrees from the next, the others face elsewhere.
    towards = torch.nn.functional.normalize(cameras.centers, dim=-1)
    near = (towards * towards.roll(-1, 0)).sum(-1) > math.cos(math.radians(30))
    assert near.sum() >= 10
    fits = (neighbour_errors(frames, cameras) < MATCH_LIMIT).double()
    assert fits[near].mean() >= 0.75
    true = float(fits.mean())  # what match_score gives
    assert float(match_score(frames[order], cameras)) < true / 2
    assert float(match_score(bent(frames), cameras)) < true / 2
