"""Protocols are data with a hash."""

from __future__ import annotations

import dataclasses
import re

import pytest

from vfusion3d.errors import UsageError
from vfusion3d.evaluation import Protocol, list_protocols
from vfusion3d.evaluation.published import published, published_rows


@pytest.mark.parametrize("name", list_protocols())
def test_every_shipped_protocol_loads_and_makes_its_cameras(name: str) -> None:
    protocol = Protocol.load(name)
    assert protocol.name == name and protocol.description and protocol.sources
    cameras = protocol.settings().cameras("object")
    assert cameras.shape[0] == protocol.views
    assert Protocol.from_dict(protocol.to_dict()) == protocol


def test_the_papers_numbers() -> None:
    gso, novel, sync = map(Protocol.load, ("gso-orbit", "novel-view-32", "gso30-syncdreamer"))
    assert (gso.views, gso.elevation, list(gso.scored)) == (16, 20, list(range(1, 16)))
    assert (novel.views, len(novel.scored)) == (33, 32)
    assert (sync.views, sync.elevation, sync.resolution, sync.lpips, sync.scored[0]) == (16, 30, 256, "vgg", 0)
    assert published()["gso-orbit"]["rows"]["VFusion3D"] == [20.89, 0.848, 0.127]
    assert "Published, not measured here" in published_rows("gso-orbit-128") and published_rows("mine") == ""


def test_the_hash_is_of_everything_that_decides_a_figure(protocol: Protocol) -> None:
    changes = {
        "layout": "random", "views": 5, "resolution": 32, "elevation": 10.0, "fov": 30.0, "lighting": "unlit",
        "count_input": True, "lpips": "alex", "border": 0.2, "alignment": "silhouette-scale", "seed": 1,
        "name": "other", "count": 5,
    }  # fmt: skip
    hashes = {protocol.hash, *(dataclasses.replace(protocol, **{key: value}).hash for key, value in changes.items())}
    assert len(hashes) == 1 + len(changes)
    assert dataclasses.replace(protocol, elevation=20.0).hash == protocol.hash  # one number, however it is written
    words = dataclasses.replace(protocol, description="other words", sources=("elsewhere",))
    assert words.hash == protocol.hash
    assert {field.name for field in dataclasses.fields(protocol)} == {
        *changes,
        "description",
        "sources",
        "objects",
        "leave_out",
    }


def test_a_list_of_objects_is_hashed_by_its_names(protocol: Protocol, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("vfusion3d.evaluation.protocol.FOLDER", tmp_path)
    (tmp_path / "one.txt").write_text("cat\ndog\n")
    (tmp_path / "two.txt").write_text("dog\n\ncat\n")
    one, two, less = (
        dataclasses.replace(protocol, **{key: name})
        for key, name in (("objects", "one.txt"), ("objects", "two.txt"), ("leave_out", "one.txt"))
    )
    assert one.hash == two.hash and len({protocol.hash, one.hash, less.hash}) == 3
    assert one.choose(["jar", "dog"]) == ["dog"] and less.choose(["jar", "dog"]) == ["jar"]
    assert protocol.choose(["jar", "dog"]) == ["dog", "jar"]
    with pytest.raises(UsageError, match=r"The object list .*three.txt of protocol small cannot be read"):
        dataclasses.replace(protocol, objects="three.txt").choose(["cat"])
    with pytest.raises(UsageError, match="None of the 1 meshes is an object of protocol small"):
        one.choose(["jar"])
    with pytest.raises(UsageError, match="is of 2 objects, but 1 of the 2 meshes are its"):
        dataclasses.replace(one, count=2).choose(["cat", "jar"])


def test_996_of_googles_1030_scans() -> None:
    """The frozen list: all but 34 second scans of a thing, whose names add a code of eleven letters."""
    protocol = Protocol.load("gso-orbit-996")
    left_out = protocol._list("gso-second-scans.txt")
    assert len(left_out) == 34 == 1030 - protocol.count and all(re.search(r"_[0-9A-Za-z]{11}$", n) for n in left_out)
    others = [f"scan {k}" for k in range(996)]
    assert protocol.choose([*others, *left_out]) == sorted(others)
    with pytest.raises(UsageError, match="is of 996 objects, but 995"):
        protocol.choose(others[1:])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\nsize: 3\n", "a protocol has no field 'size'|A protocol has no field 'size'"),
        ("name: x\n", "missing"),
        ("- 1\n", "must be a mapping"),
        ("a: [", "cannot be read"),
        ("{name: x, description: y, layout: circle, views: 4, resolution: 32}", "`layout` must be one of"),
        ("{name: x, description: y, layout: orbit, views: 16.5, resolution: 32}", "`views` is of the wrong kind: 16.5"),
        (
            "{name: x, description: y, layout: orbit, views: 4, resolution: 32, count_input: 'no'}",
            "`count_input` is of",
        ),
        ("{name: x, description: y, layout: orbit, views: 4, resolution: 32, objects: 5}", "`objects` is of the wrong"),
        ("{name: x, description: y, layout: orbit, views: 1, resolution: 32}", "at least 2 `views`"),
        (
            "{name: x, description: y, layout: orbit, views: 4, resolution: 32, lpips: squeeze}",
            "`lpips` must be one of",
        ),
        ("{name: x, description: y, layout: orbit, views: 4, resolution: 32, border: 1}", "`border` must be in"),
        ("{name: x, description: y, layout: orbit, views: 4, resolution: 32, alignment: icp}", "`alignment` must be"),
    ],
)
def test_bad_protocols(tmp_path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        Protocol.load(path)
    assert str(path) in str(caught.value)


def test_no_such_protocol() -> None:
    with pytest.raises(UsageError, match=r"There is no protocol 'gso'; use one of .*gso-orbit"):
        Protocol.load("gso")
