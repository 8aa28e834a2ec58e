import copy
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from vfusion3d.cameras import Cameras, focal_from_fov, fov_from_focal, look_at, orbit, pinhole, rigid_noise

PARITY = Path(__file__).parents[3] / "shared" / "parity"


def cameras(seed: int = 0, views: int = 6) -> Cameras:
    """Rolled, off-centre cameras looking about at the origin, float64."""
    generator = torch.Generator().manual_seed(seed)
    upright = orbit(views, elevation=0.4, radius=3.0).to(torch.float64)
    return rigid_noise(upright, 0.3, 0.3, 0.1, generator=generator)


# -- shape ---------------------------------------------------------------------------------------------------
def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"`poses` must have shape \[\.\.\., 3, 4\].*\[4, 4\]"):
        Cameras(torch.eye(4), torch.zeros(4))
    with pytest.raises(ValueError, match="`intrinsics`"):
        Cameras(torch.eye(4)[:3], torch.zeros(3))
    with pytest.raises(RuntimeError):
        Cameras(torch.zeros(3, 3, 4), torch.zeros(2, 4))


def test_intrinsics_and_poses_broadcast():
    poses = cameras().poses
    assert Cameras(poses, pinhole()).intrinsics.shape == (6, 4)
    assert Cameras(poses[0], pinhole().expand(5, 4)).poses.shape == (5, 3, 4)


def test_indexing():
    grid = cameras().reshape(2, 3)
    assert grid.shape == (2, 3) and len(grid) == 2
    every = slice(None)
    for index in (1, slice(0, 1), (every, 2), (1, 2), torch.tensor([1, 0]), None, (..., 0), (..., None)):
        found = grid[index]
        expected = torch.arange(6).reshape(2, 3)[index]
        assert found.shape == expected.shape
        torch.testing.assert_close(found.poses, cameras().poses[expected])
        torch.testing.assert_close(found.intrinsics, cameras().intrinsics[expected])
    mask = torch.tensor([[True, False, True], [False, False, True]])
    torch.testing.assert_close(grid[mask].poses, cameras().poses[[0, 2, 5]])
    torch.testing.assert_close(grid[..., torch.tensor([0, 2])].poses, grid.poses[:, [0, 2]])
    with pytest.raises(TypeError, match="single camera"):
        len(cameras()[0])


def test_shape_changes():
    six = cameras()
    assert six.unsqueeze(0).shape == (1, 6) and six.unsqueeze(1).shape == (6, 1)
    assert six.unsqueeze(0).expand(4, 6).shape == (4, 6)
    assert Cameras.cat([six, six[:2]]).shape == (8,)
    assert Cameras.stack([six, six], dim=1).shape == (6, 2)
    torch.testing.assert_close(Cameras.stack([six, six], dim=1)[2, 1].poses, six[2].poses)
    assert [one.shape for one in six] == [torch.Size([])] * 6
    assert six.to(torch.float32).intrinsics.dtype == torch.float32


def test_can_be_hashed_compared_copied_and_pickled():
    six = cameras()
    assert six == six and six != cameras() and six in {six}
    for other in (copy.deepcopy(six), pickle.loads(pickle.dumps(six))):
        torch.testing.assert_close(other.poses, six.poses)


# -- geometry ------------------------------------------------------------------------------------------------
def test_rays_of_the_front_camera():
    """From +X looking at -X: the image's left is -Y, its top +Z."""
    front = orbit(1, radius=2.0, fov=90.0)[0]
    origins, directions = front.rays(2, 2)
    torch.testing.assert_close(origins, torch.tensor([2.0, 0.0, 0.0]).expand(2, 2, 3))
    expected = torch.tensor([[[-1, -0.5, 0.5], [-1, 0.5, 0.5]], [[-1, -0.5, -0.5], [-1, 0.5, -0.5]]])
    torch.testing.assert_close(directions, expected / math.sqrt(1.5))


def test_rays_hit_what_project_says():
    six = cameras()
    height, width = 7, 5
    origins, directions = six.rays(height, width)
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones(6, height, width, dtype=torch.float64))
    uv, depth = six.project((origins + 2.5 * directions).reshape(6, -1, 3))
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    expected = torch.stack([(column + 0.5) / width, (row + 0.5) / height], -1).to(uv).reshape(-1, 2)
    torch.testing.assert_close(uv, expected.expand(6, -1, 2))
    assert (depth > 0).all()
    _, depth = six.project((origins - directions).reshape(6, -1, 3))
    assert (depth < 0).all()


def test_a_view_is_the_same_alone_and_in_a_batch():
    six = cameras()
    grid = six.reshape(2, 3).rays(4, 6)[1]
    torch.testing.assert_close(grid[1, 0], six[3].rays(4, 6)[1], atol=0, rtol=0)
    one = six[0].rays(1, 1)[1]
    assert one.shape == (1, 1, 3)


