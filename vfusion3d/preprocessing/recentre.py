"""Recentring: the object fills a fixed share of a square, and the virtual camera is told.

Test pictures are cropped by whoever took them; a model wants the object at a known scale. Cutting a window
out of a picture changes its intrinsics and nothing else, so each window has its camera.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from vfusion3d.cameras import Cameras, Rig, fit_radius, focal_from_fov, on_sphere
from vfusion3d.errors import InputImageError, UsageError

# What is assumed of a picture whose camera is unknown. Test pictures fill about 80 % of their frame.
BORDER = 0.1
ELEVATION = 0.0  # degrees
FOV = 40.0  # degrees, of the camera whose frame the unit sphere just fills (`fit_radius`)
EXTENT = 1.75  # world units along the long side of the box; 1.78 is the mean over renders of 146 normalised meshes


@dataclass(frozen=True)
class Window:
    """A square window of a picture, in its pixels; it may reach beyond the picture.

    Args:
        left: Left edge.
        top: Top edge.
        side: Width and height.
    """

    left: float
    top: float
    side: float


def object_window(alpha: np.ndarray, border: float = BORDER, name: str = "The picture") -> Window:
    """The square window in which the object's bounding box is centred with a border.

    Args:
        alpha: Opacity in [0, 1], ``[H, W]``.
        border: Free share of the square on each side of the box's long side, in [0, 0.45].
        name: What messages call the picture.

    Raises:
        UsageError: if ``border`` is out of range.
        InputImageError: if nothing is opaque.
    """
    if not 0 <= border <= 0.45:
        raise UsageError(f"Argument `border` must be between 0 and 0.45, but got {border}.")
    labels, count = ndimage.label(alpha > 0.1, structure=np.ones((3, 3)))
    if count == 0:
        raise InputImageError(f"{name} has no foreground; give a picture in which the object is visible.")
    sizes = np.bincount(labels.ravel())[1:]
    # Dust left by a cutting tool must not widen the box.
    kept = np.isin(labels, 1 + np.flatnonzero(sizes >= 0.002 * sizes.sum()))
    rows, columns = np.flatnonzero(kept.any(1)), np.flatnonzero(kept.any(0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    side = max(bottom - top, right - left) / (1 - 2 * border)
    return Window(float(left + right - side) / 2, float(top + bottom - side) / 2, float(side))


def crop_window(rgba: Image.Image, window: Window, size: int) -> Tensor:
    """Resample a window of a picture: every new pixel is the mean over its area, premultiplied.

    Args:
        rgba: Straight-alpha RGBA picture.
        window: Which part; beyond the picture everything is transparent.
        size: Pixels a side of the result.

    Returns:
        Premultiplied RGBA in [0, 1], float32, ``[4, size, size]``.
    """
    pixels = torch.from_numpy(np.array(rgba, dtype=np.float32) / 255)
    pixels[..., :3] *= pixels[..., 3:]
    columns = _footprints(window.left, window.side, size, rgba.width)
    rows = _footprints(window.top, window.side, size, rgba.height)
    return torch.stack([rows @ plane @ columns.T for plane in pixels.permute(2, 0, 1)]).clamp(0, 1)


def _footprints(start: float, side: float, new: int, old: int) -> Tensor:
    """Share of each old pixel in each new one, ``[new, old]``; rows sum to 1 inside the picture.

    A footprint is at least one old pixel wide, which makes enlarging a linear interpolation.
    """
    step = side / new
    width = max(step, 1.0)
    centres = start + (torch.arange(new, dtype=torch.float64)[:, None] + 0.5) * step
    pixels = torch.arange(old, dtype=torch.float64)
    low = torch.maximum(centres - width / 2, pixels)
    high = torch.minimum(centres + width / 2, pixels + 1)
    return ((high - low).clamp_min(0) / width).float()


def recentre(rgba: Image.Image, size: int, border: float = BORDER, name: str = "The picture") -> tuple[Tensor, Window]:
    """Cut a square around the object.

    Args:
        rgba: Straight-alpha RGBA picture.
        size: Pixels a side of the result.
        border: Free share of the square on each side of the object's long side.
        name: What messages call the picture.

    Returns:
        Premultiplied RGBA in [0, 1], ``[4, size, size]``, and the window it shows (in pixels of ``rgba``).

    Raises:
        UsageError: if ``border`` is out of range.
        InputImageError: if nothing is opaque.
    """
    alpha = np.asarray(rgba.getchannel("A"), dtype=np.float32) / 255
    window = object_window(alpha, border, name)
    return crop_window(rgba, window, size), window


def rig_border(rig: Rig, extent: float = EXTENT) -> float:
    """The border that gives an object the share of the frame that it has in a rig's renders.

    Args:
        rig: Distance and field of view.
        extent: World units along the long side of the object's box.

    Returns:
        Free share of the square on each side of the box, in [0, 0.45] as `object_window` takes it.

    Example:
        >>> round(rig_border(Rig(fit_radius(FOV), FOV)), 3)
        0.108
    """
    share = focal_from_fov(rig.fov) * extent / rig.radius
    return min(max((1 - share) / 2, 0.0), 0.45)


def window_focal(fov: float, size: tuple[int, int], window: Window) -> float:
    """Focal length of a square window of a picture whose field of view is known.

    Args:
        fov: Field of view in degrees along the picture's longer side, in (0, 180).
        size: Width and height of the picture in pixels.
        window: Which part of it.

    Returns:
        Focal length in units of the window's side.

    Raises:
        UsageError: if ``fov`` is out of range.
    """
    if not 0 < fov < 180:
        raise UsageError(f"Argument `fov` must be between 0 and 180 degrees, but got {fov}.")
    return focal_from_fov(fov) * max(size) / window.side


def source_camera(
    elevation: float = ELEVATION,
    border: float = BORDER,
    fov: float = FOV,
    extent: float = EXTENT,
    focal: float | None = None,
) -> Cameras:
    """The nominal camera of a recentred picture.

    It stands at azimuth 0, looks at the origin, and sees an object of ``extent`` world units fill the square but
    for the border. That leaves the distance open. If the focal length is known, the distance follows from it
    (turning the camera to an object away from the middle of its picture is neglected); else the camera stands at
    `fit_radius` of ``fov``.

    Args:
        elevation: Degrees above the horizon from which the picture was taken, in [-90, 90].
        border: The border the picture was recentred with.
        fov: Field of view in degrees of the un-recentred rig, which fixes the distance if ``focal`` is None.
        extent: World units along the long side of the object's box in the picture.
        focal: Focal length in units of the square's side, as from `window_focal`, if it is known.

    Returns:
        A camera of shape ``[]``.

    Raises:
        UsageError: if ``elevation`` is out of range, or ``focal`` so short that the camera would be in the object.

    Example:
        >>> camera = source_camera(elevation=0.0, border=0.1)
        >>> round(float(camera.intrinsics[0]), 3), [round(x, 3) for x in camera.centers.tolist()]
        (1.403, [3.07, 0.0, 0.0])
    """
    if not -90 <= elevation <= 90:
        raise UsageError(f"Argument `elevation` must be between -90 and 90 degrees, but got {elevation}.")
    share = (1 - 2 * border) / extent
    radius = fit_radius(fov) if focal is None else focal / share
    if radius <= 1:
        raise UsageError(
            f"With this field of view (argument `fov`) the camera would stand {radius:.2f} from the centre of an "
            "object of radius 1; give a smaller one."
        )
    focal = share * radius if focal is None else focal
    return on_sphere(
        torch.tensor(0.0),
        torch.tensor(math.radians(elevation)),
        radius,
        torch.tensor([focal, focal, 0.5, 0.5]),
    )
