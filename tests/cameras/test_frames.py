import math
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from vfusion3d.cameras import (
    Cameras,
    SourceFrame,
    frame_transform,
    on_sphere,
    orbit,
    pinhole,
    random_sphere,
    released_source_camera,
    rigid_noise,
    source_vectors,
)
from vfusion3d.cameras.conventions import from_openlrm, to_openlrm
from vfusion3d.cameras.frames import openlrm_canonical_pose

EXTRAS = Path(__file__).parents[3] / "shared" / "parity" / "extras" / "data.npz"


def sources(count: int = 6) -> Cameras:
    generator = torch.Generator().manual_seed(0)
    upright = random_sphere(count, generator=generator)
    return rigid_noise(upright, 0.2, 0.1, 0.02, generator=generator).to(torch.float64)


def test_released_source_vector_golden():
    """REFERENCE section 3, and what `fixed` tells the model about any source."""
    expected = torch.tensor([0, 0, 1, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0.75, 0.75, 0.5, 0.5])
    torch.testing.assert_close(released_source_camera().vectors, expected)
    vectors = source_vectors(sources().to(torch.float32).reshape(2, 3), "fixed")
    torch.testing.assert_close(vectors, expected.expand(2, 3, 16))


@pytest.mark.parametrize("frame", get_args(SourceFrame))
def test_frames_are_rigid_and_undone_by_their_inverse(frame):
    source = sources()
    matrix = frame_transform(source, frame)
    moved = source.transform(matrix)
    moved.validate(1e-6)
    back = moved.transform(torch.linalg.inv(matrix))
    torch.testing.assert_close(back.poses, source.poses)
    torch.testing.assert_close(moved.centers.norm(dim=-1), source.centers.norm(dim=-1))
    one = frame_transform(source[2], frame)
    torch.testing.assert_close(one, matrix[2])


def test_fixed_puts_the_source_where_the_released_camera_is():
    source = sources()
    moved = source.transform(frame_transform(source, "fixed"))
    rotation = released_source_camera().poses[:, :3].double().expand(6, 3, 3)
    torch.testing.assert_close(moved.poses[..., :3], rotation, atol=1e-5, rtol=0)
    torch.testing.assert_close(moved.elevations, torch.zeros(6, dtype=torch.float64), atol=1e-5, rtol=0)


def test_source_relative_is_canonical_times_inverse_source():
    source = sources()
    moved = source.transform(frame_transform(source, "source_relative"))
    canonical = openlrm_canonical_pose(source.centers.norm(dim=-1))
    torch.testing.assert_close(moved.poses, canonical, atol=1e-5, rtol=0)
    torch.testing.assert_close(source_vectors(source, "source_relative"), moved.vectors)
    golden = torch.tensor([[1.0, 0, 0, 0], [0, 0, -1, -2], [0, 1, 0, 0]])
    torch.testing.assert_close(openlrm_canonical_pose(2), golden)
    # The front camera of our world, written in OpenLRM's, is that pose.
    torch.testing.assert_close(to_openlrm(orbit(1, radius=2.0)[0], 8, 8)[0], golden)


def test_upright_azimuth_turns_about_z():
    source = sources()
    matrix = frame_transform(source, "upright_azimuth")
    torch.testing.assert_close(matrix[:, 2], torch.tensor([0.0, 0, 1, 0], dtype=torch.float64).expand(6, 4))
    moved = source.transform(matrix)
    torch.testing.assert_close(moved.azimuths, torch.zeros(6, dtype=torch.float64))
    torch.testing.assert_close(moved.elevations, source.elevations)
    straight = on_sphere(torch.tensor(2.0), torch.tensor(0.5), 3.0, pinhole())
    front = on_sphere(torch.tensor(0.0), torch.tensor(0.5), 3.0, pinhole())
    torch.testing.assert_close(source_vectors(straight, "upright_azimuth"), front.vectors, atol=1e-6, rtol=1e-6)


def test_unknown_frame():
    with pytest.raises(ValueError, match="`frame`"):
        frame_transform(sources(), "upright")  # type: ignore[arg-type]


@pytest.mark.skipif(not EXTRAS.exists(), reason="the parity fixtures are not here")
def test_openlrm_normalisation_and_orbit():
    data = np.load(EXTRAS)
    poses = torch.from_numpy(data["norm_in_poses"])
    scene = Cameras(poses, pinhole())
    matrix = frame_transform(scene[0], "source_relative")
    np.testing.assert_allclose(matrix.numpy(), data["norm_auto_matrix"], atol=1e-5)
    np.testing.assert_allclose(scene.transform(matrix).poses.numpy(), data["norm_auto_poses"], atol=1e-5)
    row = torch.tensor([[0.0, 0.0, 0.0, 1.0]])
    at_two = torch.cat([openlrm_canonical_pose(2.0), row]) @ scene[0].world_to_camera
    np.testing.assert_allclose(scene.transform(at_two).poses.numpy(), data["norm_2.0_poses"], atol=1e-5)

    # Its orbit in our world: from the front, counter-clockwise, the last view again the first.
    orbit_poses = torch.from_numpy(data["olrm_surround_8_r2_h0.8"])
    views = from_openlrm(orbit_poses, torch.from_numpy(data["olrm_intrinsics_f0.75_c0.5"]).expand(8, 3, 2))
    ours = orbit(7, elevation=math.asin(0.4), radius=2.0)
    torch.testing.assert_close(views[:7].poses, ours.poses, atol=1e-5, rtol=0)
    torch.testing.assert_close(views[7].poses, views[0].poses, atol=1e-5, rtol=0)
    torch.testing.assert_close(views.intrinsics, torch.tensor([0.75, 0.75, 0.5, 0.5]).expand(8, 4))
