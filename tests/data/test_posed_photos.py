"""Posed photographs load, and their epipolar geometry holds: matched points lie on each other's epipolar lines."""

import csv
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vfusion3d.cameras import Cameras, orbit
from vfusion3d.cameras.conventions import to_opencv_w2c, to_transforms
from vfusion3d.data.posed_photos import PosedPhotos, load_posed_photos
from vfusion3d.errors import SceneError

MULTIVIEW = Path(__file__).parents[3] / "shared" / "data" / "multiview"
SEQUENCES = {
    "buddha": ("original", (2736, 1540)),
    "lego_nerf_synthetic": ("original/transforms_train.json", None),
    "temple_sparse_ring": ("original/templeSR_par.txt", None),
}
# Overlapping views with different enough poses; the temple's 2 and 13 are upside down to each other.
NEIGHBOURS = {
    "buddha": [(6, 7), (5, 8)],
    "lego_nerf_synthetic": [(17, 27), (1, 7)],
    "temple_sparse_ring": [(11, 12), (2, 13)],
}
needs_shared = pytest.mark.skipif(not MULTIVIEW.exists(), reason="the photographs of ../shared are not here")


# -- formats, on pictures of our own ---------------------------------------------------------------------------
@pytest.fixture
def sequence(tmp_path: Path) -> tuple[Path, Cameras]:
    """Three pictures of 8 x 6 pixels in ``images/`` and their cameras."""
    (tmp_path / "images").mkdir()
    for k in range(3):
        Image.new("RGB", (8, 6), (k * 100, 0, 255)).save(tmp_path / "images" / f"{k}.png")
    return tmp_path, orbit(3, elevation=0.3, radius=2.0)


def write(folder: Path, cameras: Cameras, layout: str) -> None:
    matrices, k = to_opencv_w2c(cameras.to(torch.float64), 8, 6)
    files = [f"images/{k}.png" for k in range(3)]
    if layout == "cameras.json":
        views = [
            {"file": file, "K": one.tolist(), "R": matrix[:3, :3].tolist(), "t": matrix[:3, 3].tolist()}
            for file, matrix, one in zip(files, matrices, k, strict=True)
        ]
        (folder / layout).write_text(json.dumps({"views": views}))
    elif layout == "transforms.json":
        (folder / layout).write_text(json.dumps(to_transforms(cameras, files, 8, 6)))
    elif layout == "all_par.txt":
        rows = [
            [f"{n}.png", *one.flatten().tolist(), *matrix[:3, :3].flatten().tolist(), *matrix[:3, 3].tolist()]
            for n, (matrix, one) in enumerate(zip(matrices, k, strict=True))
        ]
        (folder / layout).write_text("\n".join(["3", *(" ".join(map(str, row)) for row in rows)]) + "\n")
    else:
        for n, matrix in enumerate(k @ matrices[:, :3]):
            np.savetxt(folder / f"{n}_P.txt", matrix.numpy())


@pytest.mark.parametrize("layout", ["cameras.json", "transforms.json", "all_par.txt", "_P.txt"])
def test_formats(sequence, layout):
    folder, cameras = sequence
    write(folder, cameras, layout)
    photos = load_posed_photos(folder)
    assert [file.name for file in photos.files] == ["0.png", "1.png", "2.png"] and len(photos) == 3
    torch.testing.assert_close(photos.cameras.poses, cameras.poses, atol=1e-5, rtol=0)
    torch.testing.assert_close(photos.cameras.intrinsics, cameras.intrinsics, atol=1e-5, rtol=0)


@pytest.mark.parametrize("layout", ["cameras.json", "all_par.txt", "_P.txt"])
def test_resized_pictures(sequence, layout):
    folder, cameras = sequence
    write(folder, cameras, layout)
    for file in folder.glob("images/*"):
        Image.open(file).resize((4, 3)).save(file)
    photos = load_posed_photos(folder, size=(8, 6))
    torch.testing.assert_close(photos.cameras.intrinsics, cameras.intrinsics, atol=1e-5, rtol=0)


def test_pictures_are_premultiplied_and_may_be_missing(sequence):
    folder, cameras = sequence
    write(folder, cameras, "cameras.json")
    Image.new("RGBA", (8, 6), (255, 0, 0, 51)).save(folder / "images" / "0.png")
    (folder / "images" / "1.png").unlink()
    photos = load_posed_photos(folder)
    assert [file.name for file in photos.files] == ["0.png", "2.png"]
    torch.testing.assert_close(photos.cameras.poses, cameras.poses[[0, 2]], atol=1e-5, rtol=0)
    torch.testing.assert_close(photos.image(0)[:, 0, 0], torch.tensor([0.2, 0.0, 0.0, 0.2]))
    torch.testing.assert_close(photos.image(1)[:, 5, 7], torch.tensor([200 / 255, 0.0, 1.0, 1.0]))


