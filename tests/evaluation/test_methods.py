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
from vfusion3d.evaluation import EntryPoint, ImageFolder, MeshFolder, VideoFolder, compare, evaluate, render_targets
from vfusion3d.meshes import write_mesh

from .conftest import SIZE, VIEWS, surface


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


def test_pictures_with_and_without_alpha_score_alike(scenes, renders, protocol, tmp_path) -> None:
    """The same renders as RGBA and RGB files and as numbers are one method; a video adds what its compression does."""
    folder = renders(scenes)
    with_alpha = evaluate(ImageFolder(folder, VIEWS), scenes, protocol)
    (tmp_path / "videos").mkdir()
    for name in scenes:
        files = [folder / name / f"{view}.png" for view in range(VIEWS)]
        for file in files:
            Image.fromarray(pixels_over_white(np.array(Image.open(file)))).save(file)
        frames = np.stack([np.array(Image.open(file)) for file in files])
        iio.imwrite(tmp_path / "videos" / f"{name}.mp4", frames, fps=8, macro_block_size=None)
    without = evaluate(ImageFolder(folder, VIEWS), scenes, protocol)
    assert without.rows == with_alpha.rows
    perfect(without)
    video = evaluate(VideoFolder(tmp_path / "videos", VIEWS), scenes, protocol)
    assert video.mean("psnr").value > 30 and video.mean("iou").value > 0.93


def test_one_missing_view_is_not_taken_for_the_input(scenes, renders, protocol) -> None:
    folder = renders(scenes)
    (folder / "cat" / "2.png").unlink()
    (folder / "dog" / "0.png").unlink()  # the input, which is not scored
    results = evaluate(ImageFolder(folder, VIEWS), scenes, protocol)
    assert list(results.failures) == ["cat"] and results.per_object("psnr")["dog"] == 100


def test_pictures_numbered_from_1_lack_a_view_where_the_last_is_missing(scenes, renders, protocol) -> None:
    """Or each would be scored as the next one's."""
    folder = renders(scenes)
    for name in scenes:
        for view in reversed(range(VIEWS)):
            (folder / name / f"{view}.png").rename(folder / name / f"{view + 1}.png")
    perfect(evaluate(ImageFolder(folder, VIEWS), scenes, protocol))
    (folder / "cat" / f"{VIEWS}.png").unlink()
    (folder / "thumbnails").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "thumbnails" / "20240101.png")  # nobody's
    failures = evaluate(ImageFolder(folder, VIEWS), scenes, protocol).failures
    assert list(failures) == ["cat"] and "has 3 views, but the protocol has 4" in failures["cat"]


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
    assert "\n" not in results.failures["cat"]  # a sentence, and not all that the decoder says
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
        "class Alone(Red):\n"
        "    def render(self, *arguments):\n"
        "        return super().render(*arguments)[0]\n"
        "class Listed(Red):\n"
        "    def render(self, *arguments):\n"
        "        return list(super().render(*arguments))\n"
        "def alone(image):\n"
        "    return Alone()\n"
        "def listed(image):\n"
        "    return Listed()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    results = evaluate(EntryPoint("mine:reconstruct"), scenes, protocol)
    assert not results.failures and results.mean("psnr").value < results.mean("psnr", of="all white").value
    for name in ("alone", "listed"):
        assert evaluate(EntryPoint(f"mine:{name}"), scenes, protocol).rows["method"] == results.rows["method"]
    (tmp_path / "theirs.py").write_text(
        "def leave(image):\n    raise SystemExit(3)\n"
        "def fail(image):\n    return 1 / 0\n"
        "def nothing(image):\n    return None\n"
    )
    for name, message in (
        ("theirs:leave", "theirs:leave failed on cat (SystemExit: 3)."),
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


def test_another_renderer_makes_other_true_views(meshes, protocol, tmp_path, monkeypatch) -> None:
    """Pitfall 11: the drawing's version and the lights are in the cache's keys, and other truths are not compared."""
    method, runs = MeshFolder(meshes, scale="fit", lighting="lambert"), []
    for changes, version in (({}, 1), ({"lighting": "unlit"}, 1), ({}, 2)):
        monkeypatch.setattr("vfusion3d.evaluation.targets.RENDERING", version)
        settings = dataclasses.replace(protocol, **changes)
        scenes = render_targets(settings, {"block": meshes / "block.glb"}, tmp_path / "cache", workers=1)
        runs.append((scenes["block"].folder, evaluate(method, scenes, settings)))
    assert len({folder for folder, _ in runs}) == 3
    unlit = runs[1][1]
    assert runs[0][1].mean("psnr").value == 100 > unlit.mean("psnr").value  # lights are a protocol's, too
    with pytest.raises(UsageError, match="different protocols"):
        compare(runs[0][1], unlit)


def test_true_views_are_never_left_out(meshes, protocol, tmp_path) -> None:
    (meshes / "broken.glb").write_bytes(b"glTF")
    with pytest.raises(MeshError, match=r"True views cannot be made of .*broken.glb"):
        render_targets(protocol, {"broken": meshes / "broken.glb"}, tmp_path / "cache", workers=1)
    named = dataclasses.replace(protocol, objects=("block", "cone"))
    with pytest.raises(UsageError, match="is of 2 objects, but 1 of them are not among the 1 meshes, the first cone"):
        render_targets(named, {"block": meshes / "block.glb"}, tmp_path / "cache")


def test_meshes_that_are_missing(tmp_path, meshes, scenes, protocol) -> None:
    results = evaluate(MeshFolder(meshes), scenes, protocol)
    assert "There is no mesh of object cat in" in results.failures["cat"]
    with pytest.raises(UsageError, match="`scale` must be one of"):
        MeshFolder(meshes, scale="some")  # type: ignore[arg-type]


def test_two_files_of_one_object_are_refused(tmp_path) -> None:
    for name in ("cat.mp4", "cat.gif"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match=r"Both .*cat.gif and .*cat.mp4 are videos of object cat; remove one"):
        VideoFolder(tmp_path, VIEWS)


def test_a_function_may_be_wrapped(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    (tmp_path / "wrapped.py").write_text("import functools\nstart = functools.partial(print, 1)\n")
    before = EntryPoint("wrapped:start").identity
    (tmp_path / "wrapped.py").write_text("import functools\nstart = functools.partial(print, 2)\n")
    assert EntryPoint("wrapped:start").identity != before
