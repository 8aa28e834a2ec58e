"""Foreign folders, written here from the definitions in numpy, read as the cameras and pictures that went in."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vfusion3d.cameras import Cameras, on_sphere, orbit, pinhole
from vfusion3d.cameras.conventions import zero123plus_views
from vfusion3d.data.layouts import Reading, detect_layout, find_objects, read_views
from vfusion3d.data.scenes import Scene, SceneInfo, write_scene
from vfusion3d.errors import SceneError, UsageError

WIDTH, HEIGHT = 8, 8
# Our world (front +X) to Blender's after a glTF import (front -Y): x -> -y, y -> x.
TO_BLENDER = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])
TO_OPENCV = np.diag([1.0, -1, -1])


def some_cameras(fov: float, radius: float = 3.0) -> Cameras:
    generator = torch.Generator().manual_seed(0)
    angles = torch.rand(3, 2, generator=generator, dtype=torch.float64)
    return on_sphere(angles[:, 0] * 6, angles[:, 1] * 2 - 1, radius, pinhole(fov, torch.float64))


def pictures(count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, HEIGHT, WIDTH, 4), dtype=np.uint8)


def c2w(
    cameras: Cameras, world: np.ndarray | None = None, axes: np.ndarray | None = None, unit: float = 1.0
) -> np.ndarray:
    """Camera-to-world 3 x 4 of our cameras in another world, with other camera axes and lengths."""
    poses = cameras.poses.numpy()
    turn, flip = np.eye(3) if world is None else world, np.eye(3) if axes is None else axes
    return np.concatenate([turn @ poses[..., :3] @ flip, turn @ poses[..., 3:] * unit], -1)


def inverse(poses: np.ndarray) -> np.ndarray:
    return np.stack([np.linalg.inv(np.vstack([pose, [0, 0, 0, 1]]))[:3] for pose in poses])


def save_pictures(folder: Path, views: np.ndarray, first: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, view in enumerate(views):
        Image.fromarray(view).save(folder / f"{first + index:03d}.png")


def openlrm(folder: Path) -> Cameras:
    cameras = some_cameras(2 * math.degrees(math.atan(16 / 24)))
    save_pictures(folder / "rgba", pictures())
    (folder / "pose").mkdir()
    for index, pose in enumerate(c2w(cameras, TO_BLENDER)):
        np.save(folder / "pose" / f"{index:03d}.npy", pose)
    np.save(folder / "intrinsics.npy", np.array([[6.0, 6.0], [4.0, 4.0], [8.0, 8.0]]))
    return cameras


def instantmesh(folder: Path) -> Cameras:
    cameras = some_cameras(50.0)
    save_pictures(folder, pictures())
    np.savez(folder / "cameras.npz", cam_poses=inverse(c2w(cameras)))
    for index in range(3):
        Image.new("L", (WIDTH, HEIGHT)).save(folder / f"{index:03d}_depth.png")
    return cameras


def lgm(folder: Path) -> Cameras:
    cameras = some_cameras(49.1)
    save_pictures(folder / "rgb", pictures(), first=36)
    (folder / "pose").mkdir()
    for index, pose in enumerate(c2w(cameras, TO_BLENDER, TO_OPENCV, 0.5)):
        numbers = np.vstack([pose, [0, 0, 0, 1]]).flatten()
        (folder / "pose" / f"{36 + index:03d}.txt").write_text(" ".join(str(number) for number in numbers))
    return cameras


def objaverse(folder: Path) -> Cameras:
    cameras = some_cameras(2 * math.degrees(math.atan(16 / 35)))
    save_pictures(folder, pictures())
    for index, pose in enumerate(inverse(c2w(cameras, TO_BLENDER, unit=0.5))):
        np.save(folder / f"{index:03d}.npy", pose)
    return cameras


def nerfstudio(folder: Path) -> Cameras:
    """NeRF-synthetic's dialect: the angle of view, no size, no suffix."""
    cameras = some_cameras(40.0)
    save_pictures(folder / "train", pictures())
    frames = [
        {"file_path": f"./train/{index:03d}", "transform_matrix": np.vstack([pose, [0, 0, 0, 1]]).tolist()}
        for index, pose in enumerate(c2w(cameras))
    ]
    document = {"camera_angle_x": math.radians(40.0), "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(document))
    return cameras


def photos(folder: Path) -> Cameras:
    cameras = some_cameras(40.0)
    save_pictures(folder / "images", pictures())
    k = [[8 * float(cameras.intrinsics[0, 0]), 0, 4], [0, 8 * float(cameras.intrinsics[0, 1]), 4], [0, 0, 1]]
    views = [
        {"file": f"{index:03d}.png", "K": k, "R": matrix[:, :3].tolist(), "t": matrix[:, 3].tolist()}
        for index, matrix in enumerate(inverse(c2w(cameras, axes=TO_OPENCV)))
    ]
    (folder / "cameras.json").write_text(json.dumps({"views": views}))
    return cameras


WRITERS: dict[str, Callable[[Path], Cameras]] = {
    "openlrm": openlrm,
    "instantmesh": instantmesh,
    "lgm": lgm,
    "objaverse": objaverse,
    "nerfstudio": nerfstudio,
    "photos": photos,
}


@pytest.mark.parametrize("layout", WRITERS)
def test_cameras_and_pictures_come_back(layout: str, tmp_path: Path) -> None:
    folder = tmp_path / "uid"
    folder.mkdir()
    cameras = WRITERS[layout](folder)
    assert detect_layout(folder) == layout
    views = read_views(folder)
    assert views.layout == layout and views.info.source == "uid"
    assert views.info.scale == (2.0 if layout in ("lgm", "objaverse") else 1.0)
    torch.testing.assert_close(views.cameras.poses, cameras.poses, atol=1e-6, rtol=0)
    torch.testing.assert_close(views.cameras.intrinsics, cameras.intrinsics.expand(3, 4), atol=1e-4, rtol=0)
    for index, view in enumerate(pictures()):
        np.testing.assert_array_equal(views.pixels(index), view)
    assert (views.depths[0] is not None) == (layout == "instantmesh")


@pytest.mark.parametrize("layout", WRITERS)
@pytest.mark.parametrize(("inverted", "flipped"), [(True, False), (False, True), (True, True)])
def test_poses_stored_the_wrong_way_can_be_read(layout: str, inverted: bool, flipped: bool, tmp_path: Path) -> None:
    cameras = WRITERS[layout](tmp_path)

    def spoilt(pose: np.ndarray) -> np.ndarray:
        """The stored matrix with the mistake in it: camera axes first, then the direction."""
        world_to_camera = layout in ("instantmesh", "objaverse", "photos")
        pose = inverse(pose[None])[0] if world_to_camera else pose
        pose = pose @ np.diag([1, -1, -1, 1]) if flipped else pose
        return inverse(pose[None])[0] if inverted != world_to_camera else pose

    for file in [*tmp_path.rglob("*.npy"), *tmp_path.rglob("pose/*.txt")]:
        if file.suffix == ".npy" and file.stem != "intrinsics":
            np.save(file, spoilt(np.load(file)))
        elif file.suffix == ".txt":
            file.write_text(" ".join(str(x) for x in spoilt(np.loadtxt(file).reshape(4, 4)[:3]).flatten()))
    if layout == "instantmesh":
        stored = np.load(tmp_path / "cameras.npz")["cam_poses"]
        np.savez(tmp_path / "cameras.npz", cam_poses=np.stack([spoilt(pose) for pose in stored]))
    if layout == "nerfstudio":
        document = json.loads((tmp_path / "transforms.json").read_text())
        for frame in document["frames"]:
            frame["transform_matrix"] = spoilt(np.array(frame["transform_matrix"])[:3]).tolist()
        (tmp_path / "transforms.json").write_text(json.dumps(document))
    if layout == "photos":
        document = json.loads((tmp_path / "cameras.json").read_text())
        for view in document["views"]:
            matrix = spoilt(np.concatenate([view["R"], np.array(view["t"])[:, None]], 1))
            view["R"], view["t"] = matrix[:, :3].tolist(), matrix[:, 3].tolist()
        (tmp_path / "cameras.json").write_text(json.dumps(document))
    views = read_views(tmp_path, reading=Reading(inverted, flipped))
    torch.testing.assert_close(views.cameras.poses, cameras.poses, atol=1e-5, rtol=0)


def test_zero123plus_views_have_the_cameras_of_the_model(tmp_path: Path) -> None:
    save_pictures(tmp_path, pictures(7))
    assert detect_layout(tmp_path) == "zero123plus-1.2"
    for version in ("1.1", "1.2"):
        views = read_views(tmp_path, f"zero123plus-{version}")  # type: ignore[arg-type]
        torch.testing.assert_close(views.cameras.poses.float(), zero123plus_views(version).poses)  # type: ignore[arg-type]
    np.testing.assert_array_equal(views.pixels(0), pictures(7)[1])  # 000.png is the input


def test_a_world_with_y_up(tmp_path: Path) -> None:
    instantmesh(tmp_path)
    pose = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 2]])  # in front of an object that faces +Z, y up
    np.savez(tmp_path / "cameras.npz", cam_poses=inverse(np.stack([pose] * 3)))
    cameras = read_views(tmp_path, reading=Reading(up="y")).cameras
    torch.testing.assert_close(cameras.poses[0].float(), orbit(1, radius=2.0).poses[0])