def test_project_has_finite_gradients_on_the_camera_plane():
    front = look_at(torch.tensor([2.0, 0.0, 0.0]), pinhole())
    points = torch.tensor([[2.0, 1.0, 0.0]], requires_grad=True)
    uv, _ = front.project(points)
    uv.sum().backward()
    assert torch.isfinite(uv).all() and torch.isfinite(points.grad).all()


def test_matrices_and_inverse():
    six = cameras()
    product = six.matrices @ six.world_to_camera
    torch.testing.assert_close(product, torch.eye(4, dtype=torch.float64).expand(6, 4, 4), atol=1e-6, rtol=0)


def test_angles():
    camera = look_at(torch.tensor([0.0, -2.0, 2.0]), pinhole())
    assert camera.azimuths == pytest.approx(-math.pi / 2)
    assert camera.elevations == pytest.approx(math.pi / 4)


def test_vectors_round_trip_and_order():
    six = cameras()
    assert six.vectors.shape == (6, 16)
    torch.testing.assert_close(six.vectors[:, [3, 7, 11]], six.centers)
    torch.testing.assert_close(six.vectors[:, 12:], six.intrinsics)
    again = Cameras.from_vectors(six.vectors)
    torch.testing.assert_close(again.poses, six.poses)
    with pytest.raises(ValueError, match="16"):
        Cameras.from_vectors(torch.zeros(25))


@pytest.mark.skipif(not PARITY.exists(), reason="the parity fixtures are not here")
@pytest.mark.parametrize("name", ["vfusion3d_a", "vfusion3d_b", "openlrm_a", "openlrm_b"])
def test_rays_of_the_published_code(name):
    path = PARITY / name / "data.npz"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    data = np.load(path)
    vectors = torch.from_numpy(data["render_camera"])
    views = Cameras(vectors[..., :12].unflatten(-1, (3, 4)), vectors[..., [16, 20, 18, 21]])
    size = math.isqrt(data["ray_origins"].shape[2])
    origins, directions = views[:1].rays(size, size)
    np.testing.assert_allclose(origins.flatten(2, 3).numpy(), data["ray_origins"], atol=1e-6)
    np.testing.assert_allclose(directions.flatten(2, 3).numpy(), data["ray_directions"], atol=1e-6)
    source = Cameras.from_vectors(torch.from_numpy(data["source_camera"]))
    np.testing.assert_allclose(source.poses.numpy(), data["source_pose"], atol=1e-7)


# -- changes -------------------------------------------------------------------------------------------------
def test_transform_moves_cameras_with_the_world():
    six = cameras()
    points = torch.randn(6, 10, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    motion = cameras(seed=2)[:1].matrices[0]
    moved = points @ motion[:3, :3].T + motion[:3, 3]
    for matrix in (motion, motion[:3], motion.expand(6, 4, 4)):
        torch.testing.assert_close(six.transform(matrix).project(moved)[0], six.project(points)[0])


def test_crop_is_a_window():
    six = cameras()
    whole = six.rays(12, 8)[1]
    window = six.crop(left=2 / 8, top=3 / 12, width=4 / 8, height=6 / 12).rays(6, 4)[1]
    torch.testing.assert_close(window, whole[:, 3:9, 2:6])
    lefts = torch.tensor([0, 1, 2, 3, 4, -2], dtype=torch.float64) / 8
    each = six.crop(lefts, 0.0, 4 / 8, 6 / 12).rays(6, 4)[1]
    torch.testing.assert_close(each[3], whole[3, :6, 3:7])


def test_mirrored_flips_pictures():
    six = cameras()
    points = torch.randn(6, 10, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    uv, depth = six.project(points)
    mirrored = six.mirrored()
    mirrored.validate()
    flipped, same = mirrored.project(points * torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(flipped[..., 0], 1 - uv[..., 0])
    torch.testing.assert_close(flipped[..., 1], uv[..., 1])
    torch.testing.assert_close(same, depth)


def test_validate():
    six = cameras()
    six.validate()

    def scaled(*numbers):
        return Cameras(six.poses * torch.tensor([*numbers, 1.0]), six.intrinsics)

    with pytest.raises(ValueError, match="orthonormal"):
        scaled(1.1, 1.0, 1.0).validate()
    with pytest.raises(ValueError, match="reflection"):
        scaled(1.0, -1.0, 1.0).validate()
    with pytest.raises(ValueError, match="NaN"):
        scaled(1.0, float("nan"), 1.0).validate()
    with pytest.raises(ValueError, match="Focal"):
        Cameras(six.poses, -six.intrinsics).validate()


def test_field_of_view():
    assert fov_from_focal(0.75) == pytest.approx(67.38, abs=0.01)
    assert fov_from_focal(focal_from_fov(49.1)) == pytest.approx(49.1)
    for bad in (0, 180, -5, float("nan")):
        with pytest.raises(ValueError, match="`fov`"):
            focal_from_fov(bad)
