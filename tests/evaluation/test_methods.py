"""Anything that can be scored: true views handed in as predictions are perfect, what does not fit is told."""

from __future__ import annotations

import dataclasses
import sys

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from vfusion3d.alpha import pixels_over_white
from vfusion3d.errors import MeshError, UsageError
from vfusion3d.evaluation import EntryPoint, ImageFolder, MeshFolder, VideoFolder, evaluate, render_targets
from vfusion3d.evaluation.scoring import truth_of
from vfusion3d.meshes import write_mesh
from vfusion3d.metrics import mask_iou, masks_on_white
from vfusion3d.rendering.isosurface import SurfaceMesh

from .conftest import SIZE, VIEWS


def perfect(results) -> None:
    assert not results.failures
    for figure, best in (("psnr", 100), ("foreground_psnr", 100), ("ssim", 1), ("iou", 1)):
        assert results.mean(figure).value == pytest.approx(best, abs=1e-4), figure


@pytest.mark.parametrize("first", [0, 1], ids=["all views", "the scored ones"])
def test_true_pictures_are_perfect(scenes, renders, protocol, first) -> None:
    perfect(evaluate(ImageFolder(renders(scenes, first=first), VIEWS), scenes, protocol))


def test_scene_folders_are_pictures_too(scenes, protocol) -> None:
    folder = next(iter(scenes.values())).folder.parent
    perfect(evaluate(ImageFolder(folder, VIEWS), scenes, protocol))


def test_pictures_without_alpha_have_masks_from_white(scenes, renders, protocol) -> None:
    results = evaluate(ImageFolder(renders(scenes, alpha=False), VIEWS), scenes, protocol)
    assert results.mean("psnr").value > 45
    for name, scene in scenes.items():  # pixels on an edge are not white, and count as the object
        truth = truth_of(scene)
        wanted = mask_iou(masks_on_white(truth.rgb)[1:, None].float(), truth.mask[1:])
        found = [row["iou"] for row in results.rows["method"] if row["object"] == name]
        assert found == pytest.approx(wanted.tolist(), abs=0.02)


def test_one_missing_view_is_not_taken_for_the_input(scenes, renders, protocol) -> None:
    folder = renders(scenes)
    (folder / "cat" / "2.png").unlink()
    (folder / "dog" / "0.png").unlink()  # the input, which is not scored
    results = evaluate(ImageFolder(folder, VIEWS), scenes, protocol)
    assert list(results.failures) == ["cat"] and results.per_object("psnr")["dog"] == 100


def test_alpha_of_some_pictures_and_of_palettes_is_kept(scenes, renders, protocol) -> None:
    folder = renders(scenes)
    with Image.open(folder / "cat" / "1.png") as picture:
        white = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    white.save(folder / "cat" / "1.png")
    hole = Image.new("P", (SIZE, SIZE), 0)
    hole.info["transparency"] = 0
    hole.save(folder / "dog" / "1.png", transparency=0)
    results = evaluate(ImageFolder(folder, VIEWS), scenes, protocol)
    assert results.per_object("psnr")["cat"] > 45
    empty = [row["psnr"] for row in results.rows["all white"] if (row["object"], row["view"]) == ("dog", 1)]
    assert [row["psnr"] for row in results.rows["method"] if (row["object"], row["view"]) == ("dog", 1)] == empty


def test_true_videos_are_nearly_perfect(scenes, protocol, tmp_path) -> None:
    """Frames in the protocol's order; a video's own compression is what is missing."""
    for name, scene in scenes.items():
        frames = np.stack([pixels_over_white(scene.pixels(view)) for view in range(VIEWS)])
        (tmp_path / "videos" / name).mkdir(parents=True)
        iio.imwrite(tmp_path / "videos" / name / "turntable.gif", frames)
    results = evaluate(VideoFolder(tmp_path / "videos", VIEWS), scenes, protocol)
    assert not results.failures and results.mean("psnr").value > 28


def test_pictures_of_the_wrong_kind_fail_with_a_sentence(scenes, renders, protocol) -> None:
    folder = renders(scenes)
    (folder / "cat" / "3.png").unlink()
    (folder / "cat" / "2.png").unlink()
    for path in (folder / "dog").glob("*.png"):
        path.unlink()
    results = evaluate(ImageFolder(folder, VIEWS), scenes, protocol)
    assert "cat has 2 views, but the protocol has 4; render all of them." in results.failures["cat"]
    assert "There are no pictures of object dog in" in results.failures["dog"]
    assert "jar" not in results.failures
    white = {name: value for name, value in results.per_object("psnr", of="all white").items() if name != "jar"}
    assert {name: results.per_object("psnr")[name] for name in white} == white  # scored, never dropped


def test_pictures_of_another_size_are_not_resized(scenes, renders, protocol) -> None:
    results = evaluate(ImageFolder(renders(scenes, size=2 * SIZE), VIEWS), scenes, protocol)
    assert len(results.failures) == 3
    assert f"{2 * SIZE} x {2 * SIZE} pixels, but the protocol's are {SIZE} x {SIZE}" in results.failures["cat"]


def test_videos_that_are_missing_or_broken(tmp_path, scenes, protocol) -> None:
    with pytest.raises(UsageError, match="does not exist; name a folder of videos"):
        VideoFolder(tmp_path / "none", VIEWS)
    (tmp_path / "videos").mkdir()
    with pytest.raises(UsageError, match=r"has no videos \(.mp4, .webm, .gif\)"):
        VideoFolder(tmp_path / "videos", VIEWS)
    (tmp_path / "videos" / "cat.mp4").write_bytes(b"nothing")
    results = evaluate(VideoFolder(tmp_path / "videos", VIEWS), scenes, protocol)
    assert "cat.mp4 cannot be read" in results.failures["cat"] and "no video of object dog" in results.failures["dog"]


