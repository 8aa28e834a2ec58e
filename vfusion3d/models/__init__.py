"""Models: image encoder, camera-modulated triplane decoder, triplane field, checkpoints."""

from vfusion3d.models.config import PRESETS, ReconstructorConfig
from vfusion3d.models.reconstructor import TriplaneReconstructor
from vfusion3d.models.triplanes import Rendering, Triplanes

__all__ = ["PRESETS", "ReconstructorConfig", "Rendering", "TriplaneReconstructor", "Triplanes"]