def test_the_training_split_of_nerf_synthetic(tmp_path: Path) -> None:
    cameras = nerfstudio(tmp_path)
    (tmp_path / "transforms.json").rename(tmp_path / "transforms_train.json")
    assert detect_layout(tmp_path) == "nerfstudio"
    torch.testing.assert_close(read_views(tmp_path).cameras.poses, cameras.poses)


def test_masks_become_alpha(tmp_path: Path) -> None:
    nerfstudio(tmp_path)
    document = json.loads((tmp_path / "transforms.json").read_text())
    Image.new("L", (WIDTH, HEIGHT), 128).save(tmp_path / "mask.png")
    Image.new("L", (WIDTH, HEIGHT + 1), 128).save(tmp_path / "large.png")
    for frame, mask in zip(document["frames"], ("mask.png", "large.png", "nowhere.png"), strict=True):
        frame["mask_path"] = mask
    (tmp_path / "transforms.json").write_text(json.dumps(document))
    views = read_views(tmp_path)
    np.testing.assert_array_equal(views.pixels(0)[..., 3], pictures()[0, ..., 3].astype(int) * 128 // 255)
    np.testing.assert_array_equal(views.pixels(0)[..., :3], pictures()[0, ..., :3])
    with pytest.raises(SceneError, match=r"large.png has another size"):
        views.pixels(1)
    with pytest.raises(SceneError, match=r"nowhere.png is missing"):
        views.pixels(2)


def test_what_a_scene_knows_is_kept(tmp_path: Path) -> None:
    info = SceneInfo("chair.glb", "CC0-1.0", 0.5, (1.0, 0.0, 0.0), 2.0)
    write_scene(tmp_path / "s", pictures(), orbit(3), info)
    views = read_views(tmp_path / "s")
    assert views.info == info
    moved = views.moved((0.5, 0.0, 0.0), 3.0)
    # x -> (x - 1) * 2, then x -> (x - 0.5) * 3
    assert (moved.info.centre, moved.info.scale, moved.info.licence) == ((1.25, 0.0, 0.0), 6.0, "CC0-1.0")
    torch.testing.assert_close(moved.cameras.centers, (views.cameras.centers - torch.tensor([0.5, 0, 0])) * 3)


def test_objects_are_found_at_any_depth(tmp_path: Path) -> None:
    for writer, place in ((openlrm, "a/0001"), (objaverse, "a/b/0002"), (lgm, "0003"), (lgm, ".hidden/0004")):
        (tmp_path / place).mkdir(parents=True)
        writer(tmp_path / place)
    assert find_objects(tmp_path) == [tmp_path / place for place in ("0003", "a/0001", "a/b/0002")]
    assert find_objects(tmp_path, "lgm") == [tmp_path / "0003"]
    assert find_objects(tmp_path / "0003") == [tmp_path / "0003"]
    with pytest.raises(SceneError, match=r"nerfstudio layout.*transforms.json"):
        find_objects(tmp_path, "nerfstudio")


def test_broken_folders_get_one_sentence_each(tmp_path: Path) -> None:
    def case(name: str, writer: Callable[[Path], Cameras], change: Callable[[Path], object]) -> Path:
        (tmp_path / name).mkdir()
        writer(tmp_path / name)
        change(tmp_path / name)
        return tmp_path / name

    cases = [
        (case("gap", openlrm, lambda f: (f / "pose" / "001.npy").unlink()), "001.npy is missing"),
        (case("short", lgm, lambda f: (f / "pose" / "037.txt").write_text("1 2 3")), "037.txt has 3 numbers"),
        (case("shape", objaverse, lambda f: np.save(f / "001.npy", np.eye(3))), r"001.npy .* \[3, 3\]"),
        (case("text", objaverse, lambda f: (f / "001.npy").write_text("x")), "001.npy cannot be read"),
        (case("key", instantmesh, lambda f: np.savez(f / "cameras.npz", x=np.eye(4))), "cam_poses"),
        (case("flat", instantmesh, lambda f: np.savez(f / "cameras.npz", cam_poses=np.eye(4))), "cam_poses of shape"),
        (case("json", nerfstudio, lambda f: (f / "transforms.json").write_text("{")), "transforms.json cannot be read"),
        (case("none", nerfstudio, lambda f: (f / "transforms.json").write_text("{}")), "`frames`"),
        (case("nine", openlrm, lambda f: np.save(f / "intrinsics.npy", np.eye(3))), "intrinsics"),
    ]
    for folder, said in cases:
        with pytest.raises(SceneError, match=said) as caught:
            read_views(folder)
        assert str(folder) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(SceneError, match="known layout"):
        read_views(tmp_path / "nowhere")
    with pytest.raises(SceneError, match=r"no transforms\.json"):
        read_views(tmp_path / "gap", "nerfstudio")


def test_frames_that_lack_something_are_numbered(tmp_path: Path) -> None:
    nerfstudio(tmp_path)
    good = json.loads((tmp_path / "transforms.json").read_text())
    for change, said in (
        ({"transform_matrix": None}, "frame 1"),
        ({"transform_matrix": [[1, 2], [3, 4]]}, "not 4 x 4"),
        ({"k1": 0.2}, r"Frame 1 .* undistort"),
        ({"fl_x": -3, "w": 8, "h": 8}, r"Frame 1 .* positive"),
    ):
        document = {**good, "frames": [good["frames"][0], {**good["frames"][1], **change}]}
        (tmp_path / "transforms.json").write_text(json.dumps(document))
        with pytest.raises(SceneError, match=said):
            read_views(tmp_path)


def test_a_field_of_view_is_for_layouts_that_store_none(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    instantmesh(tmp_path / "a")
    openlrm(tmp_path / "b")
    assert read_views(tmp_path / "a", fov=90.0).cameras.intrinsics[0, 0] == pytest.approx(0.5)
    with pytest.raises(UsageError, match="openlrm"):
        read_views(tmp_path / "b", fov=90.0)
    with pytest.raises(UsageError, match="`fov`"):
        read_views(tmp_path / "a", fov=0.5)


def test_nerfstudio_reads_scenes(tmp_path: Path) -> None:
    """Reading by nerfstudio's documented keys alone, as its nerfstudio_dataparser does; nerfstudio is not installed.

    Its world and camera axes are ours (OpenGL camera, +Z up), K is in pixels, and a value is taken from the document
    if it is there and from each frame otherwise.
    """
    cameras = Cameras.cat([orbit(2, 0.3, fov=30.0), orbit(1, 0.2, fov=50.0)])
    for name, chosen in (("shared", cameras[:2]), ("own", cameras)):
        write_scene(tmp_path / name, pictures(len(chosen)), chosen)
        meta = json.loads((tmp_path / name / "transforms.json").read_text())
        assert meta.get("camera_model", "OPENCV") in {"SIMPLE_PINHOLE", "PINHOLE", "OPENCV"}
        assert not {"k1", "k2", "k3", "k4", "p1", "p2", "orientation_override", "applied_transform"} & set(meta)
        for frame, camera, view in zip(
            meta["frames"], [chosen[k] for k in range(len(chosen))], pictures(len(chosen)), strict=True
        ):
            number = {key: float(meta[key] if key in meta else frame[key]) for key in ("fl_x", "fl_y", "cx", "cy")}
            size = [int(meta[key] if key in meta else frame[key]) for key in ("h", "w")]
            with Image.open(tmp_path / name / frame["file_path"]) as picture:
                pixels = np.asarray(picture)
            assert list(pixels.shape[:2]) == size
            np.testing.assert_array_equal(pixels, view)
            pose = np.array(frame["transform_matrix"], dtype=np.float32)[:3]
            # The world point half-way between the camera and the origin is drawn where nerfstudio's pinhole says.
            point = np.array([0.1, 0.2, 0.3])
            x, y, z = pose[:, :3].T @ (point - pose[:, 3])
            expected = number["fl_x"] * x / -z + number["cx"], number["cy"] - number["fl_y"] * y / -z
            drawn = camera.project(torch.tensor([[0.1, 0.2, 0.3]]))[0][0] * torch.tensor([size[1], size[0]])
            assert drawn.tolist() == pytest.approx(expected, abs=1e-3)
    assert len(Scene.load(tmp_path / "own")) == 3
