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
        "name": "other", "objects": ("cat",),
    }  # fmt: skip
    hashes = {protocol.hash, *(dataclasses.replace(protocol, **{key: value}).hash for key, value in changes.items())}
    assert len(hashes) == 1 + len(changes)
    assert dataclasses.replace(protocol, elevation=20.0).hash == protocol.hash  # one number, however it is written
    words = dataclasses.replace(protocol, description="other words", sources=("elsewhere",))
    assert words.hash == protocol.hash
    assert {field.name for field in dataclasses.fields(protocol)} == {*changes, "description", "sources"}


def test_the_hash_is_of_the_rules_too(protocol: Protocol, monkeypatch) -> None:
    before = protocol.hash
    monkeypatch.setattr("vfusion3d.evaluation.protocol.RULES", -1)
    assert protocol.hash != before


FIELDS = "name: mine, description: y, layout: orbit, views: 4, resolution: 32"


def test_a_list_of_objects_is_hashed_by_its_names(tmp_path) -> None:
    (tmp_path / "one.txt").write_text("cat\ndog\n")
    protocols = []
    for k, objects in enumerate(("one.txt", "[dog, cat]", "[dog]", "null")):
        path = tmp_path / f"{k}.yaml"
        path.write_text(f"{{{FIELDS}, objects: {objects}}}")
        protocols.append(Protocol.load(path))  # beside the protocol, wherever that is
    one, two, less, every = protocols
    assert one.hash == two.hash and len({every.hash, one.hash, less.hash}) == 3
    (tmp_path / "one.txt").unlink()
    assert Protocol.from_dict(one.to_dict()).hash == one.hash  # results need no list
    assert one.choose(["jar", "dog", "cat"]) == ["cat", "dog"] and every.choose(["jar", "dog"]) == ["dog", "jar"]
    with pytest.raises(UsageError, match="is of 2 objects, but 1 of them are not among the 2 meshes, the first dog: "):
        one.choose(["cat", "jar"])
    with pytest.raises(UsageError, match=r"The list of objects of .*0.yaml, .*one.txt, cannot be read"):
        Protocol.load(tmp_path / "0.yaml")


@pytest.mark.parametrize(("name", "count"), [("gso-orbit-996", 996), ("gso30-syncdreamer", 30)])
def test_frozen_lists(name: str, count: int) -> None:
    protocol = Protocol.load(name)
    objects = protocol.objects
    assert objects is not None and len(set(objects)) == len(objects) == count
    assert protocol.choose([*objects, "another"]) == sorted(objects)
    with pytest.raises(UsageError, match=f"is of {count} objects, but 1 of them are not among the {count - 1}"):
        protocol.choose(objects[1:])


def test_996_of_googles_scans_are_different_things() -> None:
    """A code of eleven letters and digits at a name's end marks another scan: of some things, later ones stay."""
    objects = Protocol.load("gso-orbit-996").objects
    assert objects is not None and all(re.fullmatch(r"[0-9A-Za-z_]+", name) for name in objects)
    assert "CoQ10" in objects and "CoQ10_BjTLbuRVt1t" not in objects and "Android_Figure_Panda" in objects


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
        ("{name: x, description: y, layout: orbit, views: 4, resolution: 32, objects: []}", "must be a list of names"),
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
