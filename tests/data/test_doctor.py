"""Each fault is planted in a healthy scene and named, alone; healthy scenes have no finding."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vfusion3d.alpha import straight_pixels
from vfusion3d.cameras import Cameras, fov_from_focal, orbit, random_sphere
from vfusion3d.cameras.conventions import rescaled
from vfusion3d.data.doctor import examine
from vfusion3d.data.procedural import sample_objects
from vfusion3d.data.raycast import render
from vfusion3d.data.scenes import write_scene

Document = dict[str, Any]
VIEWS, SIZE, FOCAL = 8, 48, 35 / 32


def names(folder: Path) -> list[str]:
    findings = examine(folder)
    for finding in findings:
        assert finding.message.endswith(".") and "\n" not in finding.message
    return [finding.name for finding in findings]


def only(folder: Path, name: str) -> str:
    """The message of the one finding, which must have this name."""
    findings = examine(folder)
    assert [finding.name for finding in findings] == [name]
    return findings[0].message


def drawn(cameras: Cameras, seed: int = 5) -> np.ndarray:
    return straight_pixels(render(sample_objects(torch.tensor([seed])), cameras.unsqueeze(0), SIZE, SIZE)[0])


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An orbit around an object that has no symmetry."""
    folder = tmp_path_factory.mktemp("doctor") / "healthy"
    cameras = orbit(VIEWS, 0.3, fov=fov_from_focal(FOCAL))
    write_scene(folder, drawn(cameras), cameras)
    return folder


