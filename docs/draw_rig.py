"""Draw the camera rig of the conventions page from the library's own `orbit()`: python docs/draw_rig.py"""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from vfusion3d.cameras import Cameras, fit_radius, orbit
from vfusion3d.data.rig_plot import AXES, FRONT, INK, SOFT, frustum

FOV, ELEVATION = 40.0, math.radians(20)


def draw_space(axes: Axes, cameras: Cameras) -> None:
    """The rig in perspective."""
    u, v = np.meshgrid(np.linspace(0, 2 * np.pi, 25), np.linspace(0, np.pi, 13))
    sphere = np.stack([np.cos(u) * np.sin(v), np.sin(u) * np.sin(v), np.cos(v)])
    axes.plot_wireframe(*sphere, color=SOFT, linewidth=0.3)
    for name, direction in zip("XYZ", np.eye(3), strict=True):
        end = direction * 1.7
        axes.quiver(0, 0, 0, *end, color=AXES[name], linewidth=1.6, arrow_length_ratio=0.12)
        axes.text(*(end * 1.12), f"+{name}", color=AXES[name], ha="center", va="center", weight="bold")
    for number in range(len(cameras)):
        points = frustum(cameras[number], 0.45)
        colour = FRONT if number == 0 else INK
        for corner in range(1, 5):
            axes.plot(*points[[0, corner]].T, color=colour, linewidth=0.7)
        axes.plot(*points[[1, 2, 3, 4, 1]].T, color=colour, linewidth=0.7)
        axes.plot(*points[[1, 2]].T, color=colour, linewidth=2.0)  # the image's top edge
        label = cameras.centers[number].numpy() * 1.13
        axes.text(*label, str(number), color=colour, ha="center", va="center", fontsize=8)
    axes.set_box_aspect((1, 1, 0.55), zoom=1.12)
    axes.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), zlim=(-1.1, 1.76))
    axes.view_init(elev=42, azim=34)
    axes.set_axis_off()


def arrow(axes: Axes, start: np.ndarray, end: np.ndarray, colour: str, width: float = 1.6) -> None:
    """An arrow in a flat drawing."""
    style = {"arrowstyle": "-|>", "color": colour, "linewidth": width, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=end, xytext=start, arrowprops=style)


def draw_from_above(axes: Axes, cameras: Cameras) -> None:
    """Azimuths, seen from +Z."""
    axes.add_patch(plt.Circle((0, 0), 1, fill=False, color=SOFT, linewidth=0.8))
    for name, end, place in (("X", (1.6, 0), (1.35, -0.4)), ("Y", (0, 1.6), (0.35, 1.3))):
        arrow(axes, np.zeros(2), np.array(end), AXES[name])
        axes.text(*place, f"+{name}", color=AXES[name], ha="center", va="center", weight="bold")
    axes.text(2.75, -0.4, "front", color=FRONT, ha="center", va="center", fontsize=8)
    for number in range(len(cameras)):
        points = frustum(cameras[number], 0.45)[:, :2]
        colour = FRONT if number == 0 else INK
        axes.fill(*points[[0, 1, 2]].T, fill=False, edgecolor=colour, linewidth=0.9)
        axes.text(*(points[0] * 1.13), str(number), color=colour, ha="center", va="center", fontsize=8)
    angles = np.linspace(0.06, 2 * np.pi / 16 * 2.6, 40)
    path = 2.15 * np.stack([np.cos(angles), np.sin(angles)])
    axes.plot(*path[:, :-1], color=INK, linewidth=0.8)
    arrow(axes, path[:, -2], path[:, -1], INK, 0.8)
    axes.set(xlim=(-3.5, 3.5), ylim=(-3.5, 3.5), aspect="equal")
    axes.set_axis_off()


def draw_from_the_side(axes: Axes, cameras: Cameras) -> None:
    """Elevation, radius and field of view, seen along +Y."""
    front = cameras[0]
    centre = front.centers.numpy()[[0, 2]]
    axes.add_patch(plt.Circle((0, 0), 1, fill=False, color=SOFT, linewidth=0.8))
    axes.text(-0.1, -0.5, "unit sphere:\nthe object", color=SOFT, ha="center", va="center", fontsize=8)
    for name, end in (("X", (1.7, 0)), ("Z", (0, 1.7))):
        arrow(axes, np.zeros(2), np.array(end), AXES[name])
        place = np.array(end) + ((-0.12, -0.28) if name == "X" else (0.12, -0.1))
        axes.text(*place, f"+{name}", color=AXES[name], weight="bold")
    axes.plot(*np.stack([np.zeros(2), centre], 1), color=INK, linewidth=0.8, linestyle="--")
    middle = centre * 0.62
    radius = f"radius {fit_radius(FOV):.2f}"
    angle = math.degrees(ELEVATION)
    axes.text(
        *(middle + np.array([-0.05, 0.13])),
        radius,
        color=INK,
        fontsize=8,
        rotation=angle,
        ha="center",
        rotation_mode="anchor",
    )
    arc = np.linspace(0, ELEVATION, 20)
    axes.plot(1.25 * np.cos(arc), 1.25 * np.sin(arc), color=INK, linewidth=0.8)
    axes.text(1.31, 0.12, "elevation 20°", color=INK, fontsize=8)
    edges = frustum(front, 3.6)[:, [0, 2]]
    for corner in (1, 4):
        axes.plot(*np.stack([edges[0], edges[corner]], 1), color=FRONT, linewidth=0.7)
    right, up, backward = (front.poses[:, k].numpy()[[0, 2]] for k in range(3))
    assert abs(right).max() < 1e-6  # the camera's x axis points away from the reader
    for label, direction in (("y up", up), ("z", backward)):
        arrow(axes, centre, centre + 0.55 * direction, FRONT)
        axes.text(*(centre + 0.72 * direction), label, color=FRONT, fontsize=8, ha="center", va="center")
    axes.text(1.75, -0.95, "camera 0 looks along −z,\nfov 40° between the lines", color=FRONT, fontsize=8, va="center")
    axes.set(xlim=(-1.3, 4.0), ylim=(-1.7, 2.3), aspect="equal")
    axes.set_axis_off()


def main() -> None:
    """Write images/rig.svg beside this file."""
    plt.rcParams.update({"svg.hashsalt": "vfusion3d", "font.family": "DejaVu Sans", "font.size": 9})
    cameras = orbit(views=16, elevation=ELEVATION, fov=FOV)
    figure = plt.figure(figsize=(12.5, 4.4))
    draw_space(figure.add_axes((0.0, 0.0, 0.35, 0.93), projection="3d"), cameras)
    draw_from_above(figure.add_axes((0.36, 0.0, 0.28, 0.93)), cameras)
    draw_from_the_side(figure.add_axes((0.66, 0.0, 0.33, 0.93)), cameras)
    titles = ("orbit(views=16, elevation=20°, fov=40)", "from above: azimuth runs from +X to +Y", "from the side")
    for x, title in zip((0.175, 0.5, 0.825), titles, strict=True):
        figure.text(x, 0.95, title, ha="center", color=INK)
    output = Path(__file__).parent / "images" / "rig.svg"
    output.parent.mkdir(exist_ok=True)
    figure.savefig(output, metadata={"Date": None})
    print(output)


if __name__ == "__main__":
    main()