def test_errors(sequence, tmp_path):
    folder, cameras = sequence
    with pytest.raises(SceneError, match="no calibration"):
        load_posed_photos(folder)
    write(folder, cameras, "cameras.json")
    path = folder / "cameras.json"
    good = json.loads(path.read_text())

    def fails(match: str) -> None:
        with pytest.raises(SceneError, match=match):
            load_posed_photos(folder)

    del good["views"][1]["R"]
    path.write_text(json.dumps(good))
    fails("lacks 'R'")
    good["views"][1]["R"] = [[2, 0, 0], [0, 1, 0], [0, 0, 1]]
    path.write_text(json.dumps(good))
    fails("orthonormal")
    good["views"][1]["R"] = [1, 2]
    path.write_text(json.dumps(good))
    fails("cannot be used")
    path.write_text("[")
    fails("cannot be used")
    path.write_text(json.dumps({"views": [{**good["views"][0], "file": "other.png"}]}))
    fails("None of the 1 pictures")
    write(folder, cameras, "cameras.json")
    (folder / "images" / "2.png").write_text("no picture")
    fails(r"2\.png cannot be read")
    path.unlink()
    (folder / "x_par.txt").write_text("1\n0.png 1 2 3\n")
    fails("not 21")
    with pytest.raises(SceneError, match="cannot be used"):
        load_posed_photos(folder, folder / "missing.json")


# -- real photographs ------------------------------------------------------------------------------------------
def manifest() -> dict[str, dict[str, str]]:
    with (MULTIVIEW / "MANIFEST.csv").open(newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


@cache
def photos_of(name: str) -> PosedPhotos:
    return load_posed_photos(MULTIVIEW / name)


@needs_shared
@pytest.mark.parametrize("name", SEQUENCES)
def test_original_calibration_gives_the_same_cameras(name):
    photos = photos_of(name)
    row = manifest()[name]
    assert len(photos) == int(row["views"])
    assert photos.image(0).shape == (4, int(row["height"]), int(row["width"]))
    calibration, size = SEQUENCES[name]
    original = load_posed_photos(MULTIVIEW / name, MULTIVIEW / name / calibration, size)
    assert original.files == photos.files
    torch.testing.assert_close(original.cameras.poses, photos.cameras.poses, atol=1e-5, rtol=0)
    torch.testing.assert_close(original.cameras.intrinsics, photos.cameras.intrinsics, atol=1e-5, rtol=0)


@cache
def matches(name: str) -> list[tuple[int, int, np.ndarray, np.ndarray]]:
    """Ratio-tested SIFT matches of neighbouring views: the two views and the pixels in each, (x, y)."""
    feature = pytest.importorskip("skimage.feature")
    photos = photos_of(name)
    found = []
    for pair in NEIGHBOURS[name]:
        sifts = []
        for index in pair:
            sift = feature.SIFT(upsampling=1)  # finds fewer points than 2, but those of 2 are 0.25 pixels off
            sift.detect_and_extract(photos.image(index)[:3].mean(0).numpy())
            sifts.append(sift)
        both = feature.match_descriptors(sifts[0].descriptors, sifts[1].descriptors, max_ratio=0.7, cross_check=True)
        pixels = [sift.positions[both[:, side], ::-1] + 0.5 for side, sift in enumerate(sifts)]
        found.append((*pair, *pixels))
    return found


def epipolar_distances(name: str, cameras: Cameras) -> np.ndarray:
    """Distances in pixels of matches in the second view to the epipolar lines of those in the first.

    The line is drawn with nothing but the definition of `Cameras`: two points on a pixel's ray, projected.
    """
    distances = []
    for one, two, first, second in matches(name):
        height, width = photos_of(name).image(one).shape[1:]
        size = torch.tensor([width, height], dtype=torch.float64)
        a, b = cameras[one].to(torch.float64), cameras[two].to(torch.float64)
        fx, fy, cx, cy = a.intrinsics
        u, v = (torch.from_numpy(first.copy()) / size).unbind(-1)
        local = torch.stack([(u - cx) / fx, (cy - v) / fy, -torch.ones_like(u)], -1)
        direction = local @ a.poses[:, :3].T
        distance = a.centers.norm()
        near, far = (b.project(a.centers + direction * distance * share)[0] * size for share in (0.8, 1.2))
        along = torch.nn.functional.normalize(far - near, dim=-1)
        offset = torch.from_numpy(second.copy()) - near
        distances.append((offset[:, 0] * along[:, 1] - offset[:, 1] * along[:, 0]).abs().numpy())
        assert len(distances[-1]) >= 25
    return np.concatenate(distances)


@needs_shared
@pytest.mark.parametrize("name", SEQUENCES)
def test_epipolar_geometry_holds(name):
    expected = float(manifest()[name]["sift_median_epipolar_px"].split()[0])
    median = float(np.median(epipolar_distances(name, photos_of(name).cameras)))
    assert median < 1.5 * expected + 0.3, f"median epipolar distance {median:.2f} px, manifest {expected}"


def wrong(kind: str, cameras: Cameras) -> Cameras:
    """The same photographs read under a wrong convention."""
    poses, k = cameras.poses, cameras.intrinsics
    if kind == "OpenCV axes taken for OpenGL":
        return Cameras(poses * torch.tensor([1.0, -1.0, -1.0, 1.0]), k)
    return Cameras(cameras.world_to_camera[..., :3, :], k)


@needs_shared
@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("kind", ["OpenCV axes taken for OpenGL", "world-to-camera taken for camera-to-world"])
def test_wrong_conventions_break_it(name, kind):
    median = float(np.median(epipolar_distances(name, wrong(kind, photos_of(name).cameras))))
    assert median > 5, f"{kind}: median epipolar distance {median:.2f} px would pass"
