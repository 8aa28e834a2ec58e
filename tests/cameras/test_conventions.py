import json
import math

import numpy as np
import pytest
import torch

from vfusion3d.cameras import Cameras, on_sphere, orbit, pinhole, released_source_camera, rigid_noise
from vfusion3d.cameras import conventions as conv
from vfusion3d.errors import SceneError

WIDTH, HEIGHT = 640, 480


def random_cameras(seed: int = 0, count: int = 20, centred: bool = False) -> Cameras:
    """Cameras anywhere with any orientation, roll and intrinsics, float64."""
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn(count, 3, 3, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(draw).Q
    rotation = rotation * torch.linalg.det(rotation).sign()[:, None, None]
    centers = torch.randn(count, 3, 1, generator=generator, dtype=torch.float64) * 2
    numbers = torch.rand(count, 4, generator=generator, dtype=torch.float64)
    intrinsics = torch.cat([0.5 + numbers[:, :2], 0.3 + 0.4 * numbers[:, 2:]], -1)
    if centred:
        intrinsics = torch.stack([intrinsics[:, 0], intrinsics[:, 0], *(2 * [torch.full((count,), 0.5)])], -1).double()
    return Cameras(torch.cat([rotation, centers], -1), intrinsics)


def front(radius: float = 2.0) -> Cameras:
    return orbit(views=1, radius=radius, fov=60.0)[0]


def assert_equal(one: Cameras, two: Cameras, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(one.poses, two.poses, atol=tolerance, rtol=0)
    torch.testing.assert_close(one.intrinsics, two.intrinsics, atol=tolerance, rtol=0)


ROUND_TRIPS = {
    "opencv": lambda c: conv.from_opencv(*conv.to_opencv(c, WIDTH, HEIGHT), WIDTH, HEIGHT),
    "opencv_w2c": lambda c: conv.from_opencv_w2c(*conv.to_opencv_w2c(c, WIDTH, HEIGHT), WIDTH, HEIGHT),
    "w2c": lambda c: conv.from_w2c(c.world_to_camera, c.intrinsics),
    "render_vectors": lambda c: conv.from_render_vectors(conv.to_render_vectors(c)),
    "source_vectors": lambda c: Cameras.from_vectors(c.vectors),
    "openlrm": lambda c: conv.from_openlrm(*conv.to_openlrm(c, WIDTH, HEIGHT)),
    "instantmesh": lambda c: conv.from_instantmesh(conv.to_instantmesh(c)),
    "lgm": lambda c: conv.from_lgm(*conv.to_lgm(c)),
}


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_round_trip(name):
    cameras = random_cameras(centred=name == "lgm")
    back = ROUND_TRIPS[name](cameras)
    back.validate()
    assert_equal(back, cameras)
    batched = ROUND_TRIPS[name](cameras.reshape(4, 5))
    assert_equal(batched, cameras.reshape(4, 5))
    assert_equal(ROUND_TRIPS[name](cameras[3]), cameras[3])


@pytest.mark.parametrize("name", ["opencv", "opencv_w2c"])
def test_opencv_projects_like_ours(name):
    """Pixels by K (R x + t), written out in numpy, are those of `Cameras.project`."""
    cameras = random_cameras(1, 8)
    points = torch.randn(8, 50, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    matrices, k = getattr(conv, f"to_{name}")(cameras, WIDTH, HEIGHT)
    w2c = np.linalg.inv(matrices.numpy()) if name == "opencv" else matrices.numpy()
    local = points.numpy() @ w2c[:, :3, :3].transpose(0, 2, 1) + w2c[:, None, :3, 3]
    pixels = local @ k.numpy().transpose(0, 2, 1)
    uv, depth = cameras.project(points)
    np.testing.assert_allclose(depth.numpy(), local[..., 2], atol=1e-12)
    expected = pixels[..., :2] / pixels[..., 2:] / [WIDTH, HEIGHT]
    np.testing.assert_allclose(uv.numpy(), expected, rtol=1e-9, atol=1e-9)


def test_opencv_golden():
    poses, k = conv.to_opencv(front(), 200, 100)
    # On +X looking at -X: right is +Y, down is -Z, forward is -X.
    expected = [[0, 0, -1, 2], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]]
    torch.testing.assert_close(poses, torch.tensor(expected, dtype=torch.float32))
    focal = 0.5 / math.tan(math.radians(30))
    torch.testing.assert_close(k, torch.tensor([[200 * focal, 0, 100], [0, 100 * focal, 50], [0, 0, 1]]))
    w2c, _ = conv.to_opencv_w2c(front(), 200, 100)
    origin = w2c @ torch.tensor([0.0, 0.0, 0.0, 1.0])
    torch.testing.assert_close(origin, torch.tensor([0.0, 0.0, 2.0, 1.0]))


def test_w2c_golden():
    """The object is in front of a camera that looks along -z."""
    origin = front().world_to_camera @ torch.tensor([0.0, 0.0, 0.0, 1.0])
    torch.testing.assert_close(origin, torch.tensor([0.0, 0.0, -2.0, 1.0]))
    matrix = torch.eye(4)
    matrix[2, 3] = -2
    torch.testing.assert_close(conv.from_w2c(matrix, pinhole()).centers, torch.tensor([0.0, 0.0, 2.0]))


@pytest.mark.parametrize("scale", [1.0, -3.7, 0.01])
def test_projection_of_any_scale(scale):
    cameras = random_cameras(3)
    matrices, k = conv.to_opencv_w2c(cameras, WIDTH, HEIGHT)
    assert_equal(conv.from_projection(scale * k @ matrices[:, :3], WIDTH, HEIGHT), cameras, 1e-9)


def test_opencv_errors():
    with pytest.raises(ValueError, match="`poses`"):
        conv.from_opencv(torch.eye(3), torch.eye(3), 4, 4)
    with pytest.raises(ValueError, match="`k`"):
        conv.from_opencv(torch.eye(4), torch.eye(4), 4, 4)
    skewed = torch.tensor([[1.0, 0.2, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
    with pytest.raises(ValueError, match="skew"):
        conv.from_opencv(torch.eye(4), skewed, 4, 4)
    with pytest.raises(ValueError, match=r"\[\.\.\., 3, 4\]"):
        conv.from_projection(torch.eye(4), 4, 4)


# -- transforms.json -----------------------------------------------------------------------------------------
def names(count: int) -> list[str]:
    return [f"images/{k:03d}.png" for k in range(count)]


@pytest.mark.parametrize("shared", [True, False])
def test_transforms_round_trip(shared):
    cameras = random_cameras(4, 6)
    if shared:
        cameras = Cameras(cameras.poses, cameras.intrinsics[:1].expand(6, 4))
    document = json.loads(json.dumps(conv.to_transforms(cameras, names(6), WIDTH, HEIGHT)))
    assert ("fl_x" in document) == shared and ("fl_x" in document["frames"][0]) != shared
    assert [frame["file_path"] for frame in document["frames"]] == names(6)
    assert_equal(conv.from_transforms(document).to(torch.float64), cameras, 1e-6)


def test_transforms_golden():
    document = conv.to_transforms(front()[None], ["a.png"], 200, 100)
    assert document["frames"][0]["transform_matrix"] == [[0, 0, 1, 2], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    assert (document["w"], document["h"], document["cx"], document["cy"]) == (200, 100, 100, 50)
    assert document["fl_x"] == pytest.approx(100 / math.tan(math.radians(30)))


def test_transforms_of_nerf_synthetic():
    frame = {"file_path": "r_0", "transform_matrix": torch.eye(4).tolist()}
    document = {"camera_angle_x": math.radians(90), "frames": [frame]}
    wide = conv.from_transforms(document, size=(200, 100))
    torch.testing.assert_close(wide.intrinsics[0], torch.tensor([0.5, 1.0, 0.5, 0.5]))
    both = conv.from_transforms({**document, "camera_angle_y": math.radians(90)}, size=(200, 100))
    torch.testing.assert_close(both.intrinsics[0], torch.tensor([0.5, 0.5, 0.5, 0.5]))
    with pytest.raises(SceneError, match="'w'"):
        conv.from_transforms(document)


def test_transforms_errors():
    good = conv.to_transforms(random_cameras(5, 2), names(2), 8, 8)

    def changed(**numbers):
        return {**good, "frames": [good["frames"][0], {**good["frames"][1], **numbers}]}

    with pytest.raises(SceneError, match="frames"):
        conv.from_transforms({"frames": []})
    with pytest.raises(SceneError, match="frames"):
        conv.from_transforms([])  # type: ignore[arg-type]
    with pytest.raises(SceneError, match="k1"):
        conv.from_transforms(changed(k1=0.1))
    with pytest.raises(SceneError, match="OPENCV_FISHEYE"):
        conv.from_transforms(changed(camera_model="OPENCV_FISHEYE"))
    with pytest.raises(SceneError, match=r"Frame 1 .* NaN"):
        conv.from_transforms(changed(fl_x=float("nan")))
    with pytest.raises(SceneError, match=r"Frame 1 .* orthonormal"):
        conv.from_transforms(changed(transform_matrix=(2 * torch.eye(4)).tolist()))
    with pytest.raises(SceneError, match="Frame 1"):
        conv.from_transforms(changed(transform_matrix="abc"))
    with pytest.raises(SceneError, match="transform_matrix"):
        conv.from_transforms({**good, "frames": [{"file_path": "a"}]})
    with pytest.raises(SceneError, match="fl_x"):
        conv.from_transforms({"w": 8, "h": 8, "frames": [{"transform_matrix": torch.eye(4).tolist()}]})
    with pytest.raises(ValueError, match="file_paths"):
        conv.to_transforms(random_cameras(5, 2), names(3), 8, 8)


# -- released models -----------------------------------------------------------------------------------------
def test_render_vectors_golden():
    vector = conv.to_render_vectors(Cameras(front(1.5).poses, released_source_camera().intrinsics))
    expected = [0, 0, 1, 1.5, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0.75, 0, 0.5, 0, 0.75, 0.5, 0, 0, 1]
    torch.testing.assert_close(vector, torch.tensor(expected))
    with pytest.raises(ValueError, match="25"):
        conv.from_render_vectors(torch.zeros(16))


def test_openlrm_golden():
    """REFERENCE section 3: the source camera of OpenLRM is the front camera of ours at distance 2."""
    canonical = torch.tensor([[1.0, 0, 0, 0], [0, 0, -1, -2], [0, 1, 0, 0]])
    k = torch.tensor([[384.0, 384.0], [256.0, 256.0], [512.0, 512.0]])
    cameras = conv.from_openlrm(canonical, k)
    torch.testing.assert_close(cameras.poses, front(2.0).poses)
    torch.testing.assert_close(cameras.intrinsics, torch.tensor([0.75, 0.75, 0.5, 0.5]))
    poses, intrinsics = conv.to_openlrm(cameras, 512, 512)
    torch.testing.assert_close(poses, canonical)
    torch.testing.assert_close(intrinsics, k)
    with pytest.raises(ValueError, match="`intrinsics`"):
        conv.from_openlrm(canonical, torch.eye(3))


def test_instantmesh_golden():
    """Its six input views: distance 4, field of view 30, z up, azimuth counted from +X."""
    vectors = conv.to_instantmesh(conv.zero123plus_views("1.2", radius=4.0))
    azimuth, elevation = math.radians(30), math.radians(20)
    centre = [
        4 * math.cos(elevation) * math.cos(azimuth),
        4 * math.cos(elevation) * math.sin(azimuth),
        4 * math.sin(elevation),
    ]
    torch.testing.assert_close(vectors[0, [3, 7, 11]], torch.tensor(centre))
    torch.testing.assert_close(vectors[:, 12], torch.full((6,), 0.5 / math.tan(math.radians(15))))
    torch.testing.assert_close(vectors[:, 8], torch.zeros(6))  # no roll: right is horizontal


def test_lgm_golden():
    poses, fovy = conv.to_lgm(orbit(views=4, radius=1.5, fov=49.1))
    torch.testing.assert_close(fovy, torch.full((4,), 49.1), atol=1e-4, rtol=0)
    canonical = torch.eye(4)
    canonical[2, 3] = 1.5
    torch.testing.assert_close(poses[0], canonical)  # its first camera: on +Z, unrotated
    torch.testing.assert_close(poses[1, :3, 3], torch.tensor([1.5, 0.0, 0.0]))  # azimuth 90: on +X
    above = on_sphere(torch.tensor(0.0), torch.tensor(0.5), 1.5, pinhole(49.1))
    assert conv.to_lgm(above)[0][1, 3] == pytest.approx(1.5 * math.sin(0.5))  # +Y is up
    with pytest.raises(ValueError, match="LGM"):
        conv.to_lgm(random_cameras())


@pytest.mark.parametrize(("version", "fov", "elevations"), [("1.1", 49.134, (30, -20)), ("1.2", 30.0, (20, -10))])
def test_zero123plus_golden(version, fov, elevations):
    views = conv.zero123plus_views(version, radius=3.0)
    angles = conv.to_zero123plus(views)
    torch.testing.assert_close(angles[:, 0], torch.arange(30.0, 360.0, 60.0), atol=1e-3, rtol=0)
    torch.testing.assert_close(angles[:, 1], torch.tensor(elevations * 3, dtype=torch.float32), atol=1e-3, rtol=0)
    torch.testing.assert_close(angles[:, 2], torch.full((6,), 3.0))
    torch.testing.assert_close(views.intrinsics[0], pinhole(fov), atol=1e-4, rtol=0)


def test_zero123plus_distance_of_the_authors():
    assert conv.zero123plus_views("1.2").centers.norm(dim=-1)[0] == pytest.approx(1 / math.tan(math.radians(15)))


def test_zero123plus_round_trip():
    generator = torch.Generator().manual_seed(6)
    draw = torch.rand(30, 3, generator=generator, dtype=torch.float64)
    angles = torch.stack([draw[:, 0] * 360, draw[:, 1] * 160 - 80, 1 + draw[:, 2]], -1)
    source = torch.linspace(-3, 3, 30, dtype=torch.float64)
    cameras = conv.from_zero123plus(angles, pinhole(30.0, torch.float64), source)
    torch.testing.assert_close(conv.to_zero123plus(cameras, source), angles, atol=1e-9, rtol=0)
    torch.testing.assert_close(cameras[0].azimuths, (draw[0, 0] * 2 * math.pi - 3 + math.pi) % (2 * math.pi) - math.pi)


def test_zero123plus_errors():
    with pytest.raises(ValueError, match="`version`"):
        conv.zero123plus_views("2")  # type: ignore[arg-type]
    upright = orbit(4)
    for bad in (rigid_noise(upright, 0.1, 0.0, generator=torch.Generator().manual_seed(0)), random_cameras()):
        with pytest.raises(ValueError, match="upright"):
            conv.to_zero123plus(bad)
    upside_down = Cameras(upright.poses * torch.tensor([-1.0, -1.0, 1.0, 1.0]), upright.intrinsics)
    with pytest.raises(ValueError, match="upright"):
        conv.to_zero123plus(upside_down)


def test_rescaled_takes_the_same_pictures():
    cameras = random_cameras(7)
    points = torch.randn(20, 5, 3, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    uv, depth = cameras.project(points)
    larger, deeper = conv.rescaled(cameras, 2.5).project(points * 2.5)
    torch.testing.assert_close(larger, uv)
    torch.testing.assert_close(deeper, depth * 2.5)
    each = torch.linspace(1, 2, 20, dtype=torch.float64)
    torch.testing.assert_close(conv.rescaled(cameras, each).centers, cameras.centers * each[:, None])


def test_types_are_kept():
    half = orbit(3)
    assert conv.from_opencv(*conv.to_opencv(half.to(torch.float64), 8, 8), 8, 8).dtype == torch.float64
    for value in (conv.to_render_vectors(half), conv.to_lgm(half)[0], conv.to_openlrm(half, 8, 8)[1]):
        assert value.dtype == torch.float32
