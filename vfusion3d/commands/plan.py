"""`vfusion3d plan`: a run before it starts, from its recipe alone."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser

from vfusion3d.callbacks import LearningRateRestart, ResolutionSchedule
from vfusion3d.errors import CheckpointError, SceneError, ShardError, UsageError
from vfusion3d.models import ReconstructorConfig
from vfusion3d.models.checkpoints import read_config
from vfusion3d.outputs import say
from vfusion3d.training import LossWeights, PatchSettings, ReconstructorTraining
from vfusion3d.training.cost import StepCost
from vfusion3d.training.module import settings_from_plain
from vfusion3d.training.optimisation import OptimizerSettings
from vfusion3d.training.plan import (
    Memory,
    Plan,
    RunSettings,
    check_total_batch,
    device_hours,
    estimate_cost,
    estimate_memory,
    plan_run,
)

if TYPE_CHECKING:  # diffusers takes seconds to import
    from vfusion3d.training.video_cost import VideoModel

PLAN = (
    "Print a run before it starts, from its recipe and any option of `fit`: stages, steps, learning rates, losses, and "
    "an estimate of memory and device-hours. Nothing is built; the data is counted. What cannot be is refused. "
    "Example: vfusion3d plan --config recipes/paper/pretrain_synthetic.yaml --config recipes/hardware/node_8x80gb.yaml"
)
_GIB = 2**30
_VIDEO = "VideoFineTuner"


class PlanningTrainer(Trainer):
    """Lightning's Trainer with one more verb, for LightningCLI to find."""

    def plan(self) -> None:
        """Print a run before it starts: stages, steps, learning rates, memory and cost."""
        raise NotImplementedError("show_plan answers before there is a trainer")


