"""Lightning callbacks: the paper's schedules, and what is written while training."""

from vfusion3d.callbacks.camera_noise import CameraNoise
from vfusion3d.callbacks.collapse_alarm import CollapseAlarm
from vfusion3d.callbacks.export_model import ExportModel
from vfusion3d.callbacks.learning_rate_restart import LearningRateRestart
from vfusion3d.callbacks.novel_views import NovelViewSheets
from vfusion3d.callbacks.orbit_sheets import OrbitSheets
from vfusion3d.callbacks.resolution_schedule import ResolutionSchedule
from vfusion3d.callbacks.save_on_sigterm import SaveOnSigterm
from vfusion3d.callbacks.skip_nonfinite import SkipNonFinite
from vfusion3d.callbacks.throughput import Throughput
from vfusion3d.callbacks.turntables import Turntables

__all__ = [
    "CameraNoise",
    "CollapseAlarm",
    "ExportModel",
    "LearningRateRestart",
    "NovelViewSheets",
    "OrbitSheets",
    "ResolutionSchedule",
    "SaveOnSigterm",
    "SkipNonFinite",
    "Throughput",
    "Turntables",
]
