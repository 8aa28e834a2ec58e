"""Whether silhouettes can be those of one rigid object: what tells an object that turns from one that changes shape."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vfusion3d.cameras import Cameras

WHITE_TOLERANCE = 0.03
"""A channel farther than this from 1 is the object's."""
_SIDE = 96  # masks are looked at with at most this many pixels a side, and the hull in as many points a side
_SPAN = 1.1  # half its side: objects are in the unit sphere, but for a little


def masks_on_white(frames: Tensor, tolerance: float = WHITE_TOLERANCE) -> Tensor:
    """What is not white in pictures of objects on white, with its holes filled, since objects have white spots too.

    Args:
        frames: ``[..., 3, H, W]`` in [0, 1].
        tolerance: How far from white a channel may be in the background.

    Returns:
        bool ``[..., H, W]``.
    """
    from scipy.ndimage import binary_fill_holes

    marked = (1 - frames).amax(-3) > tolerance
    flat = marked.flatten(0, -3).cpu().numpy() if marked.ndim > 2 else marked[None].cpu().numpy()
    filled = np.stack([binary_fill_holes(mask) for mask in flat])
    return torch.from_numpy(filled).to(frames.device).view(marked.shape)


@torch.no_grad()
def silhouette_coherence(masks: Tensor, cameras: Cameras) -> Tensor:
    """Share of each silhouette that the visual hull of all of them explains.

    The visual hull, the points that no camera sees outside its mask, holds every rigid object that has these
    silhouettes, so its own silhouettes are the masks themselves and the share is 1. Where one frame's mask has a part
    that others contradict, no point of the hull projects there (Hernandez, Schmitt and Cipolla, "Silhouette coherence
    for camera calibration under circular motion", PAMI 2007; ours counts pixels, not contour points).

    Args:
        masks: Opacities in [0, 1] or bool, ``[F, H, W]``, of an object in the unit sphere.
        cameras: What they are seen from, ``[F]``.

    Returns:
        ``[F]`` in [0, 1], within about a pixel's width of the outline at 96 pixels a side; NaN where a mask is empty.

    Example:
        >>> from vfusion3d.cameras import orbit
        >>> cameras = orbit(views=8)
        >>> ball = cameras.rays(32, 32)  # the rays that pass the origin at less than 0.5
        >>> near = torch.linalg.cross(*ball).norm(dim=-1) < 0.5
        >>> silhouette_coherence(near, cameras).tolist()
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    soft = masks.float()[:, None]
    if max(soft.shape[-2:]) > _SIDE:
        scale = _SIDE / max(soft.shape[-2:])
        soft = F.interpolate(soft, [max(1, round(side * scale)) for side in soft.shape[-2:]], mode="area")
    solid = (soft[:, 0] > 0.5).to(cameras.device)
    count, height, width = solid.shape
    # Points are about a pixel apart: masks grown by one contradict only what is certain.
    grown = F.max_pool2d(solid[:, None].float(), 3, 1, 1)[:, 0] > 0

    side = max(height, width)
    axis = (torch.arange(side, device=cameras.device) + 0.5) / side * 2 * _SPAN - _SPAN
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).view(-1, 3)
    explained = torch.zeros_like(grown)
    for camera, mask in zip(range(count), grown, strict=True):  # those that no camera sees outside
        index, seen = _pixels(cameras[camera], points, height, width)
        points = points[mask.flatten()[index] | ~seen]
    for camera in range(count):
        index, seen = _pixels(cameras[camera], points, height, width)
        explained[camera].view(-1)[index[seen]] = True
    # What is between the points is explained too.
    explained = F.max_pool2d(explained[:, None].float(), 3, 1, 1)[:, 0] > 0
    size = solid.sum((1, 2))
    share = (explained & solid).sum((1, 2)) / size.clamp_min(1)
    return torch.where(size > 0, share, torch.nan).to(masks.device)


def _pixels(camera: Cameras, points: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Index of the pixel that each of the points ``[N, 3]`` projects to, and whether it is in the picture."""
    uv, depth = camera.project(points)
    column, row = (uv[:, 0] * width).floor().long(), (uv[:, 1] * height).floor().long()
    seen = (depth > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return row.clamp(0, height - 1) * width + column.clamp(0, width - 1), seen
