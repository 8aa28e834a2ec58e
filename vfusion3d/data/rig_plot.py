"""A drawing of a camera rig: in space, from above and from the side."""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from vfusion3d.cameras import Cameras

INK, SOFT, FRONT = "#333333", "#9a9a9a", "#d9730d"
AXES = {"X": "#c1272d", "Y": "#2e8b57", "Z": "#1f5fa8"}
_SHARP = 2  # drawn this much larger and then reduced, for smooth lines
_MARGIN = 0.12  # of a panel's side, around what is drawn

# Each panel's directions on paper, right and up, in world axes.
_AZIMUTH, _ELEVATION = math.radians(34), math.radians(42)
_SPACE = (
    (-math.sin(_AZIMUTH), math.cos(_AZIMUTH), 0.0),
    (
        -math.sin(_ELEVATION) * math.cos(_AZIMUTH),
        -math.sin(_ELEVATION) * math.sin(_AZIMUTH),
        math.cos(_ELEVATION),
    ),
)
_PANELS = {
    "in space": _SPACE,
    "from above": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
    "from the side (along +Y)": ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0)),
}


def draw_rig(cameras: Cameras, size: int = 420) -> Image.Image:
    """Draw cameras as numbered frusta around the unit sphere and the world's axes.

    The first camera is orange, a frustum's thick edge is the picture's top, and a thin line runs along each viewing
    axis for the camera's distance from the origin, so that cameras which look elsewhere stand out.

    Args:
        cameras: Cameras of shape ``[V]``; those that are not finite are left out.
        size: Height of the drawing in pixels; it is three times as wide.
    """
    finite = torch.isfinite(cameras.vectors).all(-1)
    shown = [(index, cameras[index].to(torch.float64)) for index in finite.nonzero().flatten().tolist()]
    distances = [float(camera.centers.norm()) for _, camera in shown]
    length = 0.2 * float(np.median(distances)) if distances else 1.0
    frusta = [(index, frustum(camera, length), _axis(camera)) for index, camera in shown]
    points = np.concatenate([np.eye(3) * 1.4, -np.eye(3), *(corners for _, corners, _ in frusta)])
    flat = [points @ np.array(directions).T for directions in _PANELS.values()]
    reach = max(float(np.ptp(place, axis=0).max()) for place in flat) / 2
    side = size * _SHARP
    drawing = Image.new("RGB", (side * len(_PANELS), side), "white")
    pen = ImageDraw.Draw(drawing)
    for number, (title, directions) in enumerate(_PANELS.items()):
        middle = (flat[number].min(0) + flat[number].max(0)) / 2
        _Panel(pen, number * side, side, np.array(directions), middle, reach).draw(title, frusta)
    return drawing.resize((size * len(_PANELS), size), Image.Resampling.BOX)


def frustum(camera: Cameras, length: float) -> np.ndarray:
    """Centre and the picture's corners at a distance along the axis, ``[5, 3]``; corners clockwise from top left."""
    corners = camera.crop(-0.5, -0.5, 2.0, 2.0).rays(2, 2)[1].reshape(4, 3)[[0, 1, 3, 2]]
    along = -(corners @ camera.poses[:, 2])
    points = camera.centers + corners / along[:, None] * length
    return torch.cat([camera.centers[None], points]).numpy()


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, which every machine has."""
    return ImageFont.load_default(size)


def _axis(camera: Cameras) -> np.ndarray:
    """Where the viewing axis is after the camera's distance from the origin, ``[3]``."""
    return (camera.centers - camera.poses[:, 2] * camera.centers.norm()).numpy()


class _Panel:
    """A square of the drawing, seen along one direction without perspective."""

    def __init__(
        self,
        pen: ImageDraw.ImageDraw,
        left: int,
        side: int,
        directions: np.ndarray,
        middle: np.ndarray,
        reach: float,
    ) -> None:
        self._pen, self._directions = pen, directions
        self._scale = side * (0.5 - _MARGIN) / reach
        self._origin = np.array([left + side / 2, side / 2]) - middle * self._scale * [1, -1]
        self._left, self._unit = left, side / 420

    def draw(self, title: str, frusta: list[tuple[int, np.ndarray, np.ndarray]]) -> None:
        text = font(round(13 * self._unit))
        self._pen.text((self._left + 8 * self._unit, 6 * self._unit), title, fill=INK, font=text)
        circle = np.linspace(0, 2 * math.pi, 73)
        ring = np.stack([np.cos(circle), np.sin(circle), np.zeros_like(circle)], -1)
        for order in ([0, 1, 2], [0, 2, 1], [2, 0, 1]):  # the unit sphere: one circle in each coordinate plane
            self._line(ring[:, order], SOFT, 0.7)
        for name, end in zip(AXES, np.eye(3) * 1.4, strict=True):
            self._line(np.stack([np.zeros(3), end]), AXES[name], 2.0)
            self._text(end * 1.12, f"+{name}", AXES[name], 12)
        step = -(-len(frusta) // 40)  # too many numbers could not be read
        for index, points, axis in reversed(frusta):
            colour = FRONT if index == 0 else INK
            self._line(np.stack([points[0], axis]), "#e4c3a4" if index == 0 else "#d4d4d4", 0.6)
            for corner in range(1, 5):
                self._line(points[[0, corner]], colour, 0.8)
            self._line(points[[1, 2, 3, 4, 1]], colour, 0.8)
            self._line(points[[1, 2]], colour, 2.6)
            if index % step == 0:
                self._text(points[0], str(index), colour, 11, away=True)

    def _place(self, points: np.ndarray) -> np.ndarray:
        return self._origin + (points @ self._directions.T) * self._scale * np.array([1, -1])

    def _line(self, points: np.ndarray, colour: str, width: float) -> None:
        self._pen.line([*self._place(points).flatten().tolist()], colour, max(1, round(width * self._unit)), "curve")

    def _text(self, point: np.ndarray, text: str, colour: str, size: float, away: bool = False) -> None:
        place = self._place(point)
        if away:
            offset = place - self._origin
            place = place + offset / max(float(np.linalg.norm(offset)), 1e-6) * 11 * self._unit
        x, y = place.tolist()
        self._pen.text((x, y), text, fill=colour, font=font(round(size * self._unit)), anchor="mm")
