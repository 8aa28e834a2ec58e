"""Surfaces beside their floors, groups apart, kept object by object."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from tests.evaluation.conftest import surface
from vfusion3d.data.scenes import Scene
from vfusion3d.errors import MeshError, UsageError
from vfusion3d.evaluation import EvaluationItem, Protocol
from vfusion3d.evaluation.shapes import BALL, measure, table
from vfusion3d.meshes import normalise, read_mesh, write_mesh
from vfusion3d.metrics.geometry import Surface, surface_figures

NEAREST = "nearest seen object"


class Given:
    """Surfaces that are handed in, and which were asked for."""

    description = identity = "given"

    def __init__(self, surfaces: dict[str, Any]) -> None:
        self.surfaces, self.asked = surfaces, []

    def surface(self, item: EvaluationItem) -> Any:
        self.asked.append(item.name)
        if self.surfaces[item.name] is None:
            raise MeshError("Nothing is there.")
        return self.surfaces[item.name]


@pytest.fixture
def meshes(tmp_path: Path) -> dict[str, Path]:
    """True meshes of the three scenes, each another block."""
    (tmp_path / "meshes").mkdir()
    paths = {}
    for name, stretch in (("cat", (1, 1, 1)), ("dog", (2, 1, 1)), ("jar", (1, 1, 3))):
        paths[name] = tmp_path / "meshes" / f"{name}.glb"
        block = surface()
        write_mesh(dataclasses.replace(block, vertices=block.vertices * stretch), paths[name])
    return paths


def true(meshes: dict[str, Path]) -> dict[str, Any]:
    return {name: normalise(read_mesh(path))[0] for name, path in meshes.items()}


def row_of(document: dict[str, Any], of: str, name: str, alignment: str = "none") -> dict[str, Any]:
    (row,) = (r for r in document["rows"][of] if (r["object"], r["alignment"]) == (name, alignment))
    return row


def test_floors_stand_beside_the_method_and_groups_apart(
    scenes: dict[str, Scene], meshes: dict[str, Path], protocol: Protocol
) -> None:
    truths = true(meshes)
    document = measure(Given(truths), scenes, meshes, protocol, unseen={"cat"}, alignments=("none", "scale"))
    assert list(document["means"]) == ["method", BALL, NEAREST] and document["objects"] == {"unseen": 1, "seen": 2}
    ball = trimesh.creation.icosphere(4, 0.5)
    assert np.allclose(np.linalg.norm(ball.vertices, axis=1), 0.5)
    other = {"dog": "jar", "jar": "dog"}  # the seen objects have each other
    for alignment in ("none", "scale"):
        for name in scenes:
            wanted = surface_figures(ball, truths[name], alignment)
            found = row_of(document, BALL, name, alignment)
            assert {key: found[key] for key in wanted} == wanted
            assert row_of(document, "method", name, alignment)["f_score"] == 1
        for name, beside in other.items():
            wanted = surface_figures(truths[beside], truths[name], alignment)
            found = row_of(document, NEAREST, name, alignment)
            assert {key: found[key] for key in wanted} == wanted and wanted["f_score"] < 1
            assert found["group"] == "seen"
        means = document["means"][NEAREST]["seen"][alignment]
        rows = [row_of(document, NEAREST, name, alignment)["chamfer"] for name in other]
        assert means["chamfer"]["value"] == pytest.approx(np.mean(rows))
    shown = table(document)
    assert shown.index("| 1 unseen object | alignment |") < shown.index("| 2 seen objects | alignment |")
    assert f"| floor: {BALL} | scale |" in shown and document["unpublished"] in shown
    assert "object list and cameras are unpublished" in shown


def test_where_no_object_is_known_to_have_been_seen_that_is_said(
    scenes: dict[str, Scene], meshes: dict[str, Path], protocol: Protocol
) -> None:
    def floors(protocol: Protocol, **names: Any) -> dict[str, Any]:
        return measure(Given(true(meshes)), scenes, meshes, protocol, alignments=("none",), **names)

    for document, reason in (
        (floors(protocol), "none of the objects is known to have been trained on"),
        (floors(protocol, unseen=set(), seen=set()), "none of the objects is known"),
    ):
        assert NEAREST not in document["rows"] and reason in document["missing"][NEAREST]
        shown = table(document)
        assert f"| floor: {NEAREST} | | n/a | n/a | n/a |" in shown and f"Floor {NEAREST}: n/a, {reason}" in shown
    # The only seen object has no other: it is left out of the floor, not counted as 0.
    document = floors(protocol, unseen={"cat", "jar"})
    assert row_of(document, NEAREST, "dog")["chamfer"] is None and row_of(document, NEAREST, "cat")["chamfer"] > 0
    assert document["means"][NEAREST]["seen"]["none"]["chamfer"]["value"] is None and "n/a" in table(document)


def test_no_surface_and_one_that_cannot_be_measured_count_as_failed(
    scenes: dict[str, Scene], meshes: dict[str, Path], protocol: Protocol
) -> None:
    flat = Surface(np.zeros((3, 3)), np.array([[0, 1, 2]]))
    method = Given({**true(meshes), "cat": None, "dog": flat})
    document = measure(method, scenes, meshes, protocol, alignments=("none",))
    assert set(document["failures"]) == {"cat", "dog"} and document["failures"]["cat"] == "Nothing is there."
    for name in ("cat", "dog"):
        row = row_of(document, "method", name)
        assert (row["chamfer"], row["f_score"], row["normal_consistency"], row["scale"]) == (2, 0, 0, None)
        assert 0 < row_of(document, BALL, name)["chamfer"] < 1 and row_of(document, BALL, name)["failed"] is None
    assert document["means"]["method"]["all"]["none"]["f_score"]["value"] == pytest.approx(1 / 3)
    assert "2 objects failed, scored as 2, 0 and 0; the first, cat: Nothing is there." in table(document)


def test_a_run_that_was_cut_off_goes_on(
    scenes: dict[str, Scene], meshes: dict[str, Path], protocol: Protocol, tmp_path: Path, monkeypatch: Any
) -> None:
    out, truths, asked = tmp_path / "out", true(meshes), []
    usual: dict[str, Any] = {"alignments": ("none",), "output": out, "unseen": {"cat"}}

    def again(surfaces: dict[str, Any] = truths, **changes: Any) -> tuple[dict[str, Any], list[str]]:
        method = Given(surfaces)
        asked.clear()
        return measure(method, scenes, meshes, protocol, **{**usual, **changes}), method.asked

    failed, _ = again({**truths, "jar": None})
    assert list(failed["failures"]) == ["jar"]
    whole, measured = again()
    assert measured == ["jar"] and not whole["failures"]  # what failed is tried again
    kept = out / "shapes" / "objects" / "cat.json"
    for content in (b"", b"{", b"[]", b"null", b'{"truth": "other", "failed": null, "figures": {}}', b"\xff"):
        kept.write_bytes(content)
        found, measured = again()
        assert found["rows"] == whole["rows"] and measured == ["cat"]
    # The floor of the nearest is kept, too, but follows which objects were seen.
    monkeypatch.setattr(
        "vfusion3d.evaluation.shapes._beside", lambda other, turn, mesh, *_: asked.append(mesh.stem) or 1 / 0
    )
    assert again()[0]["rows"] == whole["rows"] and not asked
    with pytest.raises(ZeroDivisionError):
        again(unseen={"dog"})
    assert asked == ["jar"]  # whose nearest was dog; that of cat and dog still is jar
    monkeypatch.undo()
    # Another true mesh, although the pictures show no other.
    inside = surface(0.1)
    both = trimesh.util.concatenate(
        [trimesh.load(meshes["dog"], force="mesh"), trimesh.Trimesh(inside.vertices, inside.faces)]
    )
    both.export(meshes["dog"])
    changed, measured = again()
    assert measured == ["dog"] and row_of(changed, BALL, "dog") != row_of(whole, BALL, "dog")
    for changes in ({"threshold": 0.1}, {"alignments": ("none", "scale")}):
        with pytest.raises(UsageError, match="has objects of another"):
            again(**changes)


def test_the_document_says_what_decided_its_figures(
    scenes: dict[str, Scene], meshes: dict[str, Path], protocol: Protocol
) -> None:
    def told(protocol: Protocol, threshold: float = 0.05) -> dict[str, Any]:
        return measure(Given(true(meshes)), scenes, meshes, protocol, alignments=("none",), threshold=threshold)

    document = told(protocol)
    json.dumps(document, allow_nan=False)
    assert document["protocol"] == {"views": protocol.to_dict(), "threshold": 0.05, "samples": 10_000, "measuring": 1}
    assert {"torch", "scipy", "trimesh", "device"} <= document["environment"].keys()
    hashes = {
        told(protocol)["protocol_hash"],
        told(dataclasses.replace(protocol, description="in other words"))["protocol_hash"],
    }
    assert hashes == {document["protocol_hash"]}
    others = {told(protocol, 0.1)["protocol_hash"], told(dataclasses.replace(protocol, border=0.2))["protocol_hash"]}
    assert len(others | hashes) == 3
