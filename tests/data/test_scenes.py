from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vfusion3d.cameras import Cameras, orbit, random_sphere
from vfusion3d.data import scenes
from vfusion3d.data.scenes import Scene, SceneInfo, remove_partial, write_scene
from vfusion3d.errors import OutputError, SceneError
from vfusion3d.outputs import result_folder


def some_views(count: int = 3, height: int = 6, width: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 4), dtype=np.uint8)


def test_round_trip(tmp_path: Path) -> None:
    views, cameras = some_views(), random_sphere(3, generator=torch.Generator().manual_seed(0))
    info = SceneInfo("chair.glb", "CC0-1.0", 0.5, (1.0, 2.0, 3.0), 0.25, "y", "lambert", "random")
    written = write_scene(tmp_path / "deep" / "chair", views, cameras, info)
    scene = Scene.load(tmp_path / "deep" / "chair")
    assert (scene.files, scene.height, scene.width, scene.info) == (written.files, 6, 8, info)
    assert len(scene) == 3
    torch.testing.assert_close(scene.cameras.vectors, cameras.vectors, atol=1e-6, rtol=0)
    for index in range(3):
        np.testing.assert_array_equal(scene.pixels(index), views[index])
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["chair"]


@pytest.mark.parametrize("far", [6.5, 60.0, 600.0])
def test_depth_and_normals_come_back(tmp_path: Path, far: float) -> None:
    generator = np.random.default_rng(0)
    depths = generator.uniform(0.1, far, (3, 6, 8))
    normals = generator.normal(size=(3, 6, 8, 3))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    depths[:, 0], normals[:, 0] = 0, 0
    written = write_scene(tmp_path / "s", some_views(), orbit(3), depths=depths, normals=normals)
    scene = Scene.load(tmp_path / "s")
    assert scene == replace(written, cameras=scene.cameras)
    assert scene.depths().shape == (3, 1, 6, 8)
    assert abs(scene.depths()[:, 0].numpy() - depths).max() <= far * 1e-4
    assert scene.normals().shape == (3, 3, 6, 8)
    assert abs(scene.normals().permute(0, 2, 3, 1).numpy() - normals).max() < 0.01
    assert (scene.normal(1)[:, 0] == 0).all()
    with Image.open(tmp_path / "s" / "depth" / "001.png") as picture:
        assert picture.mode.startswith("I;16")
    frames = json.loads((tmp_path / "s" / "transforms.json").read_text())["frames"]
    assert [frame["depth_file_path"] for frame in frames] == [f"depth/00{k}.png" for k in range(3)]


def test_a_scene_without_depth_says_so(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "s", some_views(), orbit(3))
    with pytest.raises(SceneError, match="no depth; render it with --depth"):
        scene.depths()
    with pytest.raises(SceneError, match="no normals; render it with --normals"):
        scene.normal(0)
    with pytest.raises(ValueError, match="`depth`"):
        write_scene(tmp_path / "t", some_views(), orbit(3), depths=np.ones((3, 5, 8)))


def test_images_are_premultiplied(tmp_path: Path) -> None:
    views = some_views()
    scene = write_scene(tmp_path / "s", views, orbit(3))
    images = scene.images()
    assert images.shape == (3, 4, 6, 8)
    assert images.dtype == torch.float32
    straight = torch.from_numpy(views).permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(images[:, 3], straight[:, 3])
    torch.testing.assert_close(images[:, :3], straight[:, :3] * straight[:, 3:])
    torch.testing.assert_close(scene.images([2, 0]), images[[2, 0]])


def test_the_file_is_what_nerfstudio_reads(tmp_path: Path) -> None:
    cameras = orbit(3)
    write_scene(tmp_path / "s", some_views(), cameras)
    document = json.loads((tmp_path / "s" / "transforms.json").read_text())
    assert (document["w"], document["h"]) == (8, 6)
    focal = float(cameras.intrinsics[0, 0])
    assert document["fl_x"] == pytest.approx(8 * focal)
    assert document["fl_y"] == pytest.approx(6 * focal)
    assert (document["cx"], document["cy"]) == (4, 3)
    for frame, pose in zip(document["frames"], cameras.matrices, strict=True):
        np.testing.assert_allclose(frame["transform_matrix"], pose.numpy(), atol=1e-6)
        assert (tmp_path / "s" / frame["file_path"]).is_file()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_nerfstudio_s_own_reader_gives_the_same_rays(tmp_path: Path) -> None:
    parser = pytest.importorskip(
        "nerfstudio.data.dataparsers.nerfstudio_dataparser", reason="nerfstudio is not installed", exc_type=ImportError
    )
    cameras = Cameras.cat([orbit(1, fov=30.0), orbit(2, fov=50.0)]).to(torch.float64)
    depths = np.linspace(1, 3, 3 * 6 * 8, dtype=np.float32).reshape(3, 6, 8)
    write_scene(tmp_path / "s", some_views(), cameras, depths=depths)
    config = parser.NerfstudioDataParserConfig(
        data=tmp_path / "s",
        orientation_method="none",
        center_method="none",
        auto_scale_poses=False,
        eval_mode="all",
        load_3D_points=False,
    )
    read = config.setup().get_dataparser_outputs("train")
    assert [path.name for path in read.image_filenames] == [
        Path(name).name for name in Scene.load(tmp_path / "s").files
    ]
    origins, directions = cameras.rays(6, 8)
    for view in range(3):
        rays = read.cameras.generate_rays(camera_indices=view)
        torch.testing.assert_close(rays.origins, origins[view].float().view(6, 8, 3))
        torch.testing.assert_close(rays.directions, directions[view].float().view(6, 8, 3))
    assert len(read.metadata["depth_filenames"]) == 3
    scene = Scene.load(tmp_path / "s")
    assert read.metadata["depth_unit_scale_factor"] == pytest.approx(scene.depth_scale)


