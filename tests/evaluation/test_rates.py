"""Shares of a shard set's items, by its columns and labels."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vfusion3d.cli import main
from vfusion3d.errors import ShardError, UsageError
from vfusion3d.evaluation.rates import RateProtocol, rate_of
from vfusion3d.metrics import wilson_interval

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "rates.py"


@pytest.fixture
def shards(tmp_path: Path, capsys: Any) -> Path:
    """Six orbits: five judged by a quality filter, four examined by structure from motion."""
    folder = tmp_path / "shards"
    command = ["data", "pack", "--procedural", "6", "--orbit", "--views", "3", "--resolution", "16", "--output"]
    assert main([*command, str(folder)]) == 0
    capsys.readouterr()
    keys = pq.read_table(folder / "items.parquet")["key"].to_pylist()
    quality = pa.table({"key": keys, "quality": pa.array([0.5, -0.1, 2.0, None, 0.0, 0.1], pa.float32())})
    pq.write_table(quality, folder / "labels-quality.parquet")
    frames = pa.table({"key": keys[:4], "sfm_frames": pa.array([16, 7, 8, 0], pa.int32())})
    pq.write_table(frames, folder / "labels-sfm.parquet")
    return folder


def test_rates_are_of_what_was_judged(shards: Path) -> None:
    good = rate_of(str(shards), RateProtocol.load("good-rate"))
    assert (good.passed, good.judged, good.items, good.interval) == (3, 5, 6, wilson_interval(3, 5))
    sfm = rate_of(str(shards), RateProtocol.load("sfm-rate"))
    assert (sfm.passed, sfm.judged, sfm.items) == (2, 4, 6)
    none = RateProtocol("none", "", "quality > 9", "quality is not null")
    assert rate_of(str(shards), none).interval == wilson_interval(0, 5)
    assert len({RateProtocol.load("good-rate").hash, RateProtocol.load("sfm-rate").hash, none.hash}) == 3


def test_what_has_no_rate(shards: Path) -> None:
    with pytest.raises(UsageError, match="there is no column 'aesthetic'"):
        rate_of(str(shards), RateProtocol("a", "", "aesthetic > 0", "quality is not null"))
    with pytest.raises(ShardError, match=r"None of the 6 items of .* has been judged \(quality > 9\)"):
        rate_of(str(shards), RateProtocol("a", "", "quality > 0", "quality > 9"))


def test_the_script(shards: Path, monkeypatch: Any, capsys: Any) -> None:
    def call(*options: str) -> int:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *options])
        return runpy.run_path(str(SCRIPT))["main"]()

    assert call(str(shards), "--protocols", "good-rate", "sfm-rate") == 0
    assert "| 3 | 5 | 6 | 60.0% [" in capsys.readouterr().out
    assert call(str(shards), "--json") == 0
    [row] = json.loads(capsys.readouterr().out)["rates"]
    assert row["passed"] == 3 and row["interval"]["value"] == 0.6
    for options, message in (
        ([str(shards), "--protocols", "mine"], "There is no "),
        ([str(shards.parent)], "is no shard set"),
        ([str(shards / "none")], "does not exist"),
    ):
        assert call(*options) == 2
        assert message in capsys.readouterr().err
