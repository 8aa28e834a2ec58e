"""From a picture file to what a model reads: reading, background removal, recentring."""

from vfusion3d.preprocessing.background import STRATEGIES, Cutout, check_strategy, remove_background
from vfusion3d.preprocessing.images import read_picture, to_rgba
from vfusion3d.preprocessing.recentre import (
    BORDER,
    ELEVATION,
    EXTENT,
    FOV,
    Window,
    crop_window,
    object_window,
    recentre,
    source_camera,
    window_focal,
)

__all__ = [
    "BORDER",
    "ELEVATION",
    "EXTENT",
    "FOV",
    "STRATEGIES",
    "Cutout",
    "Window",
    "check_strategy",
    "crop_window",
    "object_window",
    "read_picture",
    "recentre",
    "remove_background",
    "source_camera",
    "to_rgba",
    "window_focal",
]