def test_intrinsics_that_differ_are_kept_per_frame(tmp_path: Path) -> None:
    cameras = Cameras.cat([orbit(1, fov=30.0), orbit(2, fov=50.0)])
    write_scene(tmp_path / "s", some_views(), cameras)
    torch.testing.assert_close(Scene.load(tmp_path / "s").cameras.intrinsics, cameras.intrinsics)


def test_an_existing_scene_is_replaced_only_when_asked(tmp_path: Path) -> None:
    views = some_views()
    write_scene(tmp_path / "s", views, orbit(3))
    with pytest.raises(OutputError, match="already exists"):
        write_scene(tmp_path / "s", views[:2], orbit(2))
    assert len(Scene.load(tmp_path / "s")) == 3
    write_scene(tmp_path / "s", views[:2], orbit(2), overwrite=True)
    assert len(Scene.load(tmp_path / "s")) == 2
    assert len(list((tmp_path / "s" / "images").iterdir())) == 2


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FullDisk:
        saved = 0

        def save(self, path: Path) -> None:
            path.write_bytes(b"half a picture")
            FullDisk.saved += 1
            if FullDisk.saved == 2:
                raise OSError(28, "No space left on device")

    monkeypatch.setattr(scenes.Image, "fromarray", lambda view: FullDisk())
    with pytest.raises(OutputError, match="disk is full"):
        write_scene(tmp_path / "s", some_views(), orbit(3))
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    write_scene(tmp_path / "s", some_views(), orbit(3))
    with result_folder(tmp_path / "s", overwrite=True, marker="transforms.json") as partial:
        shutil.copytree(partial, tmp_path / "killed")
        leftover = tmp_path / partial.name
        (partial / "transforms.json").touch()
    (tmp_path / "killed").rename(leftover)
    (tmp_path / ".s.other.abcdefgh.partial").mkdir()  # of a scene called s.other
    remove_partial(tmp_path, {"s"})
    assert sorted(p.name for p in tmp_path.iterdir()) == [".s.other.abcdefgh.partial", "s"]


def test_an_output_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write_scene(tmp_path / "file" / "s", some_views(), orbit(3))


def test_views_and_cameras_must_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`cameras`"):
        write_scene(tmp_path / "s", some_views(), orbit(4))
    with pytest.raises(ValueError, match="`views`"):
        write_scene(tmp_path / "s", some_views().astype(np.float32), orbit(3))


def test_broken_scenes_get_one_sentence_each(tmp_path: Path) -> None:
    write_scene(tmp_path / "good", some_views(), orbit(3))
    good = json.loads((tmp_path / "good" / "transforms.json").read_text())

    def broken(**changes: object) -> Path:
        shutil.rmtree(tmp_path / "bad", ignore_errors=True)
        shutil.copytree(tmp_path / "good", tmp_path / "bad")
        document = {key: value for key, value in {**good, **changes}.items() if value is not None}
        (tmp_path / "bad" / "transforms.json").write_text(json.dumps(document))
        return tmp_path / "bad"

    skewed = [{**good["frames"][0], "transform_matrix": [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]}]
    small = [{**good["frames"][0], "w": 99}, *good["frames"][1:]]
    nameless = [{"transform_matrix": good["frames"][0]["transform_matrix"]}]
    cases: list[tuple[dict, str]] = [
        ({"frames": []}, "frames"),
        ({"frames": skewed}, "orthonormal"),
        ({"frames": small}, "several sizes"),
        ({"frames": nameless}, "file_path"),
        ({"fl_x": None}, "fl_x"),
        ({"w": None}, "'w'"),
        ({"k1": 0.2}, "undistort"),
        ({"frames": [7]}, "cannot be used"),
        ({"vfusion3d": 7}, "cannot be used"),
    ]
    for changes, said in cases:
        with pytest.raises(SceneError, match=said) as caught:
            Scene.load(broken(**changes))
        assert "transforms.json" in str(caught.value)
        assert "\n" not in str(caught.value)

    (broken() / "transforms.json").write_text("{")
    with pytest.raises(SceneError, match="bad"):
        Scene.load(tmp_path / "bad")
    with pytest.raises(SceneError, match="not a scene"):
        Scene.load(tmp_path / "nowhere")


def test_broken_pictures_are_named(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "s", some_views(), orbit(3))
    (tmp_path / "s" / "images" / "000.png").unlink()
    (tmp_path / "s" / "images" / "001.png").write_text("not a picture")
    scenes.Image.new("RGBA", (5, 5)).save(tmp_path / "s" / "images" / "002.png")
    for index, said in enumerate(["missing", "cannot be read", "5 x 5 pixels"]):
        with pytest.raises(SceneError, match=said) as caught:
            scene.image(index)
        assert f"{index:03d}.png" in str(caught.value)


def test_unknown_keys_of_a_later_version_are_ignored(tmp_path: Path) -> None:
    write_scene(tmp_path / "s", some_views(), orbit(3), SceneInfo("a.glb"))
    path = tmp_path / "s" / "transforms.json"
    document = json.loads(path.read_text())
    document["vfusion3d"]["later"] = 1
    path.write_text(json.dumps(document))
    assert Scene.load(tmp_path / "s").info.source == "a.glb"