@pytest.fixture
def broken(healthy: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the healthy scene with its document, its poses or its pictures changed."""

    def change(
        document: Callable[[Document], object] | None = None,
        pose: Callable[[int, np.ndarray], np.ndarray] | None = None,
        picture: Callable[[int, np.ndarray], np.ndarray | None] | None = None,
    ) -> Path:
        folder = tmp_path / "broken"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(healthy, folder)
        content = json.loads((folder / "transforms.json").read_text())
        for index, frame in enumerate(content["frames"]):
            if pose is not None:
                frame["transform_matrix"] = pose(index, np.array(frame["transform_matrix"])).tolist()
            if picture is not None:
                pixels = picture(index, np.array(Image.open(folder / frame["file_path"])))
                if pixels is None:
                    (folder / frame["file_path"]).unlink()
                else:
                    Image.fromarray(pixels).save(folder / frame["file_path"])
        if document is not None:
            document(content)
        (folder / "transforms.json").write_text(json.dumps(content))
        return folder

    return change


FLIP = np.diag([1.0, -1, -1, 1])


# -- healthy ---------------------------------------------------------------------------------------------------
def test_scenes_of_small_random_views_are_healthy(scene_root: Path) -> None:
    for folder in sorted(scene_root.iterdir()):
        assert names(folder) == []


@pytest.mark.parametrize(
    "cameras",
    [
        orbit(VIEWS, 0.3, offset_noise=0.05, generator=torch.Generator().manual_seed(0)),
        orbit(6),
        orbit(VIEWS, math.radians(20), fov=30.0, direction=-1),
        orbit(VIEWS, math.radians(75)),
        random_sphere(10, (-1.3, 1.4), generator=torch.Generator().manual_seed(1)),
        orbit(2),
        orbit(1, 0.2),
        orbit(4, 0.3).crop(0.05, 0.1, 0.95, 0.95),  # recentred by the intrinsics
    ],
    ids=["noisy orbit", "flat orbit", "benchmark", "from above", "random", "two views", "one view", "recentred"],
)
def test_layouts_of_cameras_are_healthy(cameras: Cameras, tmp_path: Path) -> None:
    write_scene(tmp_path / "s", drawn(cameras), cameras)
    assert names(tmp_path / "s") == []


def test_a_ball_looks_the_same_from_everywhere(tmp_path: Path) -> None:
    cameras = orbit(6, 0.3)
    grid = (np.arange(SIZE) + 0.5) / SIZE * 2 - 1
    ball = np.zeros((SIZE, SIZE, 4), np.uint8)
    ball[(grid[:, None] ** 2 + grid**2) < 0.9] = (200, 100, 50, 255)
    write_scene(tmp_path / "s", np.stack([ball] * 6), cameras)
    assert names(tmp_path / "s") == []


def test_real_renders_are_healthy(shared: Path) -> None:
    assert names(shared / "data" / "multiview" / "lego_nerf_synthetic") == []


# -- poses -----------------------------------------------------------------------------------------------------
def test_world_to_camera(broken: Callable[..., Path]) -> None:
    folder = broken(pose=lambda _, pose: np.linalg.inv(pose))
    assert "world-to-camera where nerfstudio has camera-to-world" in only(folder, "poses-are-inverted")


def test_opencv_axes(broken: Callable[..., Path]) -> None:
    folder = broken(pose=lambda _, pose: pose @ FLIP)
    assert "OpenCV's where nerfstudio has OpenGL's" in only(folder, "axes-are-flipped")


def test_opencv_world_to_camera(broken: Callable[..., Path]) -> None:
    folder = broken(pose=lambda _, pose: np.linalg.inv(pose @ FLIP))
    assert names(folder) == ["poses-are-inverted", "axes-are-flipped"]


def test_the_same_mistakes_from_all_around_and_off_centre(tmp_path: Path) -> None:
    cameras = random_sphere(10, (-1.0, 1.2), generator=torch.Generator().manual_seed(2))
    views = drawn(cameras)
    far = torch.tensor([[1.0, 0, 0, 5], [0, 1, 0, 4], [0, 0, 1, 3], [0, 0, 0, 1]])
    for place, expected in ((cameras, []), (cameras.transform(far), ["off-centre"])):
        flipped = Cameras(place.poses * torch.tensor([1.0, -1, -1, 1]), place.intrinsics)
        inverse = Cameras(place.world_to_camera[:, :3], place.intrinsics)
        both = Cameras(flipped.world_to_camera[:, :3], place.intrinsics)
        for number, (stored, found) in enumerate(
            ((place, []), (flipped, ["axes-are-flipped"]), (inverse, ["poses-are-inverted"]))
        ):
            write_scene(tmp_path / "s", views, stored, overwrite=True)
            assert names(tmp_path / "s") == found + expected, number
        write_scene(tmp_path / "s", views, both, overwrite=True)
        assert names(tmp_path / "s") == ["poses-are-inverted", "axes-are-flipped", *expected]


def test_poses_that_are_no_motions(broken: Callable[..., Path]) -> None:
    assert names(broken(pose=lambda k, pose: pose * (np.nan if k == 2 else 1))) == ["invalid-poses"]
    folder = broken(pose=lambda _, pose: pose @ np.diag([2.0, 2, 2, 1]))
    assert "2, 2, 2" in only(folder, "invalid-poses")
    assert names(broken(pose=lambda k, pose: pose @ np.diag([-1.0 if k < 3 else 1, 1, 1, 1]))) == ["mirrored-poses"]


def test_a_stray_camera(broken: Callable[..., Path]) -> None:
    folder = broken(pose=lambda k, pose: pose @ FLIP if k == 5 else pose)
    assert "view 5" in only(folder, "stray-camera")


def test_cameras_that_look_anywhere(broken: Callable[..., Path]) -> None:
    generator = np.random.default_rng(1)

    def anywhere(_: int, pose: np.ndarray) -> np.ndarray:
        turn, _upper = np.linalg.qr(generator.normal(size=(3, 3)))
        pose[:3, :3] = turn * np.linalg.det(turn)
        return pose

    assert names(broken(pose=anywhere)) == ["scattered-cameras"]


def test_a_world_with_another_up_axis(broken: Callable[..., Path]) -> None:
    to_y_up = np.array([[0.0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    folder = broken(pose=lambda _, pose: to_y_up @ pose)
    assert "--up y" in only(folder, "not-upright")
    assert names(broken(pose=lambda _, pose: FLIP @ pose)) == ["not-upright"]
    assert names(broken(pose=lambda _, pose: np.diag([1.0, -1, -1, 1]) @ to_y_up @ pose)) == ["not-upright"]


# -- place, size, silhouettes ----------------------------------------------------------------------------------
@pytest.mark.parametrize("factor", [0.3, 0.5, 2.5, 40.0])
def test_another_scale(broken: Callable[..., Path], factor: float) -> None:
    def scaled(_: int, pose: np.ndarray) -> np.ndarray:
        pose[:3, 3] *= factor
        return pose

    folder = broken(pose=scaled)
    advice = float(only(folder, "scale").rsplit("--scale ", 1)[1].rstrip("`."))
    assert advice == pytest.approx(1 / factor, rel=0.2)


def test_an_object_elsewhere(broken: Callable[..., Path]) -> None:
    def shifted(_: int, pose: np.ndarray) -> np.ndarray:
        pose[:3, 3] += [0.2, -1.5, 0.4]
        return pose

    folder = broken(pose=shifted)
    x, y, z = (float(word) for word in only(folder, "off-centre").rsplit("--centre ", 1)[1].rstrip("`.").split())
    assert (x, y, z) == pytest.approx((0.2, -1.5, 0.4), abs=0.35)


def test_pictures_and_cameras_that_do_not_belong_together(broken: Callable[..., Path]) -> None:
    def reversed_turn(document: Document) -> None:
        poses = [frame["transform_matrix"] for frame in document["frames"]]
        for frame, pose in zip(document["frames"], [poses[0], *poses[:0:-1]], strict=True):
            frame["transform_matrix"] = pose

    def shuffled(document: Document) -> None:
        poses = [frame["transform_matrix"] for frame in document["frames"]]
        for frame, index in zip(document["frames"], [3, 0, 6, 5, 1, 7, 2, 4], strict=True):
            frame["transform_matrix"] = poses[index]

    def narrower(document: Document) -> None:
        document["fl_x"] *= 2
        document["fl_y"] *= 2

    assert names(broken(document=reversed_turn)) == ["silhouettes-disagree"]
    assert names(broken(document=shuffled)) == ["silhouettes-disagree"]
    assert names(broken(document=narrower)) == ["scale"]  # a consistent world, but half the size


def test_the_view_that_contradicts_all_others_is_named(broken: Callable[..., Path]) -> None:
    folder = broken(picture=lambda k, pixels: pixels[::-1].copy() if k == 4 else pixels)
    assert "view 4" in only(folder, "silhouettes-disagree")


# -- pictures --------------------------------------------------------------------------------------------------
def test_missing_and_unreadable_views(broken: Callable[..., Path]) -> None:
    folder = broken(picture=lambda k, pixels: None if k in (1, 2) else pixels)
    assert "001.png, 002.png are" in only(folder, "missing-view")
    folder = broken()
    (folder / "images" / "003.png").write_bytes((folder / "images" / "003.png").read_bytes()[:100])
    assert re.search(r"003\.png .*cannot be read .* view 3;", only(folder, "unreadable-view"))


def test_different_sizes(broken: Callable[..., Path]) -> None:
    def halved(k: int, pixels: np.ndarray) -> np.ndarray:
        return pixels[::2, ::2].copy() if k == 6 else pixels

    folder = broken(picture=halved)
    assert "006.png is 24 x 24 pixels, but its camera is stated for 48 x 48" in only(folder, "different-size")

    def unstated(document: Document) -> None:
        document.update(camera_angle_x=math.radians(fov_from_focal(FOCAL)))
        for key in ("w", "h", "fl_x", "fl_y", "cx", "cy"):
            del document[key]

    folder = broken(document=unstated, picture=halved)
    assert "2 sizes" in only(folder, "different-size")


def test_duplicates(broken: Callable[..., Path]) -> None:
    kept: dict[int, np.ndarray] = {}

    def frozen(k: int, pixels: np.ndarray) -> np.ndarray:
        kept[k] = pixels
        return kept[3] if k == 4 else pixels

    assert "duplicate-view" in names(broken(picture=frozen))  # and its silhouette disagrees

    def twice(document: Document) -> None:
        document["frames"][2] = document["frames"][1]

    assert names(broken(document=twice)) == ["duplicate-view"]

    def one_pose(document: Document) -> None:
        document["frames"][2]["transform_matrix"] = document["frames"][1]["transform_matrix"]

    found = examine(broken(document=one_pose))
    assert found[0].name == "duplicate-view" and "Views 1 and 2 have the same camera" in found[0].message


def test_an_empty_view(broken: Callable[..., Path]) -> None:
    assert names(broken(picture=lambda k, pixels: pixels * (k != 5))) == ["empty-view"]


def on(colour: int, pixels: np.ndarray) -> np.ndarray:
    alpha = pixels[..., 3:] / 255.0
    return (pixels[..., :3] * alpha + colour * (1 - alpha)).astype(np.uint8)


def test_backgrounds(broken: Callable[..., Path]) -> None:
    folder = broken(picture=lambda _, pixels: on(255, pixels))
    assert "of 8 is not transparent, their borders have the colour (255, 255, 255)" in only(folder, "background")

    folder = broken(picture=lambda k, pixels: on(25 * k, pixels))
    assert "different colours" in only(folder, "background")

    def full_alpha(k: int, pixels: np.ndarray) -> np.ndarray:
        return np.dstack([on(0, pixels), np.full(pixels.shape[:2], 255, np.uint8)]) if k == 2 else pixels

    folder = broken(picture=full_alpha)
    assert "view 2 of 8" in only(folder, "background")

    folder = broken(picture=lambda _, pixels: np.dstack([pixels[..., :3], 255 - pixels[..., 3]]))
    assert "inverted" in only(folder, "background")


def test_an_opaque_scene_of_another_scale(broken: Callable[..., Path]) -> None:
    def scaled(_: int, pose: np.ndarray) -> np.ndarray:
        pose[:3, 3] *= 10
        return pose

    assert names(broken(pose=scaled, picture=lambda _, pixels: on(255, pixels))) == ["background", "scale"]


def test_an_object_beyond_the_frame(tmp_path: Path) -> None:
    cameras = orbit(6, 0.3, radius=2.0)
    write_scene(tmp_path / "s", drawn(cameras), cameras)
    assert "cut-off" in names(tmp_path / "s")


# -- depth -----------------------------------------------------------------------------------------------------
def test_depth_files(broken: Callable[..., Path]) -> None:
    def with_depth(kind: str, count: int = VIEWS) -> Path:
        def named(document: Document) -> None:
            for index, frame in enumerate(document["frames"][:count]):
                frame["depth_file_path"] = f"depth/{index:03d}.png"

        folder = broken(document=named)
        (folder / "depth").mkdir()
        for index in range(count):
            Image.new(kind, (SIZE, SIZE)).save(folder / "depth" / f"{index:03d}.png")
        return folder

    assert names(with_depth("I;16")) == []
    folder = with_depth("RGB")
    assert "000.png (8 of 8 files) has 3 channels" in only(folder, "depth-channels")
    folder = with_depth("L", 6)
    assert "Views 6, 7" in only(folder, "missing-depth")
    folder = broken()
    Image.new("RGBA", (SIZE, SIZE)).save(
        folder / "images" / "000_depth.png"
    )  # beside the picture, as InstantMesh has it
    assert names(folder) == ["missing-depth", "depth-channels"]


# -- other layouts ---------------------------------------------------------------------------------------------
def test_foreign_folders_are_examined_as_they_are(healthy: Path, tmp_path: Path) -> None:
    """Zero-1-to-3's Objaverse renders with camera-to-world poses, which are world-to-camera there."""
    document = json.loads((healthy / "transforms.json").read_text())
    to_blender = np.array([[0.0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    for wrong, expected in ((False, []), (True, ["poses-are-inverted"])):
        folder = tmp_path / str(wrong)
        folder.mkdir()
        for index, frame in enumerate(document["frames"]):
            shutil.copy(healthy / frame["file_path"], folder / f"{index:03d}.png")
            pose = to_blender @ np.array(frame["transform_matrix"])
            pose[:3, 3] /= 2
            np.save(folder / f"{index:03d}.npy", (pose if wrong else np.linalg.inv(pose))[:3])
        findings = examine(folder)
        assert [finding.name for finding in findings] == expected
    assert "camera-to-world where objaverse has world-to-camera" in findings[0].message


def test_a_folder_that_cannot_be_read(broken: Callable[..., Path]) -> None:
    assert names(broken(document=lambda document: document.update(k1=0.3))) == ["unreadable"]
    assert names(broken(document=lambda document: document["frames"][1].pop("file_path"))) == ["unreadable"]


def test_rescaled_cameras_of_a_world_that_is_twice_as_large(healthy: Path, tmp_path: Path) -> None:
    """OpenLRM's objects fill the cube of half side 1, whose corners are 1.73 from the origin: still healthy."""
    cameras = orbit(VIEWS, 0.3)
    write_scene(tmp_path / "s", drawn(cameras), rescaled(cameras, 1.5))
    assert names(tmp_path / "s") == []


def test_a_long_object_seen_from_its_ends_is_no_small_one(tmp_path: Path) -> None:
    """A box of half sides 0.97, 0.2 and 0.15 along the cameras' axis; a third as large everywhere it is named."""
    cameras = orbit(2, 0.1, fov=fov_from_focal(FOCAL))
    for scale, wanted in ((1.0, []), (0.3, ["scale"])):
        signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
        corners = signs * torch.tensor([0.97, 0.2, 0.15]) * scale
        pictures = np.zeros((2, SIZE, SIZE, 4), dtype=np.uint8)
        for view in range(2):
            uv = cameras[view].project(corners)[0] * SIZE
            low, high = uv.amin(0).floor().int().tolist(), uv.amax(0).ceil().int().tolist()
            pictures[view, low[1] : high[1], low[0] : high[0]] = [200, 60 + 90 * view, 40, 255]
        write_scene(tmp_path / str(scale), pictures, cameras)
        assert names(tmp_path / str(scale)) == wanted
