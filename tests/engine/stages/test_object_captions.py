"""The whole chain with tiny random models, and what is chosen with scripted ones."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from tests.engine.tiny_language import write_blip2, write_clip, write_lm
from vfusion3d.engine import ObjectCaptioner
from vfusion3d.errors import CheckpointError, UsageError


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {
        "captioner": str(write_blip2(root / "blip2")),
        "clip": str(write_clip(root / "clip")),
        "merger": str(write_lm(root / "lm")),
    }


def picture(seed, size=24):
    data = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(data, format="PNG")
    return data.getvalue()


def table(*views):
    kind = pa.list_(pa.binary())
    return pa.table({"id": [str(k) for k in range(len(views))], "views": pa.array(views, kind)})


def test_the_chain(models):
    """Every model has its part, an object has the same caption alone and among others, and a bad view fails alone."""
    objects = [[picture(0), picture(1), picture(2)], [picture(3)], [b"no picture"]]
    stage = ObjectCaptioner(**models, candidates=3, views=2, device="cpu")
    rows = stage(table(*objects)).to_pylist()
    assert [row["error"] is None for row in rows] == [True, True, False] and "cannot be decoded" in rows[2]["error"]
    assert [len(row["view_captions"]) for row in rows[:2]] == [2, 1]
    assert all(row["caption"] and -1 <= row["caption_score"] <= 1 for row in rows[:2])
    alone = stage(table(objects[1])).to_pylist()[0]
    assert alone["caption"] == rows[1]["caption"]
    assert alone["caption_score"] == pytest.approx(rows[1]["caption_score"], abs=1e-5)

    plain = ObjectCaptioner(models["captioner"], candidates=3, views=2, device="cpu")
    row = plain(table(objects[0])).to_pylist()[0]
    assert row["caption"] == row["view_captions"][0] and row["caption_score"] is None
    asked = ObjectCaptioner(models["captioner"], candidates=1, question="a red chair", device="cpu")
    assert asked(table(objects[0])).to_pylist()[0]["error"] is None
    assert len({one.fingerprint({}) for one in (stage, plain, asked)}) == 3


class Scripted(ObjectCaptioner):
    """Texts and views are points on a circle, which CLIP compares."""

    angles = {"owl": 10, "bird": 30, "back": 70, "grey": 85, "an owl": 45, "": 0}  # noqa: RUF012
    choices = (("bird", "owl"), ("back", "grey"))

    def load(self):
        self.clip = self.sources[1]
        self.merger = self.sources[2]

    def _candidates(self, pictures):
        return self.choices

    def _embed_pictures(self, pictures):
        return self._points([0, 80]) if self.clip else None

    def _embed_texts(self, texts):
        return torch.stack([self._points([self.angles[text] for text in view]) for view in texts])

    def _points(self, angles):
        radians = torch.tensor(angles).deg2rad()
        return torch.stack([radians.cos(), radians.sin()], -1)

    def _merge(self, captions):
        self.merged = captions
        return self.said


def test_what_is_chosen(models):
    views = [picture(0), picture(1)]
    row = Scripted(models["captioner"], candidates=2)(table(views)).to_pylist()[0]
    assert (row["caption"], row["view_captions"]) == ("bird", ["bird", "back"])  # the most likely ones

    clip = Scripted(models["captioner"], models["clip"])
    row = clip(table(views)).to_pylist()[0]
    assert row["view_captions"] == ["owl", "grey"]  # each view's nearest
    assert row["caption"] == "owl"  # of these, the nearer to both: 10 and 70 degrees, against 85 and 5
    assert row["caption_score"] == pytest.approx(float(np.cos(np.deg2rad([10, 70])).mean()))

    clip.choices = (("", "bird"), ("", ""))  # what is empty is no caption, however near
    row = clip(table(views)).to_pylist()[0]
    assert (row["caption"], row["view_captions"]) == ("bird", ["bird", ""])
    clip.choices = (("",), ("",))
    assert clip(table(views)).to_pylist()[0]["error"] == "The captioner said nothing of any view."

    merger = Scripted(**models)
    for merger.said, caption in (("an owl", "an owl"), ("", "owl")):
        row = merger(table(views)).to_pylist()[0]
        assert row["caption"] == caption and merger.merged == ["owl", "grey"]


def test_what_cannot_be_used(models):
    with pytest.raises(UsageError, match="`candidates` must be at least 1, but got 0"):
        ObjectCaptioner(models["captioner"], candidates=0)
    with pytest.raises(UsageError, match=r"must have \{captions\} once"):
        ObjectCaptioner(models["captioner"], template="Merge:")
    with pytest.raises(CheckpointError, match=r"There is no folder '\./gone'"):
        ObjectCaptioner("./gone")
    with pytest.raises(CheckpointError, match="holds a Blip2ForConditionalGeneration, but a CLIPModel is needed"):
        ObjectCaptioner(models["captioner"], clip=models["captioner"], device="cpu").load()
