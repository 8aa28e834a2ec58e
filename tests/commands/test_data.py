from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vfusion3d.alpha import straight_pixels
from vfusion3d.cameras import orbit
from vfusion3d.cli import main
from vfusion3d.data.procedural import sample_objects
from vfusion3d.data.raycast import render
from vfusion3d.data.scenes import Scene, write_scene

VIEWS, SIZE = 4, 32


@pytest.fixture(scope="module")
def renders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two objects as InstantMesh has them (field of view 50, world-to-camera), in folders of their own."""
    root = tmp_path_factory.mktemp("renders")
    for seed, name in ((5, "a/one"), (6, "b/two")):
        folder = root / name
        folder.mkdir(parents=True)
        cameras = orbit(VIEWS, 0.3, fov=50.0)
        pixels = straight_pixels(render(sample_objects(torch.tensor([seed])), cameras.unsqueeze(0), SIZE, SIZE)[0])
        for index, view in enumerate(pixels):
            Image.fromarray(view).save(folder / f"{index:03d}.png")
        np.savez(folder / "cameras.npz", cam_poses=cameras.world_to_camera[:, :3].numpy())
    return root


@pytest.fixture
def copy(renders: Path, tmp_path: Path) -> Path:
    shutil.copytree(renders, tmp_path / "renders")
    return tmp_path / "renders"


def test_objects_become_scenes_and_a_broken_one_is_reported(
    copy: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (copy / "b" / "two" / "002.png").unlink()
    output = tmp_path / "scenes"
    assert main(["data", "convert", str(copy), "--output", str(output), "--json"]) == 0
    captured = capfd.readouterr()
    document = json.loads(captured.out)
    assert (document["converted"], document["skipped"], document["scenes"]) == (1, 0, [str(output / "one")])
    assert "002.png is missing" in document["failed"][0]["error"] and "002.png is missing" in captured.err
    assert [path.name for path in output.iterdir()] == ["one"]
    scene = Scene.load(output / "one")
    assert (len(scene), scene.width, scene.info.source, scene.info.layout) == (VIEWS, SIZE, "one", "instantmesh")
    torch.testing.assert_close(scene.cameras.vectors, orbit(VIEWS, 0.3, fov=50.0).vectors, atol=1e-5, rtol=0)
    np.testing.assert_array_equal(scene.pixels(3), np.asarray(Image.open(copy / "a" / "one" / "003.png")))

    shutil.copy(copy / "b" / "two" / "001.png", copy / "b" / "two" / "002.png")  # repaired
    before = (output / "one" / "transforms.json").stat().st_mtime_ns
    assert main(["data", "convert", str(copy), "--output", str(output), "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert (document["converted"], document["skipped"], document["failed"]) == (1, 1, [])
    assert (output / "one" / "transforms.json").stat().st_mtime_ns == before


def test_mistakes_that_the_doctor_names_are_undone_as_it_says(
    copy: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Camera-to-world with OpenCV's axes, an object at (0, 0, 2) and three times as large."""
    cameras = orbit(VIEWS, 0.3, fov=50.0)
    shift = torch.eye(4)
    shift[2, 3] = 2.0 / 3
    poses = cameras.transform(shift).matrices.numpy()
    poses[:, :3, 3] *= 3
    np.savez(copy / "a" / "one" / "cameras.npz", cam_poses=(poses @ np.diag([1, -1, -1, 1]))[:, :3])
    assert main(["data", "doctor", str(copy / "a"), "--json"]) == 2
    document = json.loads(capfd.readouterr().out)
    assert document["healthy"] is False
    found = [finding["name"] for finding in document["scenes"][0]["findings"]]
    assert found == ["poses-are-inverted", "axes-are-flipped", "off-centre", "scale"]
    assert "--inverted" in document["scenes"][0]["findings"][0]["message"]

    convert = ["data", "convert", str(copy / "a"), "--output", str(tmp_path / "scenes")]
    options = ["--inverted", "--flipped", "--centre", "0", "0", "2", "--scale", str(1 / 3)]
    assert main(convert + options) == 0
    scene = Scene.load(tmp_path / "scenes" / "one")
    torch.testing.assert_close(scene.cameras.vectors, cameras.vectors, atol=1e-5, rtol=0)
    assert (scene.info.centre, scene.info.scale) == ((0.0, 0.0, 2.0), pytest.approx(1 / 3))
    capfd.readouterr()
    assert main(["data", "doctor", str(tmp_path / "scenes")]) == 0
    assert capfd.readouterr().out == "1 of 1 healthy.\n"

    assert main(convert) == 2  # what is there was converted with other options
    assert "--overwrite" in capfd.readouterr().err
    assert main([*convert, "--overwrite"]) == 0


