from __future__ import annotations

import torch

from vfusion3d import orbit
from vfusion3d.training.patches import crop_patches, patch_anchors, recentre_inputs


def coordinate_image(size: int) -> torch.Tensor:
    """A picture whose channels are the pixel centres' u and v, opaque."""
    centres = (torch.arange(size) + 0.5) / size
    u, v = centres.expand(size, size), centres[:, None].expand(size, size)
    return torch.stack([u, v, torch.zeros(size, size), torch.ones(size, size)])[None]


def test_patch_cameras_see_the_patch():
    """Rays of the window go through the pixels that were cut out."""
    images, cameras = coordinate_image(16).expand(2, -1, -1, -1), orbit(2)
    anchors = torch.tensor([[3, 5], [8, 0]])
    patches, windows = crop_patches(images, cameras, anchors, 6)
    for k, (row, column) in enumerate(anchors.tolist()):
        assert torch.equal(patches[k], images[k, :, row : row + 6, column : column + 6])
        _, whole = cameras[k].rays(16, 16)
        _, part = windows[k].rays(6, 6)
        torch.testing.assert_close(part, whole[row : row + 6, column : column + 6], atol=1e-6, rtol=1e-5)


def test_anchors_cover_the_picture_or_the_object():
    unit = torch.rand(4000, 3)
    alpha = torch.zeros(4000, 12, 12)
    alpha[:, 7, 3] = 1
    free = patch_anchors(alpha, 4, unit, foreground=0.0)
    assert free.min() == 0 and free.max() == 8
    assert len(torch.unique(free, dim=0)) == 81
    biased = patch_anchors(alpha, 4, unit, foreground=1.0)
    assert torch.equal(biased, torch.tensor([5, 1]).expand(4000, 2))
    empty = patch_anchors(alpha * 0, 4, unit, foreground=1.0)
    assert torch.equal(empty, free)
    half = (patch_anchors(alpha, 4, unit, foreground=0.5) == torch.tensor([5, 1])).all(-1).float().mean()
    assert 0.45 < half < 0.57


def test_recentring_is_a_change_of_intrinsics():
    """The window's camera sees at every pixel what the window shows there."""
    images = coordinate_image(64)
    inside = (images[:, 0] > 0.5) & (images[:, 0] < 0.8) & (images[:, 1] > 0.2) & (images[:, 1] < 0.6)
    images = images * inside[:, None]
    cameras = orbit(1)
    window, camera = recentre_inputs(images, cameras, 32, torch.tensor([0.1]))
    solid = window[0, 3] > 0.99
    rows, columns = solid.any(1).nonzero()[:, 0], solid.any(0).nonzero()[:, 0]
    assert (
        abs(float(rows.min() + rows.max()) / 2 - 15.5) <= 0.6
        and abs(float(columns.min() + columns.max()) / 2 - 15.5) <= 0.6
    )
    assert abs(int(rows.max() - rows.min()) + 1 - 0.8 * 32) <= 2
    _, directions = camera.rays(32, 32)
    points = cameras.centers[:, None] + directions.reshape(1, -1, 3) * 3
    uv, _ = cameras.project(points)
    seen = uv.reshape(32, 32, 2).permute(2, 0, 1)
    torch.testing.assert_close(window[0, :2][:, solid], seen[:, solid], atol=2e-3, rtol=0)


def test_empty_pictures_keep_their_frame():
    cameras = orbit(1)
    window, camera = recentre_inputs(torch.zeros(1, 4, 16, 16), cameras, 8, torch.tensor([0.2]))
    assert torch.equal(window, torch.zeros(1, 4, 8, 8))
    assert torch.isfinite(camera.intrinsics).all()