def add_plan_arguments(parser: LightningArgumentParser) -> None:
    """Options beyond those of `fit`."""
    parser.add_argument(
        "--tflops",
        type=float,
        default=100.0,
        help="what a device is assumed to sustain, in TFLOP/s; 100 is a third of an A100's peak in bfloat16",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document on standard output")


@dataclass(frozen=True)
class RecipeRun:
    """What a parsed recipe says of a run."""

    run: RunSettings
    """Lengths and sizes."""
    config: ReconstructorConfig | VideoModel
    """The architecture."""
    notes: tuple[str, ...]
    """What could not be looked up, and what was taken instead."""

    def cost(self, checkpointing: bool) -> StepCost:
        """Of a step, with or without gradient checkpointing."""
        if isinstance(self.config, ReconstructorConfig):
            return estimate_cost(self.run, self.config, checkpointing)
        from vfusion3d.training.video_cost import video_step_cost

        return video_step_cost(self.config, self.run.resolution, checkpointing, self.run.half)


def show_plan(parser: LightningArgumentParser, config: Namespace) -> None:
    """Print the plan of a parsed recipe.

    Raises:
        UsageError: if the recipe contradicts itself, or its length is not known.
    """
    if not config.tflops > 0:
        raise UsageError(f"Argument `tflops` must be positive, but got {config.tflops}.")
    recipe = read_run(parser, config)
    plan = plan_run(recipe.run)
    document = describe(recipe, plan, config.tflops)
    say(json_format.dumps(document) if config.json else _text(document))


def check_batch(config: Namespace) -> None:
    """See before anything is built that the batches of all devices make the `total_batch` of a recipe.

    Raises:
        UsageError: if not.
    """
    if config.total_batch is not None and not config.trainer.fast_dev_run:
        size = sum(part.get("batch_size", 0) for part in _parts(config.data))
        devices, _ = _devices(config.trainer)
        check_total_batch(size, devices, config.trainer.accumulate_grad_batches, config.total_batch)


def read_run(parser: LightningArgumentParser, config: Namespace) -> RecipeRun:
    """What decides a run, from its parsed recipe; the data is counted, nothing else is read.

    Raises:
        UsageError: if the length of an epoch is not known, or the model is neither a `ReconstructorTraining` nor a
            `VideoFineTuner`.
    """
    notes: list[str] = []
    trainer, model = config.trainer, config.model
    kind = model.class_path.rsplit(".", 1)[-1]
    if kind not in (ReconstructorTraining.__name__, _VIDEO):
        raise UsageError(
            f"Only runs of {ReconstructorTraining.__name__} and {_VIDEO} can be planned, not of {model.class_path}."
        )
    settings = model.init_args.as_dict()
    if trainer.max_epochs is None:
        raise UsageError("A plan needs the number of epochs; set --trainer.max_epochs.")
    module: LightningDataModule = parser.instantiate_classes(Namespace(data=config.data)).data
    samples = _samples(module, notes)
    devices, assumed = _devices(trainer)
    if assumed:
        notes.append(f"`trainer.devices` is {trainer.devices}: {devices} as on this machine.")
    strategy = trainer.strategy if isinstance(trainer.strategy, str) else trainer.strategy.class_path.rsplit(".", 1)[-1]
    callbacks = [callback.class_path.rsplit(".", 1)[-1] for callback in trainer.callbacks or []]
    parts = _parts(config.data)
    resolution = max(part.get("resolution", 0) for part in parts)
    run = RunSettings(
        samples_per_epoch=samples,
        max_epochs=trainer.max_epochs,
        batch_size=getattr(module, "batch_size", 1),
        devices=devices,
        accumulate=trainer.accumulate_grad_batches,
        total_batch=config.total_batch,
        views=parts[0].get("views", 1),
        resolution=resolution,
        stages=_schedule(ResolutionSchedule, config.resolution),
        rates=_schedule(LearningRateRestart, config.learning_rate),
        learning_rate=settings_from_plain(OptimizerSettings, settings["optimizer"]).learning_rate,
        losses=settings_from_plain(LossWeights, settings.get("losses", {})),
        # A video model is supervised on whole frames.
        patches=settings_from_plain(PatchSettings, settings.get("patches", {"size": resolution})),
        checkpointing=settings["gradient_checkpointing"],
        half="16" in str(trainer.precision),
        averaged="EMAWeightAveraging" in callbacks or "WeightAveraging" in callbacks,
        distributed="ddp" in strategy.lower(),
        sharded=strategy.lower().startswith("fsdp") or "ModelParallelStrategy" in strategy,
    )
    architecture: ReconstructorConfig | VideoModel
    architecture = _video_model(settings, notes) if kind == _VIDEO else _architecture(settings, notes)
    return RecipeRun(run, architecture, tuple(notes))


def _video_model(settings: dict[str, Any], notes: list[str]) -> VideoModel:
    from vfusion3d.training.video_cost import VideoModel

    own = ("backbone", "source", "train", "rank")
    options = {**(settings["changes"] or {})}
    options |= {name: True for name in ("ray_channels", "joint_attention") if settings[name]}
    model = VideoModel(**{name: settings[name] for name in own}, options=tuple(options.items()))
    if model.preset != model.source:
        notes.append(f"The weights {model.source} are not read; the architecture is taken to be {model.preset}.")
    return model


def _parts(data: Namespace) -> list[Namespace]:
    """Arguments of a data module, or of each of a mixture's."""
    arguments = data.get("init_args", Namespace())
    modules = arguments.get("modules")
    return [arguments] if modules is None else [part for module in modules for part in _parts(module)]


def _schedule(kind: type[Any], config: Namespace | None) -> Any:
    """A schedule's callback from its key, or None; a wrong value is refused as in `fit`."""
    if config is None:
        return None
    try:
        return kind(**config.init_args.as_dict())
    except ValueError as error:
        raise UsageError(f"{error} Correct the recipe or the option.") from error


def _devices(trainer: Namespace) -> tuple[int, bool]:
    """Devices of all machines, and whether those of this one had to be counted."""
    devices, assumed = trainer.devices, False
    if isinstance(devices, str):
        devices = devices if devices == "auto" else [part for part in devices.split(",") if part]
        devices = int(devices[0]) if len(devices) == 1 else devices
    if isinstance(devices, list):
        count = len(devices)
    elif devices == "auto" or devices == -1:
        count, assumed = max(1, torch.cuda.device_count() if trainer.accelerator != "cpu" else 1), True
    else:
        count = int(devices)
    return count * trainer.num_nodes, assumed


def _samples(module: LightningDataModule, notes: list[str]) -> int:
    """Samples per epoch: as the recipe gives them, counted, or its limit."""
    try:
        return int(module.samples_per_epoch)  # type: ignore[attr-defined]
    except AttributeError as error:
        raise UsageError(f"{type(module).__name__} does not tell its samples per epoch, which a plan needs.") from error
    except (SceneError, ShardError) as error:
        reason, limit = str(error).rstrip("."), getattr(module, "limit", None)
        if limit is None:
            raise UsageError(
                f"The data cannot be counted here ({reason}): give --data.init_args.samples_per_epoch or `limit`."
            ) from error
        notes.append(f"The data cannot be counted here ({reason}); an epoch is taken to be its `limit`, {limit:,}.")
        return int(limit)


def _architecture(settings: dict[str, Any], notes: list[str]) -> ReconstructorConfig:
    weights = settings["weights"]
    preset = settings["architecture"]
    if weights is not None:
        try:
            return read_config(weights)
        except CheckpointError:
            notes.append(f"The weights {weights} are not on this machine; the architecture is taken to be {preset}.")
    try:
        return ReconstructorConfig.preset(preset, **(settings["changes"] or {}))
    except ValueError as error:
        raise UsageError(f"{error} Correct the recipe or the option.") from error


# -- what is printed ---------------------------------------------------------------------------------------------
def describe(recipe: RecipeRun, plan: Plan, tflops: float) -> dict[str, Any]:
    """A plan as a JSON document; memory in bytes."""
    run, config = recipe.run, recipe.config
    video = not isinstance(config, ReconstructorConfig)
    costs = {name: recipe.cost(flag) for name, flag in (("with", True), ("without", False))}
    cost = costs["with" if run.checkpointing else "without"]
    hours = device_hours(plan, cost, tflops)
    return {
        "model": {"name": config.name, "parameters": cost.parameters},
        "epochs": run.max_epochs,
        "samples_per_epoch": run.samples_per_epoch,
        "batch": {
            "per_device": run.batch_size,
            "devices": run.devices,
            "accumulate": run.accumulate,
            "total": plan.total_batch,
            "images": plan.images_per_step,
            "patch": run.patches.size,
            "of": "frames" if video else "patches",
        },
        "steps": {
            "total": plan.steps,
            "per_epoch": plan.steps_per_epoch,
            "restarts": plan.restarts,
            "warmup": plan.warmup_steps,
            "nominal_total": plan.nominal_steps,
            "nominal_restarts": plan.nominal_restarts,
        },
        "losses": {"denoising": 1.0} if video else _losses(run.losses),
        "stages": [asdict(stage) for stage in plan.stages],
        "memory": {
            "gradient_checkpointing": run.checkpointing,
            "per_device": _bytes(estimate_memory(run, cost)),
            "with_checkpointing": _bytes(estimate_memory(replace(run, checkpointing=True), costs["with"])),
            "without_checkpointing": _bytes(estimate_memory(replace(run, checkpointing=False), costs["without"])),
        },
        "cost": {
            "flop_per_sample": cost.sample_flops,
            "tflops_per_device": tflops,
            "device_hours": hours,
            "hours": hours / run.devices,
        },
        "notes": list(recipe.notes),
    }


def _losses(weights: LossWeights) -> dict[str, float]:
    """Weights of the terms there are, by the names they are logged under."""
    perceptual = "random_feature" if weights.trunk_weights == "random" else "lpips"
    terms = {
        perceptual: weights.perceptual,
        "l2": weights.l2,
        "opacity": weights.opacity,
        "inside": weights.inside,
        "total_variation": weights.total_variation,
    }
    return {name: weight for name, weight in terms.items() if weight}


def _bytes(memory: Memory) -> dict[str, int]:
    return {**asdict(memory), "total": memory.total}


def _text(plan: dict[str, Any]) -> str:
    batch, steps, memory, cost = plan["batch"], plan["steps"], plan["memory"], plan["cost"]
    restarts = ", ".join(f"{step:,}" for step in steps["restarts"]) or "none"
    nominal = f"{steps['nominal_total']:,}" + "".join(f", {step:,}" for step in steps["nominal_restarts"])
    rows = [["stage", "resolution", "epochs", "steps", "samples", "learning rate"]]
    for number, stage in enumerate(plan["stages"], 1):
        side = stage["resolution"]
        rows.append(
            [
                str(number),
                str(side) if isinstance(side, int) else f"{side[0]} to {side[1]}",
                f"{stage['epochs'][0]:g} to {stage['epochs'][1]:g}",
                f"{stage['steps'][0]:,} to {stage['steps'][1]:,}",
                f"{stage['samples']:,}",
                f"{stage['learning_rate'][0]:.2e} to {stage['learning_rate'][1]:.2e}",
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    parts = ", ".join(f"{name} {amount / _GIB:.1f}" for name, amount in memory["per_device"].items() if name != "total")
    totals = {key: memory[f"{key}_checkpointing"]["total"] / _GIB for key in ("with", "without")}
    kept = "with" if memory["gradient_checkpointing"] else "without"
    other = "without" if kept == "with" else "with"
    lines = [
        f"model    {plan['model']['name']}, {plan['model']['parameters']:,} trained weights",
        f"length   {plan['epochs']} epochs of {plan['samples_per_epoch']:,} samples",
        f"batch    {batch['per_device']} samples x {batch['devices']} devices x {batch['accumulate']} batches = "
        f"{batch['total']:,}; {batch['images']:,} {batch['of']} of {batch['patch']} pixels a step",
        f"steps    {steps['total']:,}, {steps['per_epoch']:,} an epoch; warm-up {steps['warmup']:,}; restart "
        f"{restarts}",
        f"         (samples x epochs / batch, with what whole steps leave out: {nominal})",
        "losses   " + (", ".join(f"{name} x {weight:g}" for name, weight in plan["losses"].items()) or "none"),
        "",
        *table,
        "",
        f"memory   {totals[kept]:.1f} GiB a device, estimated, {kept} gradient_checkpointing ({parts}); "
        f"{totals[other]:.1f} GiB {other}",
        f"cost     {cost['device_hours']:,.3g} device-hours, {cost['hours']:,.3g} hours in all: "
        f"{cost['flop_per_sample'] / 1e12:.3g} TFLOP a sample at {cost['tflops_per_device']:g} TFLOP/s sustained "
        "(assumed; --tflops)",
        *(f"note     {note}" for note in plan["notes"]),
    ]
    return "\n".join(lines)
