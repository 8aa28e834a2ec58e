"""A ball with a blotched surface: what features can be found on, and whose every view is known exactly."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vfusion3d.cameras import Cameras


def ball_views(cameras: Cameras, side: int, radius: float = 0.9, seed: int = 0) -> Tensor:
    """Pictures ``[V, 3, side, side]`` of it on white."""
    origins, directions = cameras.rays(side, side)
    along = (origins * directions).sum(-1)
    inside = along.square() - origins.square().sum(-1) + radius**2
    points = origins + directions * (-along - inside.clamp_min(0).sqrt())[..., None]
    volume = torch.rand(1, 3, 36, 36, 36, generator=torch.Generator().manual_seed(seed)) * 0.8
    colours = F.grid_sample(volume, points[None], align_corners=False)[0].movedim(0, 1)
    return torch.where((inside > 0)[:, None], colours, torch.ones(()))
