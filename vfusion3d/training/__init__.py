"""Training: the LightningModules, losses, parameter groups and patches."""

from vfusion3d.training.losses import LossWeights, PerceptualLoss, inside_loss, opacity_loss, total_variation
from vfusion3d.training.module import InputSettings, PatchSettings, ReconstructorTraining
from vfusion3d.training.optimisation import OptimizerSettings, build_optimizer, parameter_groups

__all__ = [
    "InputSettings",
    "LossWeights",
    "OptimizerSettings",
    "PatchSettings",
    "PerceptualLoss",
    "ReconstructorTraining",
    "build_optimizer",
    "inside_loss",
    "opacity_loss",
    "parameter_groups",
    "total_variation",
]
