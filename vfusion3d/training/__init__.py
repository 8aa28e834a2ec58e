"""Training: the LightningModules, losses, parameter groups and patches.

What video models need is imported on first use, because diffusers takes seconds to import.
"""

import importlib
from typing import Any

from vfusion3d.training.cost import StepCost, step_cost
from vfusion3d.training.export import export_model, load_trained
from vfusion3d.training.losses import LossWeights, PerceptualLoss, inside_loss, opacity_loss, total_variation
from vfusion3d.training.model_card import TrainingFacts, model_card
from vfusion3d.training.module import InputSettings, PatchSettings, ReconstructorTraining
from vfusion3d.training.optimisation import OptimizerSettings, build_optimizer, parameter_groups
from vfusion3d.training.plan import Memory, Plan, RunSettings, Stage, plan_run

_VIDEO = {
    "LatentCache": "latents",
    "SamplingSettings": "video",
    "VideoFineTuner": "video",
}

__all__ = [
    "InputSettings",
    "LatentCache",
    "LossWeights",
    "Memory",
    "OptimizerSettings",
    "PatchSettings",
    "PerceptualLoss",
    "Plan",
    "ReconstructorTraining",
    "RunSettings",
    "SamplingSettings",
    "Stage",
    "StepCost",
    "TrainingFacts",
    "VideoFineTuner",
    "build_optimizer",
    "export_model",
    "inside_loss",
    "load_trained",
    "model_card",
    "opacity_loss",
    "parameter_groups",
    "plan_run",
    "step_cost",
    "total_variation",
]


def __getattr__(name: str) -> Any:
    if name in _VIDEO:
        return getattr(importlib.import_module(f"vfusion3d.training.{_VIDEO[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
