"""Metrics over objects that two processes share, one of them scored by both, agree with those of one process."""

from __future__ import annotations

import pytest
import torch
import trimesh

from tests.engine.tiny_language import write_clip
from tests.metrics.noise_ball import ball_views
from vfusion3d.cameras import Cameras, orbit
from vfusion3d.cameras.conventions import to_opencv_w2c
from vfusion3d.metrics import (
    ClipNetwork,
    ClipSimilarity,
    DepthMetrics,
    FoundCameras,
    GoodRate,
    LpipsDistance,
    LpipsNetwork,
    MatchConsistency,
    OrbitMetrics,
    SfmConsistency,
    SurfaceMetrics,
    sfm,
)

ORBIT = orbit(views=18, elevation=0.6)


def _score_a_part(rank: int, address: str, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    torch.manual_seed(0)
    mine = torch.tensor([[0, 2], [1, 0]][rank])
    pictures, target = torch.rand(2, 3, 2, 3, 32, 32)
    pictures[0] = target[0]  # the object that both score is not like the others
    boxes = [trimesh.creation.box(sides) for sides in torch.rand(3, 3).add(0.5).tolist()]
    texts = ["a red chair", "two dogs", "one object"]
    network = LpipsNetwork("alex", "random")
    network.is_lpips = True  # only here: what is tested is how means are made
    clip = ClipNetwork(folder)
    depths, masks = torch.rand(2, 3, 2, 1, 32, 32) + 0.1, torch.rand(2, 3, 2, 1, 32, 32)
    depths[0, 0], masks[0, 1, 0] = depths[1, 0] * 1.1, 0  # and a picture without a figure
    ball = ball_views(ORBIT[:2], 120)
    frames = torch.stack([ball, torch.ones_like(ball), ball])
    cameras = Cameras.stack([ORBIT[:2], ORBIT[:2], ORBIT[[0, 4]]])  # those of the last are not its own
    for kind, settings, values, *views in (
        (LpipsDistance, {"network": network}, (pictures, target)),
        (ClipSimilarity, {"network": clip}, (pictures, texts)),
        (SurfaceMetrics, {"samples": 200}, (boxes, boxes[1:] + boxes[:1])),
        (GoodRate, {}, (torch.tensor([True, False, True]),)),
        (DepthMetrics, {}, (*depths, *masks)),
        (DepthMetrics, {"fit_scale": True}, (*depths, *masks)),
        (OrbitMetrics, {"lpips": network}, (frames, frames.roll(1, 0)), cameras),
        (MatchConsistency, {}, (frames,), cameras),
        (SfmConsistency, {}, (frames,), cameras),
    ):
        shared, whole = kind(**settings), kind(**settings, sync_on_compute=False)
        parts = (v[mine] if isinstance(v, torch.Tensor) else [v[k] for k in mine.tolist()] for v in values)
        shared.update(*parts, mine, *(v[mine] for v in views))
        whole.update(*values, torch.arange(3), *views)
        found, wanted = ({name: float(value) for name, value in m.compute().items()} for m in (shared, whole))
        assert found == pytest.approx(wanted, rel=1e-5, nan_ok=True)
        rows = torch.cat(whole.figures)
        twice = rows[[0, 1, 2, 0]].nanmean(0)  # had the shared object counted for both
        assert not torch.allclose(twice, rows.nanmean(0), rtol=1e-3, equal_nan=True), kind


def _find_cameras(frames: torch.Tensor, *_: object) -> FoundCameras:
    """Stands for COLMAP: the frames that are not white, where they were rendered."""
    seen = (frames < 1).flatten(1).any(1).nonzero().flatten()
    matrices, _ = to_opencv_w2c(ORBIT.to("cpu", torch.float64), 1, 1)
    return FoundCameras(seen, matrices[seen, :3, :3], 100)


def test_means_are_those_of_one_process(tmp_path, monkeypatch):
    monkeypatch.setattr(sfm, "find_cameras", _find_cameras)  # forked processes have it, too
    folder, address = write_clip(tmp_path / "clip"), f"file://{tmp_path / 'meeting'}"
    torch.multiprocessing.start_processes(_score_a_part, (address, str(folder)), 2, start_method="fork")
