"""The nearest seen object: by its input, and shown from where the views lie to the input."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests.evaluation.test_methods import meshes, surface  # noqa: F401 - a fixture
from tests.meshes.conftest import can_draw  # noqa: F401 - a fixture
from vfusion3d.cameras import orbit
from vfusion3d.evaluation import MeshFolder, Protocol, evaluate, render_targets
from vfusion3d.evaluation.floors import NearestSeen, NearestViews, as_seen_from
from vfusion3d.evaluation.scoring import truth_of
from vfusion3d.meshes import write_mesh


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


def test_cameras_lie_to_another_input_as_to_their_own() -> None:
    one, other = orbit(8, 0.3), orbit(5, -0.2)[2]
    moved = as_seen_from(one, one[0], other)
    torch.testing.assert_close(moved.poses[0], other.poses)
    assert torch.equal(moved.intrinsics, one.intrinsics)
    between = (moved.centers[:, None] - moved.centers).norm(dim=-1)
    torch.testing.assert_close(between, (one.centers[:, None] - one.centers).norm(dim=-1))
    torch.testing.assert_close(as_seen_from(one, one[0], one[0]).poses, one.poses)


def test_where_objects_have_cameras_of_their_own_the_nearest_is_drawn(meshes, protocol: Protocol, tmp_path) -> None:  # noqa: F811
    """A twin of another size is the object itself, from wherever it is seen; on an orbit both ways are one."""
    write_mesh(surface(2.0), meshes / "twin.glb")
    files = {name: meshes / f"{name}.glb" for name in ("block", "twin")}
    for layout in ("random", "benchmark"):
        settings = dataclasses.replace(protocol, layout=layout)
        scenes = render_targets(settings, files, tmp_path / "cache", workers=1)
        views = NearestViews(scenes, ["block", "twin"], settings, files)
        drawn = views.of("block")
        assert drawn is not None and not views.missing
        if layout == "benchmark":
            np.testing.assert_allclose(drawn, truth_of(scenes["block"]).rgb[1:], atol=0.02)
        else:  # its cameras are its own: only where they lie to the input is the object's
            own, theirs = scenes["block"].cameras, scenes["twin"].cameras
            assert (own.poses - theirs.poses).abs().max() > 0.1
            front = as_seen_from(own[[0]], own[0], theirs[0])
            assert (front.poses - theirs[[0]].poses).abs().max() < 1e-5
            assert drawn.shape == (3, 3, scenes["block"].height, scenes["block"].width) and drawn.min() < 0.9
        method = MeshFolder(meshes, scale="fit", lighting="lambert")
        results = evaluate(method, scenes, settings, unseen={"block"}, meshes=files)
        assert results.per_object("psnr", of="nearest seen object").keys() == {"block"}
    with pytest.raises(KeyError):
        NearestViews(scenes, ["twin"], settings, files).of("nobody")
