from __future__ import annotations

import pyarrow as pa
import pytest
import torch

from tests.metrics.noise_ball import ball_views
from vfusion3d.cameras import Rig
from vfusion3d.engine import MatchScore, SfmCheck
from vfusion3d.engine.stages.orbits import RIG
from vfusion3d.engine.stages.pictures import encode_frames

FRAMES, ELEVATION = 16, 0.6
TRUE = {"radius": 3.0, "fov": 40.0, "direction": 1, "frames": FRAMES}


@pytest.fixture(scope="module")
def frames() -> list[bytes]:
    """The first two of an orbit around a blotched ball, over and over: one pair in two is a true one."""
    views = encode_frames(ball_views(Rig(**TRUE).cameras(ELEVATION)[:2], 120))
    return [*views, *[encode_frames(torch.ones(1, 3, 120, 120))[0]] * (FRAMES - 2)]


def batch(frames, *rows) -> pa.Table:
    rigs = pa.array([{**TRUE, **{k: v for k, v in row.items() if k != "elevation"}} for row in rows], RIG)
    elevations = pa.array([row.get("elevation", ELEVATION) for row in rows])
    ids = pa.array([str(number) for number in range(len(rows))])
    return pa.table({"id": ids, "frames": [frames] * len(rows), "rig": rigs, "elevation": elevations})


def test_the_score_is_of_the_rows_rig_and_elevation(frames):
    rows = MatchScore()(batch(frames, {}, {"direction": -1}, {"elevation": 0.0})).to_pylist()
    assert [row["match_score"] for row in rows] == [1 / FRAMES, 0, 0]  # the only pair that shows anything


def test_shares_become_numbers_of_frames(frames, monkeypatch):
    seen = []

    def figures(given, cameras, **settings):
        seen.append((tuple(given.shape), float(cameras.elevations[0]), settings))
        return {"sfm_registered": 0.75, "sfm_within": 0.5, "sfm_pass": 1.0}

    monkeypatch.setattr("vfusion3d.engine.stages.consistency.require_pycolmap", lambda: None)  # an extra
    monkeypatch.setattr("vfusion3d.engine.stages.consistency.sfm_figures", figures)
    [row] = SfmCheck(timeout=9)(batch(frames, {})).to_pylist()
    assert (row["sfm_registered"], row["sfm_frames"]) == (12, 8)
    [(shape, elevation, settings)] = seen
    assert shape == (FRAMES, 3, 120, 120) and elevation == pytest.approx(ELEVATION) and settings["timeout"] == 9
    [row] = SfmCheck()(batch([b"no picture"] * FRAMES, {})).to_pylist()
    assert row["sfm_frames"] is None and row["error"].startswith("Frame 0 cannot be decoded (")
