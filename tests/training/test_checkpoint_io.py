from __future__ import annotations

import os

import pytest
import torch

from vfusion3d.errors import OutputError
from vfusion3d.training.checkpoint_io import WholeCheckpointIO


class FullDisk:
    """A file on a disk with room for a hundred bytes."""

    def __init__(self, file):
        self.file, self.room = file, 100

    def write(self, data):
        self.room -= len(data)
        if self.room < 0:
            raise OSError(28, "No space left on device")
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()


def test_round_trip(tmp_path):
    path = tmp_path / "deep" / "last.ckpt"
    for number in (1.0, 2.0):
        WholeCheckpointIO().save_checkpoint({"weights": torch.full((100,), number)}, path)
        assert float(WholeCheckpointIO().load_checkpoint(path)["weights"][0]) == number
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]


def test_a_full_disk_costs_nothing(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    WholeCheckpointIO().save_checkpoint({"epoch": 1}, path)
    monkeypatch.setattr("builtins.open", lambda *arguments, real=open, **options: FullDisk(real(*arguments, **options)))
    with pytest.raises(OutputError, match=r"last\.ckpt' cannot be written: the disk is full"):
        WholeCheckpointIO().save_checkpoint({"weights": torch.zeros(1000)}, path)
    monkeypatch.undo()
    assert WholeCheckpointIO().load_checkpoint(path) == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_leavings_of_a_killed_process_go(tmp_path):
    old, fresh = tmp_path / ".last.ckpt.1.partial", tmp_path / ".last.ckpt.2.partial"
    old.write_bytes(b"half")
    fresh.write_bytes(b"at work")
    os.utime(old, (0, 0))
    WholeCheckpointIO().save_checkpoint({"epoch": 1}, tmp_path / "last.ckpt")
    assert {path.name for path in tmp_path.iterdir()} == {"last.ckpt", fresh.name}
