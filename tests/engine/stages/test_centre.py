from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageDraw

from tests.engine.conftest import SIDE
from vfusion3d.cameras import Rig
from vfusion3d.engine import CentrePicture, ReadImage
from vfusion3d.engine.stages.pictures import decode_frames
from vfusion3d.preprocessing import rig_border


def drawn(*boxes, size=(96, 72)) -> bytes:
    picture, data = Image.new("RGBA", size), io.BytesIO()  # transparent: no background to tell apart
    for box in boxes:
        ImageDraw.Draw(picture).rectangle(box, fill=(200, 30, 30, 255))
    picture.save(data, format="PNG")
    return data.getvalue()


def test_objects_are_as_large_as_in_the_models_renders(video_model):
    pictures = {"one": drawn((30, 20, 60, 50)), "cut": drawn((60, 20, 95, 50)), "no": drawn()}
    pictures["two"] = drawn((5, 20, 35, 50), (60, 20, 90, 50))
    batch = pa.table({"id": list(pictures), "image": [*pictures.values()]}).append_column("x", pa.array(range(4)))
    rows = {row["id"]: row for row in CentrePicture(str(video_model))(batch).to_pylist()}
    frame = decode_frames([rows["one"]["first_frame"]])[0]
    assert frame.shape == (3, SIDE, SIDE) and rows["one"]["error"] is None
    ink = (1 - frame).mean(0)
    share = float(ink.sum() / ink.max()) ** 0.5 / SIDE
    assert share == pytest.approx(1 - 2 * rig_border(Rig(3.0, 40.0)), abs=0.03)
    for name, words in (
        ("cut", "cut off at the right edge"),
        ("two", "2 separate objects"),
        ("no", "is fully transparent"),
    ):
        assert words in rows[name]["error"] and rows[name]["first_frame"] is None
        assert rows[name]["error"].endswith(".") and rows[name]["error"].count(". ") == 0
    taken = CentrePicture(size=SIDE, border=0.2, check=False)(batch).to_pylist()
    assert [row["error"] is None for row in taken] == [True, True, False, True]


def test_settings_say_what_decides(video_model):
    by_model, by_hand = CentrePicture(str(video_model)), CentrePicture(size=SIDE, border=rig_border(Rig(3.0, 40.0)))
    assert by_model.fingerprint({}) == by_hand.fingerprint({})
    assert CentrePicture().size == 256 and CentrePicture().fingerprint({}) != by_hand.fingerprint({})


def test_files_are_read_upright_or_refused(tmp_path):
    picture = Image.new("RGB", (40, 20), "red")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    picture.save(tmp_path / "turned.jpg", exif=exif)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    batch = pa.table({"id": list("abc"), "file": ["turned.jpg", "broken.png", "missing.png"]})
    rows = ReadImage(tmp_path)(batch).to_pylist()
    assert Image.open(io.BytesIO(rows[0]["image"])).size == (20, 40)
    assert np.asarray(Image.open(io.BytesIO(rows[0]["image"])))[0, 0, 0] > 200
    assert "broken.png' is truncated or damaged" in rows[1]["error"] or "not a picture" in rows[1]["error"]
    assert rows[2]["error"] == f"Picture '{tmp_path / 'missing.png'}' does not exist; check the path."
    assert ReadImage("elsewhere").fingerprint({}) == ReadImage(tmp_path).fingerprint({})
