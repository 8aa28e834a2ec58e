"""Training: the LightningModules, losses, parameter groups and patches."""

from vfusion3d.training.cost import StepCost, step_cost
from vfusion3d.training.export import export_model, load_trained
from vfusion3d.training.losses import LossWeights, PerceptualLoss, inside_loss, opacity_loss, total_variation
from vfusion3d.training.model_card import TrainingFacts, model_card
from vfusion3d.training.module import InputSettings, PatchSettings, ReconstructorTraining
from vfusion3d.training.optimisation import OptimizerSettings, build_optimizer, parameter_groups
from vfusion3d.training.plan import Memory, Plan, RunSettings, Stage, plan_run

__all__ = [
    "InputSettings",
    "LossWeights",
    "Memory",
    "OptimizerSettings",
    "PatchSettings",
    "PerceptualLoss",
    "Plan",
    "ReconstructorTraining",
    "RunSettings",
    "Stage",
    "StepCost",
    "TrainingFacts",
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
