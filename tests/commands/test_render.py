from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from vfusion3d.commands.render import build_parser, run
from vfusion3d.data.scenes import Scene
from vfusion3d.errors import MeshError, MissingExtraError, OutputError, UsageError
from vfusion3d.meshes.views import RenderJob, ViewSettings, render_scene
from vfusion3d.meshes.vtk_renderer import select_window

SMALL = ["--views", "3", "--resolution", "24", "--workers", "1"]


@pytest.fixture(scope="module", autouse=True)
def can_draw() -> None:
    try:
        select_window()
    except MissingExtraError as error:
        pytest.skip(str(error))


@pytest.fixture
def meshes(tmp_path: Path) -> Path:
    """A folder with a red box, a green ball and two files that are no meshes of use."""
    folder = tmp_path / "meshes"
    (folder / "more").mkdir(parents=True)
    box, ball = trimesh.creation.box(), trimesh.creation.icosphere(subdivisions=2)
    box.visual.vertex_colors = [255, 0, 0, 255]
    ball.visual.vertex_colors = [0, 255, 0, 255]
    box.export(folder / "box.glb")
    ball.export(folder / "more" / "ball.ply")
    (folder / "broken.glb").write_text("no mesh")
    (folder / "dot.obj").write_text("v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n")
    (folder / "readme.txt").write_text("not a mesh, and not asked for")
    return folder


def render(*arguments: object) -> int:
    return run(build_parser().parse_args([str(a) for a in arguments]))