def test_the_doctor_lists_each_finding_by_folder(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (copy / "b" / "two" / "001.png").unlink()
    assert main(["data", "doctor", str(copy), str(copy / "a")]) == 2
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith(f"{copy / 'b' / 'two'}: missing-view: The picture 001.png is missing")
    assert lines[1:] == ["1 of 2 healthy (missing-view 1)."]


def test_inspect_draws_also_what_is_broken(copy: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (copy / "b" / "two" / "001.png").unlink()
    (copy / "b" / "two" / "002.png").write_text("no picture")
    output = tmp_path / "deep" / "two.png"
    assert main(["data", "inspect", str(copy / "b" / "two"), "--output", str(output), "--cell", "64"]) == 0
    said = capfd.readouterr().out
    assert "4 views (instantmesh), distance 2.48" in said and "elevation 17.19 degrees" in said
    assert "missing-view" in said and "unreadable-view" in said
    drawing = np.asarray(Image.open(output))
    height, width = drawing.shape[:2]
    assert width == 3 * 420 + 24 and height > 420 + 64
    left = (width - (4 * 64 + 3 * 4)) // 2
    middles = [drawing[height - 12 - 36 : height - 12 - 28, left + k * 68 + 28 : left + k * 68 + 36] for k in range(4)]
    crossed = [bool((middle == (217, 115, 13)).all(-1).any()) for middle in middles]
    assert crossed == [False, True, True, False]


def test_bad_arguments_get_one_sentence(copy: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    scenes = tmp_path / "out"
    one = str(copy / "a" / "one")
    cases: list[tuple[list[object], str]] = [
        (["convert", tmp_path / "nowhere", "--output", scenes], "does not exist"),
        (["convert", tmp_path / "empty", "--output", scenes], "no views in a known layout"),
        (["convert", copy, "--output", scenes, "--layout", "lgm"], "no views in a lgm layout"),
        (["convert", copy, "--output", scenes, "--layout", "other"], "layout"),
        (["convert", copy, "--output", scenes, "--scale", 0], "`scale`"),
        (["convert", copy, "--output", scenes, "--fov", 0.1], "`fov`"),
        (["convert", copy], "output"),
        (["doctor", tmp_path / "nowhere"], "does not exist"),
        (["inspect", copy, "--output", tmp_path / "x.png"], "no single object"),
        (["inspect", one, "--output", tmp_path / "x.jpg"], ".png"),
        (["inspect", one, "--output", tmp_path / "x.png", "--cell", 3], "`cell`"),
        (["cure", copy], "invalid choice"),
        ([], "action"),
    ]
    for arguments, said in cases:
        assert main(["data", *map(str, arguments)]) == 2, arguments
        error = capfd.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("vfusion3d data: ") and said in error and error.endswith("."), error
    assert not (tmp_path / "x.png").exists() and not list(scenes.glob("*"))


def test_equal_names_are_lengthened(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for place in ("a/same", "b/same"):
        write_scene(tmp_path / "in" / place, np.zeros((1, 4, 4, 4), np.uint8), orbit(1))
    assert main(["data", "convert", str(tmp_path / "in"), "--output", str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_same", "b_same"]
