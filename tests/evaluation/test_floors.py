"""The nearest seen object: by its input, and shown from where the views lie to the input."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from vfusion3d.alpha import over_white
from vfusion3d.cameras import orbit
from vfusion3d.evaluation import MeshFolder, Protocol, evaluate, render_targets
from vfusion3d.evaluation.floors import NearestSeen, NearestViews, turn_between
from vfusion3d.evaluation.scoring import truth_of
from vfusion3d.evaluation.shapes import measure
from vfusion3d.meshes import write_mesh

from .conftest import surface


def test_the_nearest_is_another_seen_object_with_the_nearest_input() -> None:
    shades = {"cat": 0.0, "dog": 0.4, "jar": 0.5, "fly": 1.0}
    sizes = dict.fromkeys(shades, 70) | {"jar": 100}  # inputs of any size
    asked = []

    def picture(name: str) -> torch.Tensor:
        asked.append(name)
        return torch.full((3, sizes[name], sizes[name]), shades[name])

    nearest = NearestSeen(["cat", "jar"], picture)
    assert [nearest.of(name) for name in ("dog", "cat", "jar", "fly")] == ["jar", "jar", "cat", "jar"]
    assert sorted(asked) == sorted(shades) and not nearest.missing  # each read once
    assert NearestSeen(["cat"], picture).of("cat") is None
    assert "none of the objects" in NearestSeen([], picture).missing["nearest seen object"]


def test_cameras_turn_about_the_object() -> None:
    one, other = orbit(8, 0.3), orbit(5, -0.2, radius=3.1)[2]
    turn = torch.eye(4)
    turn[:3, :3] = turn_between(one[0], other)
    moved = one.transform(turn)
    torch.testing.assert_close(moved.poses[0, :, :3], other.poses[:, :3])
    torch.testing.assert_close(moved.centers.norm(dim=-1), one.centers.norm(dim=-1))  # it stays in the middle
    torch.testing.assert_close(turn_between(one[0], one[0]), torch.eye(3))


@pytest.mark.parametrize("layout", ["random", "benchmark"])
def test_a_twin_that_lies_to_its_input_as_the_object_is_the_object(
    meshes, protocol: Protocol, tmp_path, layout
) -> None:
    """Of another size, and turned so that both inputs show the same side: from there its views are the object's."""
    settings = dataclasses.replace(protocol, layout=layout, resolution=48)
    files = {"block": meshes / "block.glb", "twin": meshes / "twin.glb"}
    write_mesh(surface(2.0), files["twin"])
    scenes = render_targets(settings, files, tmp_path / "cache", workers=1)
    turn = turn_between(scenes["block"].cameras[0], scenes["twin"].cameras[0]).numpy()
    assert (abs(turn - np.eye(3)).max() > 0.1) == (layout == "random")
    block = surface(2.0)
    turned = dataclasses.replace(block, vertices=block.vertices @ turn.T, normals=block.normals @ turn.T)
    write_mesh(turned, files["twin"])
    scenes = render_targets(settings, files, tmp_path / "cache", workers=1)
    views = NearestViews(scenes, ["twin"], settings, files)
    drawn, truth = views.of("block"), truth_of(scenes["block"]).rgb[1:]
    assert drawn is not None and not views.missing
    unturned = over_white(scenes["twin"].images())[1:]
    near = float((drawn - truth).square().mean())
    assert near < 1e-3 and (layout == "benchmark" or near < float((unturned - truth).square().mean()) / 10)
    figures = measure(MeshFolder(meshes, scale="fit"), scenes, files, settings, alignments=["none"], unseen={"block"})[
        "means"
    ]["nearest seen object"]["unseen"]["none"]
    assert figures["chamfer"]["value"] < 0.02 and figures["f_score"]["value"] > 0.99
    results = evaluate(MeshFolder(meshes, scale="fit"), scenes, settings, unseen={"block"}, meshes=files)
    assert results.per_object("iou", of="nearest seen object")["block"] > 0.97


def test_the_nearest_is_drawn_in_the_objects_own_light(meshes, protocol: Protocol, tmp_path) -> None:
    settings = dataclasses.replace(protocol, layout="random", lighting="random")
    files = {"block": meshes / "block.glb", "twin": meshes / "twin.glb"}
    write_mesh(surface(2.0), files["twin"])
    scenes = render_targets(settings, files, tmp_path / "cache", workers=1)
    assert NearestViews(scenes, ["twin"], settings, files).of("block") is not None