def test_a_folder_becomes_scenes_and_broken_meshes_are_listed(
    meshes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert render(meshes, "--output", output, *SMALL, "--unlit", "--json") == 0
    captured = capfd.readouterr()
    document = json.loads(captured.out)
    assert (document["rendered"], document["skipped"]) == (2, 0)
    assert sorted(Path(f["mesh"]).name for f in document["failed"]) == ["broken.glb", "dot.obj"]
    assert document["scenes"] == [str(output / "box"), str(output / "ball")]
    for failure in document["failed"]:
        assert failure["error"] in captured.err
    assert sorted(p.name for p in output.iterdir()) == ["ball", "box", "contact_sheet.png", "failures.csv"]
    with (output / "failures.csv").open(newline="") as file:
        rows = {row["scene"]: row for row in csv.DictReader(file)}
    assert {name: row["mesh"] for name, row in rows.items()} == {
        name: str(next(meshes.glob(f"{name}.*"))) for name in ("broken", "dot")
    }
    assert "zero extent" in rows["dot"]["reason"]
    assert f"2 of 4 meshes were not rendered; see {output / 'failures.csv'}." in captured.err

    scene = Scene.load(output / "box")
    assert (len(scene), scene.height, scene.info.source) == (3, 24, "box.glb")
    assert (scene.info.lighting, scene.info.layout, scene.info.up) == ("unlit", "orbit", "y")
    np.testing.assert_array_equal(scene.pixels(0)[12, 12], (255, 0, 0, 255))
    ball = Scene.load(output / "ball").image(0)
    assert float(ball[3].mean()) == pytest.approx(np.pi / 4 / 1.05**2, rel=0.1)  # the unit sphere almost fills it
    with Image.open(output / "contact_sheet.png") as sheet:
        assert sheet.size == (256, 128)
        assert sheet.getpixel((64, 64)) == (255, 0, 0)
        assert sheet.getpixel((0, 0)) == (255, 255, 255)


def test_a_second_run_renders_only_what_is_missing(
    meshes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    render_scene(RenderJob(meshes / "box.glb", output / "box", ViewSettings(views=3, resolution=24)))
    before = (output / "box" / "transforms.json").stat().st_mtime_ns
    assert render(meshes / "box.glb", meshes / "more", "--output", output, *SMALL, "--json") == 0
    document = json.loads(capfd.readouterr().out)
    assert (document["rendered"], document["skipped"]) == (1, 1)
    assert (output / "box" / "transforms.json").stat().st_mtime_ns == before

    for other in (["--seed", "1"], ["--unlit"], ["--up", "z"], ["--fov", "50"]):
        with pytest.raises(UsageError, match="--overwrite"):
            render(meshes / "box.glb", "--output", output, *SMALL, *other)
    assert render(meshes / "box.glb", "--output", output, *SMALL, "--unlit", "--overwrite") == 0
    assert Scene.load(output / "box").info.lighting == "unlit"


def test_failures_are_tried_again_unless_they_are_skipped(
    meshes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    broken = meshes / "broken.glb"
    assert render(broken, "--output", output, *SMALL) == 2
    shutil.copy(meshes / "box.glb", broken)  # repaired
    assert render(meshes / "box.glb", broken, "--output", output, *SMALL, "--skip-failed", "--json") == 0
    captured = capfd.readouterr()
    document = json.loads(captured.out.splitlines()[-1])
    assert (document["rendered"], len(document["failed"])) == (1, 1)
    assert "cannot be read as a mesh" in captured.err
    assert render(meshes / "box.glb", broken, "--output", output, *SMALL, "--json") == 0
    document = json.loads(capfd.readouterr().out)
    assert (document["rendered"], document["skipped"], document["failed"]) == (1, 1, [])
    assert not (output / "failures.csv").exists()


def full_disk(job: RenderJob) -> tuple[str, ...]:
    """A rendering worker whose disk is full after the first scene."""
    from PIL import Image

    if any(job.folder.parent.glob("*/transforms.json")):

        def save(picture: Image.Image, path: Path) -> None:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")

        Image.Image.save = save  # type: ignore[method-assign, assignment]
    return render_scene(job)


def test_a_full_disk_stops_the_run_and_the_next_one_finishes(
    meshes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    for name in ("a", "b"):
        shutil.copy(meshes / "box.glb", meshes / f"{name}.glb")
    good = [meshes / f"{name}.glb" for name in ("a", "b", "box")]
    with monkeypatch.context() as patch:
        patch.setattr("vfusion3d.meshes.views.render_scene_in_worker", full_disk)
        with pytest.raises(
            OutputError, match=r"the disk is full.*run the same command again for the 2 meshes left"
        ) as e:
            render(*good, "--output", output, *SMALL)
    assert "\n" not in str(e.value)
    assert sorted(p.name for p in output.iterdir()) == ["a"]
    capfd.readouterr()
    assert render(*good, "--output", output, *SMALL, "--json") == 0
    document = json.loads(capfd.readouterr().out)
    assert (document["rendered"], document["skipped"]) == (2, 1)


def test_depth_normals_captions_notes_and_light_are_in_the_scene(
    meshes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    (tmp_path / "captions.csv").write_text('uid,caption\nbox,"a box, red"\nother,a vase\n')
    (meshes / "flat.obj").write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nv 2 2 0\nf 1 2 3\nf 1 3 4\n")
    paths = [meshes / "box.glb", meshes / "flat.obj"]
    options = ["--depth", "--normals", "--captions", tmp_path / "captions.csv", "--lighting", "random"]
    assert render(*paths, "--output", output, *SMALL, *options) == 0
    assert "flat.obj has faces of zero area (1 of 2), which were left out." in capfd.readouterr().err
    scene = Scene.load(output / "box")
    assert (scene.info.caption, scene.info.lighting, scene.info.renderer) == ("a box, red", "random:0", "vtk")
    assert Scene.load(output / "flat").info.caption is None
    assert len(Scene.load(output / "flat").info.notes) == 1
    covered = scene.images()[:, 3] == 1
    depths, normals = scene.depths()[:, 0], scene.normals()
    distance = scene.cameras.centers.norm(dim=-1)[:, None, None].expand_as(depths)
    assert (abs(depths - distance)[covered] < 1.001).all()
    assert normals.permute(0, 2, 3, 1)[covered].norm(dim=-1).numpy() == pytest.approx(1, abs=1e-5)
    assert render(*paths, "--output", output, *SMALL, "--lighting", "random") == 0  # more than asked for is there
    with pytest.raises(UsageError, match="--overwrite"):
        render(*paths, "--output", output, *SMALL, "--lighting", "lambert", "--depth")


def test_nothing_rendered_is_a_failure(meshes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert render(meshes / "dot.obj", "--output", tmp_path / "out", *SMALL) == 2
    assert "zero extent" in capfd.readouterr().err


def test_bad_options_and_paths_stop_before_anything_is_done(meshes: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "others.json").write_text('{"vase": "a vase"}')
    (tmp_path / "words.csv").write_text("no table\n")
    blender = tmp_path / "blender"
    blender.write_text("#!/bin/sh\necho Blender 4.5\n")
    blender.chmod(0o755)
    cases: list[tuple[type[Exception], str, list[object]]] = [
        (MeshError, "does not exist", [meshes / "missing.glb"]),
        (MeshError, "contains no meshes", [tmp_path / "empty"]),
        (UsageError, "`views`", [meshes, "--views", 0]),
        (UsageError, "`timeout`", [meshes, "--timeout", 0]),
        (UsageError, "`workers`", [meshes, "--workers", 0]),
        (UsageError, "--hdri", [meshes, "--lighting", "hdri"]),
        (UsageError, "--hdri", [meshes, "--lighting", "lambert", "--hdri", "x.hdr"]),
        (UsageError, "x.hdr cannot be read", [meshes, "--hdri", tmp_path / "x.hdr"]),
        (UsageError, "contradict", [meshes, "--unlit", "--lighting", "random"]),
        (UsageError, "captions .*x.csv cannot be used", [meshes, "--captions", tmp_path / "x.csv"]),
        (UsageError, "name none of the meshes", [meshes, "--captions", tmp_path / "others.json"]),
        (UsageError, "fewer than two columns", [meshes, "--captions", tmp_path / "words.csv"]),
        (UsageError, "--backend blender", [meshes, "--blender", "blender"]),
        (UsageError, "`samples`", [meshes, "--backend", "blender", "--samples", 0, "--blender", blender]),
        (MissingExtraError, "'no-blender' does not exist", [meshes, "--backend", "blender", "--blender", "no-blender"]),
        (MissingExtraError, "neither Blender nor", [meshes, "--backend", "blender", "--blender", "false"]),
        (OutputError, "cannot be written", [meshes, "--output", tmp_path / "file"]),
    ]
    for error, said, arguments in cases:
        with pytest.raises(error, match=said) as caught:
            render("--output", tmp_path / "out", *arguments)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_parser_is_light() -> None:
    code = (
        "import sys\n"
        "from vfusion3d.commands.render import build_parser\n"
        "build_parser().format_help()\n"
        "print(*sorted({'torch', 'numpy', 'PIL', 'trimesh', 'vtkmodules', 'tqdm', 'lightning'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.strip() == ""
