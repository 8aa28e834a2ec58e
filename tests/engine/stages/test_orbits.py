from __future__ import annotations

import json
import shutil

import pyarrow as pa
import pytest
import torch

from tests.engine.conftest import FRAMES, SIDE
from vfusion3d.cameras import Rig
from vfusion3d.engine import ImageToOrbit
from vfusion3d.engine.stages.orbits import row_rig
from vfusion3d.engine.stages.pictures import decode_frames, encode_frames
from vfusion3d.errors import CheckpointError


@pytest.fixture(scope="module")
def batch() -> pa.Table:
    """Three items; the last has a first frame of another size, and one has no prompt."""
    first = [encode_frames(torch.rand(1, 3, side, side))[0] for side in (SIDE, SIDE, SIDE, 20)]
    return pa.table({"id": list("abcd"), "first_frame": first, "prompt": ["a red cup", None, "a cup", "a cup"]})


def test_an_item_has_the_same_bytes_alone_and_in_a_batch(batch, video_model):
    stage = ImageToOrbit(video_model, steps=2, device="cpu")
    together = stage(batch)
    alone = ImageToOrbit(str(video_model), steps=2, device="cpu")(batch.slice(1, 1))  # as another process would
    assert alone["frames"][0].as_py() == together["frames"][1].as_py()
    rows = together.to_pylist()
    assert decode_frames(rows[0]["frames"]).shape == (FRAMES, 3, SIDE, SIDE)
    assert row_rig(rows[0]) == Rig(3.0, 40.0, -1, FRAMES)
    assert rows[0]["orbit_licence"].splitlines() == [
        "Video model orbits: CC-BY-4.0",
        "No released weights went into it.",
        "Training data: CC0-1.0",
    ]
    assert len({row["orbit_seed"] for row in rows[:3]}) == 3
    assert rows[3]["frames"] is None and rows[3]["error"] == (
        "The first frame has 20 x 20 pixels, but the video model makes 16 x 16; centre pictures at that size."
    )
    renamed = batch.slice(0, 1).set_column(2, "prompt", pa.array(["a blue owl"]))
    assert stage(renamed)["frames"][0].as_py() != rows[0]["frames"]  # it reads text


def test_weights_and_settings_are_the_fingerprint_and_places_are_not(video_model, tmp_path):
    def fingerprint(model=video_model, **settings):
        return ImageToOrbit(model, **{"device": "cpu", **settings}).fingerprint({})

    copy = shutil.copytree(video_model, tmp_path / "elsewhere")
    assert fingerprint() == fingerprint(copy) == fingerprint(device="cuda")
    others = [fingerprint(steps=3), fingerprint(seed=1), fingerprint(guidance={"image": 3.0}), fingerprint("emu:tiny")]
    config = json.loads((copy / "video.json").read_text())
    (copy / "video.json").write_text(json.dumps(config | {"name": "other", "licence": "MIT"}))
    assert fingerprint(copy) == fingerprint()
    (copy / "video.json").write_text(json.dumps(config | {"rig": {**config["rig"], "direction": 1}}))
    others.append(fingerprint(copy))
    shutil.copy(video_model / "video.json", copy)
    weights = bytearray((copy / "trained.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "trained.safetensors").write_bytes(weights)
    others.append(fingerprint(copy))
    assert len({fingerprint(), *others}) == 7


def test_a_model_that_is_not_there():
    with pytest.raises(CheckpointError, match=r"Unknown video model './nothing': give"):
        ImageToOrbit("./nothing")
