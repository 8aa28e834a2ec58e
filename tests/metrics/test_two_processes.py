"""Metrics over objects that two processes share, one of them scored by both, agree with those of one process."""

from __future__ import annotations

import pytest
import torch
import trimesh

from tests.engine.tiny_language import write_clip
from vfusion3d.metrics import ClipNetwork, ClipSimilarity, GoodRate, LpipsDistance, LpipsNetwork, SurfaceMetrics


def _score_a_part(rank: int, address: str, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    torch.manual_seed(0)
    mine = torch.tensor([[0, 2], [1, 0]][rank])
    pictures, target = torch.rand(2, 3, 2, 3, 32, 32)
    boxes = [trimesh.creation.box(sides) for sides in torch.rand(3, 3).add(0.5).tolist()]
    texts = ["a red chair", "two dogs", "one object"]
    network = LpipsNetwork("alex", "random")
    network.is_lpips = True  # only here: what is tested is how means are made
    clip = ClipNetwork(folder)
    for kind, settings, values in (
        (LpipsDistance, {"network": network}, (pictures, target)),
        (ClipSimilarity, {"network": clip}, (pictures, texts)),
        (SurfaceMetrics, {"samples": 200}, (boxes, boxes[1:] + boxes[:1])),
        (GoodRate, {}, (torch.tensor([True, False, True]),)),
    ):
        shared, whole = kind(**settings), kind(**settings, sync_on_compute=False)
        parts = (v[mine] if isinstance(v, torch.Tensor) else [v[k] for k in mine.tolist()] for v in values)
        shared.update(*parts, mine)
        whole.update(*values, torch.arange(3))
        found, wanted = ({name: float(value) for name, value in m.compute().items()} for m in (shared, whole))
        assert found == pytest.approx(wanted, rel=1e-5)


def test_means_are_those_of_one_process(tmp_path):
    folder, address = write_clip(tmp_path / "clip"), f"file://{tmp_path / 'meeting'}"
    torch.multiprocessing.start_processes(_score_a_part, (address, str(folder)), 2, start_method="fork")
