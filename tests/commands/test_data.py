from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from vfusion3d.alpha import straight_pixels
from vfusion3d.cameras import orbit
from vfusion3d.cli import main
from vfusion3d.data import ShardSet, packing
from vfusion3d.data.procedural import sample_objects
from vfusion3d.data.raycast import render
from vfusion3d.data.scenes import Scene, SceneInfo, write_scene
from vfusion3d.errors import ShardError

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


# -- pack --------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four scenes rendered on orbits with a little jitter."""
    root = tmp_path_factory.mktemp("scenes")
    for seed in range(4):
        cameras = orbit(VIEWS, 0.2 + 0.1 * seed, offset_noise=0.05, generator=torch.Generator().manual_seed(seed))
        pixels = straight_pixels(render(sample_objects(torch.tensor([seed])), cameras.unsqueeze(0), SIZE, SIZE)[0])
        write_scene(root / f"object.{seed}", pixels, cameras, SceneInfo(licence="CC0-1.0", caption=f"thing {seed}"))
    return root


def pack(*arguments: object) -> int:
    return main(["data", "pack", *map(str, arguments)])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_scenes_are_packed_with_their_cameras(scenes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert pack(scenes, "--output", tmp_path / "set", "--json") == 0
    document = json.loads(capfd.readouterr().out)
    assert (document["items"], document["packed"], document["skipped"], document["failed"]) == (4, 4, 0, [])
    packed = ShardSet(str(tmp_path / "set"))
    assert packed.attributes()["prompt"].to_pylist() == [f"thing {seed}" for seed in range(4)]
    for item in range(4):
        scene = Scene.load(scenes / packed.key(item))
        torch.testing.assert_close(packed.cameras(item).vectors, scene.cameras.vectors)
        [picture] = packed.pictures(item, (2,))
        assert picture.format == "WEBP"
        there, before = np.asarray(picture.convert("RGBA")), scene.pixels(2)
        np.testing.assert_array_equal(there[..., 3], before[..., 3])
        np.testing.assert_array_equal(there[there[..., 3] > 0], before[before[..., 3] > 0])  # exact where it shows


def test_packing_goes_on_and_is_deterministic(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    small = ("--shard-size", 0.005)
    assert pack(scenes, "--output", whole, *small) == 0
    assert len(list(whole.glob("*.tar"))) > 2
    reading, calls = packing._picture, []

    def fail(scene: Scene, index: int) -> bytes:
        calls.append(scene.folder.name)
        if scene.folder.name == "object.2" and index == 1:
            raise KeyboardInterrupt
        return reading(scene, index)

    monkeypatch.setattr(packing, "_picture", fail)
    assert pack(scenes, "--output", killed, *small) == 130
    assert not (killed / "items.parquet").exists() and not list(killed.glob(".*"))
    with pytest.raises(ShardError, match="if packing was interrupted, run it again"):
        ShardSet(str(killed))
    (killed / ".shard-000002.tar.123.partial").write_bytes(b"left by kill -9")
    finished = {name: content for name, content in contents(killed).items() if name.endswith(".tar")}
    assert finished
    calls.clear()
    monkeypatch.setattr(packing, "_picture", reading)
    assert pack(scenes, "--output", killed, *small) == 0
    assert contents(killed) == contents(whole)
    before = contents(whole)
    assert pack(scenes, "--output", whole, *small) == 0  # nothing to do
    assert contents(whole) == before


def test_scenes_that_come_later_are_added(scenes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert pack(scenes / "object.3", "--output", tmp_path / "set") == 0
    shutil.copytree(scenes, tmp_path / "more")
    for picture in (tmp_path / "more" / "object.1" / "images").iterdir():
        picture.write_bytes(b"not a picture")
    capfd.readouterr()
    assert pack(tmp_path / "more", "--output", tmp_path / "set", "--json") == 0
    captured = capfd.readouterr()
    document = json.loads(captured.out)
    assert (document["items"], document["packed"], document["skipped"]) == (3, 2, 1)
    assert "object.1" in document["failed"][0]["error"] and document["failed"][0]["error"] in captured.err
    packed = ShardSet(str(tmp_path / "set"))
    assert [packed.key(k) for k in range(3)] == ["object.3", "object.0", "object.2"]


def test_orbits_are_packed_as_generated_ones(scenes: Path, tmp_path: Path) -> None:
    assert pack(scenes, "--orbit", "--output", tmp_path / "set") == 0
    packed = ShardSet(str(tmp_path / "set"))
    assert not packed.has_poses and packed.rig is not None
    assert (packed.rig.direction, packed.rig.frames) == (1, VIEWS)
    for item in range(4):
        true = Scene.load(scenes / packed.key(item)).cameras
        assert float((packed.cameras(item).centers - true.centers).norm(dim=-1).max()) < 0.15
        assert not torch.equal(packed.cameras(item).poses, true.poses)


def test_what_is_no_orbit_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pixels = np.zeros((VIEWS, SIZE, SIZE, 4), np.uint8)
    right = orbit(VIEWS, 0.3)
    for name, cameras in (
        ("start", orbit(VIEWS, 0.3, start=0.5)),
        ("direction", orbit(VIEWS, 0.3, direction=-1)),
        ("radius", orbit(VIEWS, 0.3, radius=6.0)),
        ("lens", orbit(VIEWS, 0.3, radius=float(right.centers[0].norm()), fov=50.0)),
    ):
        for key, some in (("a", right), ("b", right), (name, cameras)):
            write_scene(tmp_path / name / key, pixels, some)
        assert pack(tmp_path / name, "--orbit", "--output", tmp_path / "set") == 2
        said = capfd.readouterr().err.strip().splitlines()[-1]
        assert f"/{name}/{name} is no orbit of 4 frames" in said and "without --orbit" in said, said
    assert not (tmp_path / "set").exists()


def test_procedural_objects_need_no_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = ["--procedural", 3, "--resolution", 16, "--views", 4]
    assert pack(*options, "--orbit", "--output", tmp_path / "orbits") == 0
    assert pack(*options, "--output", tmp_path / "renders") == 0
    assert "3 items packed, 0 there already, 0 failed" in capfd.readouterr().out
    orbits, renders = ShardSet(str(tmp_path / "orbits")), ShardSet(str(tmp_path / "renders"))
    assert orbits.rig is not None and not orbits.has_poses and renders.has_poses and orbits.size == (16, 16)
    assert orbits.attributes()["seed"].to_pylist() == [0, 1, 2]
    assert not torch.equal(orbits.cameras(1).poses, renders.cameras(1).poses)  # renders are jittered
    assert pack("--procedural", 5, *options[2:], "--orbit", "--output", tmp_path / "orbits", "--json") == 0
    assert json.loads(capfd.readouterr().out)["skipped"] == 3
    assert pack(*options, "--output", tmp_path / "orbits") == 2
    assert "holds a shard set with another rig" in capfd.readouterr().err


def test_inspect_draws_shard_sets(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "set"
    assert pack("--procedural", 3, "--resolution", 16, "--views", 4, "--orbit", "--output", folder) == 0
    capfd.readouterr()
    inspect = ["data", "inspect", str(folder), "--output", str(tmp_path / "set.png"), "--cell", "32"]
    assert main(inspect) == 0
    said = capfd.readouterr().out
    assert "3 items in 1 shards; orbits of 4 frames" in said and "seed: 0 to 2, median 1" in said
    assert Image.open(tmp_path / "set.png").size == (4 * 36 - 4, 3 * 36 - 4)
    assert main([*inspect, "--query", "seed > 1"]) == 0
    assert "1 items in 1 shards" in capfd.readouterr().out
    assert main([*inspect, "--query", "sed > 1"]) == 2
    assert "there is no column 'sed'" in capfd.readouterr().err
    table = pq.read_table(folder / "items.parquet")
    place = table.schema.get_field_index("elevation")
    table = table.set_column(place, "elevation", pa.nulls(3, pa.float32()))
    pq.write_table(table, folder / "items.parquet")
    assert main(inspect) == 0  # orbits that are not labelled yet
    assert "elevation: no values" in capfd.readouterr().out


def test_bad_packing_gets_one_sentence(scenes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "set"
    shutil.copytree(scenes / "object.0", tmp_path / "twin" / "object.0")
    cases: list[tuple[list[object], str]] = [
        ([], "one of both"),
        ([scenes, "--procedural", 2], "one of both"),
        (["--procedural", 0], "`procedural` must be at least 1"),
        (["--procedural", 1, "--resolution", 0], "`resolution`"),
        ([tmp_path / "nowhere"], "does not exist"),
        ([tmp_path], "has no scenes"),
        ([scenes, tmp_path / "twin"], "would share the key object.0"),
        ([scenes, "--shard-size", 0], "`shard_mib` must be positive"),
    ]
    for arguments, said in cases:
        assert pack(*arguments, "--output", output) == 2, arguments
        error = capfd.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("vfusion3d data: ") and said in error and error.endswith("."), error
    assert not list(output.glob("*"))
