from __future__ import annotations

import numpy as np
import torch

from vfusion3d.cameras import Cameras, orbit
from vfusion3d.data.rig_plot import draw_rig, frustum


def test_a_frustum_ends_at_the_corners_of_the_picture() -> None:
    camera = orbit(1, 0.3, radius=3.0, fov=30.0)[0].to(torch.float64).crop(0.1, 0.0, 0.8, 1.0)
    points = torch.from_numpy(frustum(camera, 0.5))
    uv, depth = camera.project(points[1:])
    torch.testing.assert_close(uv, torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1]], dtype=torch.float64))
    torch.testing.assert_close(depth, torch.full((4,), 0.5, dtype=torch.float64))
    torch.testing.assert_close(points[0], camera.centers)


def test_the_drawing_shows_cameras_where_they_are() -> None:
    """From above, the first camera (orange) is on +X, to the right; a quarter of a turn on, it is at the top."""

    def orange(start: float) -> tuple[float, float]:
        pixels = np.asarray(draw_rig(orbit(4, 0.3, radius=3.0, start=start), 300)).astype(int)
        assert pixels.shape == (300, 900, 3)
        panel = pixels[:, 300:600]
        rows, columns = np.nonzero((panel[..., 0] > 190) & (panel[..., 1] < 150) & (panel[..., 2] < 60))
        return float(rows.mean()), float(columns.mean())

    row, column = orange(0.0)
    assert column > 200 and 120 < row < 180
    row, column = orange(float(np.pi / 2))
    assert row < 100 and 120 < column < 180


def test_poses_that_are_no_numbers_are_left_out() -> None:
    cameras = orbit(3, radius=2.0)
    poses = cameras.poses.clone()
    poses[1] = float("nan")
    assert draw_rig(Cameras(poses, cameras.intrinsics), 60).size == (180, 60)
    assert draw_rig(Cameras(poses[1:2], cameras.intrinsics[1:2]), 60).size == (180, 60)
