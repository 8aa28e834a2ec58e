"""From a picture file to what a model reads: reading, background removal, recentring."""

from vfusion3d.preprocessing.background import STRATEGIES, Cutout, check_strategy, remove_background
from vfusion3d.preprocessing.centred import CentredPicture, centre_picture
from vfusion3d.preprocessing.elevation import ElevationRegressor, train_elevation
from vfusion3d.preprocessing.features import FeatureExtractor, FeatureModel
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
    rig_border,
    source_camera,
    window_focal,
)
from vfusion3d.preprocessing.salience import check_single_object

__all__ = [
    "BORDER",
    "ELEVATION",
    "EXTENT",
    "FOV",
    "STRATEGIES",
    "CentredPicture",
    "Cutout",
    "ElevationRegressor",
    "FeatureExtractor",
    "FeatureModel",
    "Window",
    "centre_picture",
    "check_single_object",
    "check_strategy",
    "crop_window",
    "object_window",
    "read_picture",
    "recentre",
    "remove_background",
    "rig_border",
    "source_camera",
    "to_rgba",
    "train_elevation",
    "window_focal",
]
