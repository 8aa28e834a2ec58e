from __future__ import annotations

import errno
import os

import pytest

from vfusion3d.engine.learning.labels import LabelFile, agreement, merge_labels, read_labels
from vfusion3d.errors import OutputError, UsageError


def test_labels_outlive_whatever_happens(tmp_path, monkeypatch):
    labels = LabelFile(tmp_path, "anna b.")
    for video, label in (("a", "good"), ('b,"c"\n', "bad"), ("d", "skip"), ("a", "bad"), ("e", "good")):
        labels.add(video, label)
    assert labels.undo() == "e"
    expected = {'b,"c"\n': "bad", "d": "skip", "a": "bad"}
    assert labels.labels == expected and list(labels.labels) == list(expected)
    content = labels.path.read_bytes()
    labels.path.write_bytes(content + b"f,goo")  # power was lost
    assert LabelFile(tmp_path, "anna b.").labels == expected and labels.path.read_bytes() == content

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="the disk is full"):
        labels.add("g", "good")
    assert labels.labels == expected and labels.path.read_bytes() == content
    assert read_labels(tmp_path) == {"anna b.": expected}


def test_what_is_no_file_of_labels(tmp_path):
    with pytest.raises(UsageError, match="There are no labels in"):
        read_labels(tmp_path)
    with pytest.raises(UsageError, match=r"The name '\.\./x' cannot be used"):
        LabelFile(tmp_path, "../x")
    for content, sentence in (
        (b"prompt,size\na,good\n", "its first line is not 'id,label,time'"),
        (b"id,label,time\na,fine,now\n", "Line 2 of .*a.csv must hold an id and one of good, bad, skip"),
        (b"id,label,time\n\xff\xfe\n", "save them as UTF-8 text"),
    ):
        (tmp_path / "a.csv").write_bytes(content)
        with pytest.raises(UsageError, match=sentence):
            LabelFile(tmp_path, "a")
    assert (tmp_path / "a.csv").read_bytes() == content


def test_agreement_is_cohens_kappa():
    said = [("good", "good")] * 20 + [("good", "bad")] * 5 + [("bad", "good")] * 10 + [("bad", "bad")] * 15
    said += [("skip", "good"), ("bad", "skip")]
    first, second = ({f"v{k}": pair[who] for k, pair in enumerate(said)} for who in (0, 1))
    found = agreement(("a", "b"), first, second | {"other": "good"})
    assert (found.videos, found.agreed) == (50, 35)
    assert found.kappa == pytest.approx((0.7 - 0.5) / (1 - 0.5))  # chance: 0.5 * 0.6 + 0.5 * 0.4
    assert agreement(("a", "b"), {"x": "good"}, {"x": "good"}).kappa is None
    agreed, disputed = merge_labels({"a": {"x": "good", "y": "bad", "z": "skip"}, "b": {"x": "bad", "z": "bad"}})
    assert agreed == {"y": False, "z": False} and disputed == ["x"]