def test_a_function_is_a_method(scenes, protocol, tmp_path, monkeypatch) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "class Red:\n"
        "    def render(self, cameras, height, width):\n"
        "        red = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).expand(len(cameras.poses), 3, height, width)\n"
        "        return red, None\n"
        "def reconstruct(image):\n"
        "    assert image.mode == 'RGBA'\n"
        "    return Red()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    results = evaluate(EntryPoint("mine:reconstruct"), scenes, protocol)
    assert not results.failures and results.mean("psnr").value < results.mean("psnr", of="all white").value
    (tmp_path / "theirs.py").write_text("def fail(image):\n    return 1 / 0\ndef nothing(image):\n    return None\n")
    for name, message in (
        ("theirs:fail", "theirs:fail failed on cat (ZeroDivisionError: division by zero)."),
        (
            "theirs:nothing",
            "theirs:nothing failed on cat (AttributeError: 'NoneType' object has no attribute 'render').",
        ),
    ):
        assert evaluate(EntryPoint(name), scenes, protocol).failures["cat"] == message  # scored, and the run goes on
    for name, message in (("mine", "must be module:function"), ("mine:other", "cannot be imported")):
        with pytest.raises(UsageError, match=message):
            EntryPoint(name)


def surface(scale: float = 1.0) -> SurfaceMesh:
    """A lop-sided coloured block, no two sides alike, its sphere of radius about ``scale``."""
    grid = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)
    vertices = grid * [0.8, 0.5, 0.3] * scale
    vertices[7] *= 0.5
    faces = np.array(
        [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4],
         [1, 5, 7], [1, 7, 3]]
    )  # fmt: skip
    normals = grid / np.linalg.norm(grid, axis=-1, keepdims=True)
    return SurfaceMesh(vertices, faces, np.clip((grid + 1) / 2, 0.1, 0.9), normals)


@pytest.fixture
def meshes(tmp_path, can_draw):
    (tmp_path / "meshes").mkdir()
    write_mesh(surface(30.0), tmp_path / "meshes" / "block.glb")  # in units of its own
    return tmp_path / "meshes"


def test_true_meshes_are_perfect_and_flipped_ones_are_not(meshes, protocol, tmp_path) -> None:
    scenes = render_targets(protocol, {"block": meshes / "block.glb"}, tmp_path / "cache", workers=1)
    method = MeshFolder(meshes, scale="fit", lighting="lambert")
    perfect(evaluate(method, scenes, protocol))
    on_its_side = evaluate(MeshFolder(meshes, up="z", scale="fit", lighting="lambert"), scenes, protocol)
    assert on_its_side.mean("psnr").value < 30 and on_its_side.mean("iou").value < 0.9
    raw = evaluate(MeshFolder(meshes, lighting="lambert"), scenes, protocol)
    assert "world units from the origin, but the objects fit the unit sphere: scale it" in raw.failures["block"]
    other = dataclasses.replace(protocol, layout="random")
    scenes = render_targets(other, {"block": meshes / "block.glb"}, tmp_path / "cache", workers=1)
    perfect(evaluate(method, scenes, other))


def test_true_views_are_kept_by_what_they_show(meshes, protocol, tmp_path) -> None:
    def place(**changes) -> object:
        settings = dataclasses.replace(protocol, **changes)
        return render_targets(settings, {"block": meshes / "block.glb"}, tmp_path / "cache", workers=1)["block"].folder

    first = place()
    before = (first / "transforms.json").stat().st_mtime_ns
    assert place(count_input=True, lpips="alex") == first  # how they are scored is not what they show
    assert (first / "transforms.json").stat().st_mtime_ns == before
    assert place(elevation=30) != first != place(resolution=32)
    write_mesh(surface(29.0), meshes / "block.glb")
    assert place() != first
    write_mesh(surface(29.0), meshes / "block.obj")
    places = []
    for _ in range(2):  # what an OBJ file shows is in other files, too
        targets = render_targets(protocol, {"block": meshes / "block.obj"}, tmp_path / "cache", workers=1)
        places.append(targets["block"].folder)
        (meshes / "paint.mtl").write_text("newmtl paint")
    assert places[0] != places[1]


def test_true_views_are_never_left_out(meshes, protocol, tmp_path) -> None:
    (meshes / "broken.glb").write_bytes(b"glTF")
    with pytest.raises(MeshError, match=r"True views cannot be made of .*broken.glb"):
        render_targets(protocol, {"broken": meshes / "broken.glb"}, tmp_path / "cache", workers=1)
    with pytest.raises(UsageError, match="is of 2 objects, but 1 of the 1 meshes are its"):
        render_targets(dataclasses.replace(protocol, count=2), {"block": meshes / "block.glb"}, tmp_path / "cache")


def test_meshes_that_are_missing(tmp_path, meshes, scenes, protocol) -> None:
    results = evaluate(MeshFolder(meshes), scenes, protocol)
    assert "There is no mesh of object cat in" in results.failures["cat"]
    with pytest.raises(UsageError, match="`scale` must be one of"):
        MeshFolder(meshes, scale="some")  # type: ignore[arg-type]
