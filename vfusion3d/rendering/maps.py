"""What a view shows besides colour: alpha, depth and normals, as a scene folder holds them."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from vfusion3d.alpha import straight_pixels
from vfusion3d.cameras import Cameras
from vfusion3d.rendering.lattice import Progress
from vfusion3d.rendering.turntable import Renderable

SOLID = 0.5
"""Opacity from which a pixel shows a surface."""
_STEP = 1 / 64  # world units to each side over which the density's slope is taken


class DenseScene(Renderable, Protocol):
    """An object that also tells its density, such as `Triplanes` of one object."""

    def density(self, points: Tensor) -> Tensor:
        """Density ``[1, N]`` at world points ``[1, N, 3]``."""


class Maps(NamedTuple):
    """V views in `vfusion3d.data.scenes.write_scene`'s conventions."""

    rgba: np.ndarray
    """uint8, straight alpha, ``[V, size, size, 4]``."""
    depths: np.ndarray
    """Distance along the viewing axis in world units, 0 where the opacity is under `SOLID`, ``[V, size, size]``."""
    normals: np.ndarray
    """Unit vectors in the world, against the density's slope, 0 where the depth is, ``[V, size, size, 3]``."""


@torch.inference_mode()
def render_maps(scene: DenseScene, cameras: Cameras, size: int, progress: Progress | None = None) -> Maps:
    """Render views one by one, without looking into empty space.

    Depth is the expected distance, which a soft surface smears along its edges.

    Args:
        scene: The object.
        cameras: Cameras of shape ``[V]``, on the object's device.
        size: Pixels a side.
        progress: Told after each view.
    """
    views = []
    for number in range(len(cameras)):
        camera = cameras[number : number + 1].unsqueeze(0)
        seen = scene.render(camera, size, size, skip_empty=True)
        opacity, distance = seen.opacity[0, 0], seen.depth[0, 0, 0]
        rgba = straight_pixels(torch.cat([seen.rgb[0, 0] - (1 - opacity), opacity]))
        origins, directions = (rays[0, 0].to(distance) for rays in camera.rays(size, size))
        solid = opacity[0] >= SOLID
        places = (origins + directions * distance[..., None])[solid]
        normals = torch.zeros_like(directions)
        normals[solid] = _normals(scene, places, directions[solid])
        along = -(directions * cameras.poses[number, :, 2].to(distance)).sum(-1)
        views.append((rgba, (distance * along * solid).cpu().numpy(), normals.cpu().numpy()))
        if progress is not None:
            progress(number + 1, len(cameras))
    return Maps(*map(np.stack, zip(*views, strict=True)))


def _normals(scene: DenseScene, points: Tensor, directions: Tensor) -> Tensor:
    """Unit vectors ``[N, 3]`` towards falling density at points ``[N, 3]``; towards the camera where it is level."""
    shifts = torch.eye(3, device=points.device) * _STEP
    before, after = (
        torch.stack([scene.density((points + sign * shift)[None])[0] for shift in shifts], -1) for sign in (-1, 1)
    )
    slope = before - after
    length = slope.norm(dim=-1, keepdim=True)
    return torch.where(length > 1e-6, slope / length.clamp_min(1e-12), -directions)
