from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from vfusion3d.commands.render import build_parser, find_meshes, run
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
    assert sorted(p.name for p in output.iterdir()) == ["ball", "box", "contact_sheet.png"]

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


def test_nothing_rendered_is_a_failure(meshes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert render(meshes / "dot.obj", "--output", tmp_path / "out", *SMALL) == 2
    assert "zero extent" in capfd.readouterr().err


def test_meshes_of_one_name_get_different_folders(tmp_path: Path) -> None:
    paths = [tmp_path / "a" / "m.glb", tmp_path / "b" / "m.glb", tmp_path / "b" / "m.ply", tmp_path / "b" / "n.ply"]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found = find_meshes([str(tmp_path), str(paths[3])])
    assert found == dict(zip(["a_m_glb", "b_m_glb", "b_m_ply", "n"], paths, strict=True))
    twin = tmp_path / "c" / "a" / "m.glb"
    twin.parent.mkdir(parents=True)
    twin.touch()
    with pytest.raises(UsageError, match="rename one"):
        find_meshes([str(tmp_path)])


def test_bad_options_and_paths_stop_before_anything_is_done(meshes: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    cases: list[tuple[type[Exception], str, list[object]]] = [
        (MeshError, "does not exist", [meshes / "missing.glb"]),
        (MeshError, "contains no meshes", [tmp_path / "empty"]),
        (UsageError, "`views`", [meshes, "--views", 0]),
        (UsageError, "`timeout`", [meshes, "--timeout", 0]),
        (UsageError, "`workers`", [meshes, "--workers", 0]),
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
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == ""
