"""Rendering: where rays are sampled, how samples add up, isosurfaces and turntables."""

from vfusion3d.rendering.occupancy import OccupancyGrid
from vfusion3d.rendering.volume import Field, RayColours, render_rays

__all__ = ["Field", "OccupancyGrid", "RayColours", "render_rays"]
