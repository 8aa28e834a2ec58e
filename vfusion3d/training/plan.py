"""A run before it starts: stages, steps, learning rates, memory and cost, all from its settings alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Protocol

from vfusion3d.errors import UsageError
from vfusion3d.models import ReconstructorConfig
from vfusion3d.training.cost import StepCost, step_cost
from vfusion3d.training.losses import LossWeights
from vfusion3d.training.module import PatchSettings


class Stages(Protocol):
    """What a plan reads of `vfusion3d.callbacks.ResolutionSchedule`."""

    resolutions: list[int]
    epochs: list[float]
    uniform: tuple[int, int] | None


class Rates(Protocol):
    """What a plan reads of `vfusion3d.callbacks.LearningRateRestart`."""

    cycles: list[float]
    warmup_steps: int

    def rate_of_step(self, seen: int, samples_per_step: int, samples_per_epoch: int) -> float:
        """Learning rate of the optimiser step that begins after ``seen`` samples."""

    def warmup_epochs(self, samples_per_step: int, samples_per_epoch: int) -> float:
        """Length of the warm-up."""


@dataclass(frozen=True)
class RunSettings:
    """What decides a run's length and cost."""

    samples_per_epoch: int
    """Training samples of one epoch over all devices."""
    max_epochs: int
    """Epochs."""
    batch_size: int
    """Samples per batch and device."""
    devices: int = 1
    """Devices of all machines."""
    accumulate: int = 1
    """Batches that an optimiser step adds up."""
    total_batch: int | None = None
    """Samples per optimiser step that are wanted; None: whatever comes out."""
    views: int = 4
    """Supervised views per sample."""
    resolution: int = 384
    """Side of the delivered pictures in pixels."""
    stages: Stages | None = None
    """Schedule of the render resolution; None: as delivered."""
    rates: Rates | None = None
    """Schedule of the learning rate; None: ``learning_rate`` throughout."""
    learning_rate: float = 4e-4
    """Without a schedule."""
    losses: LossWeights = field(default_factory=LossWeights)
    """Loss weights."""
    patches: PatchSettings = field(default_factory=PatchSettings)
    """What is rendered."""
    checkpointing: bool = False
    """Whether the transformers recompute their layers."""
    half: bool = True
    """Whether products are taken in half precision."""
    averaged: bool = False
    """Whether an average of the weights is kept."""
    distributed: bool = False
    """Whether gradients are exchanged through buckets (DDP)."""
    sharded: bool = False
    """Whether weights, gradients and moments are cut among all devices (FSDP)."""


@dataclass(frozen=True)
class Stage:
    """Steps at one resolution."""

    resolution: int | tuple[int, int]
    """Side of the picture that patches are cut from in pixels, or the range that it is drawn from."""
    epochs: tuple[float, float]
    """First and last."""
    steps: tuple[int, int]
    """The first, and the one after the last."""
    samples: int
    """Objects."""
    learning_rate: tuple[float, float]
    """At the first and the last step."""


@dataclass(frozen=True)
class Plan:
    """A run before it starts."""

    settings: RunSettings
    """What it was made from."""
    stages: list[Stage]
    """One per resolution."""
    steps_per_epoch: int
    """Optimiser steps of an epoch; the samples that do not fill one are left out."""
    steps: int
    """Of the run."""
    restarts: list[int]
    """Steps at which the learning rate restarts."""
    warmup_steps: int
    """Steps of the warm-up."""
    nominal_steps: int
    """Samples x epochs / total batch, as the paper counts, with what epochs leave out."""
    nominal_restarts: list[int]
    """The restarts counted likewise."""

    @property
    def total_batch(self) -> int:
        """Samples per optimiser step."""
        run = self.settings
        return run.batch_size * run.devices * run.accumulate

    @property
    def images_per_step(self) -> int:
        """Supervised patches per optimiser step."""
        return self.total_batch * self.settings.views


def check_total_batch(batch_size: int, devices: int, accumulate: int, total: int | None) -> None:
    """See that the batches of all devices make the wanted one.

    Raises:
        UsageError: if not, with what would.
    """
    batch = batch_size * devices
    if total is None or batch * accumulate == total:
        return
    advice = (
        f"set --trainer.accumulate_grad_batches {total // batch}"
        if total % batch == 0
        else f"choose a batch_size and devices whose product divides {total}"
    )
    raise UsageError(
        f"An optimiser step would take {batch_size} samples x {devices} devices x {accumulate} batches = "
        f"{batch * accumulate}, but `total_batch` wants {total}: {advice}, or --total_batch {batch * accumulate}."
    )


def plan_run(run: RunSettings) -> Plan:
    """Lay out a run.

    Raises:
        UsageError: if its settings contradict each other.
    """
    check_total_batch(run.batch_size, run.devices, run.accumulate, run.total_batch)
    if run.max_epochs < 1:
        raise UsageError(f"A plan needs the number of epochs, but `trainer.max_epochs` is {run.max_epochs}; set it.")
    batch = run.batch_size * run.devices * run.accumulate
    per_epoch = run.samples_per_epoch // batch  # loaders cut an epoch to whole steps
    if not per_epoch:
        raise UsageError(
            f"An epoch has {run.samples_per_epoch} samples but an optimiser step takes {batch} ({run.batch_size} on "
            f"each of {run.devices} devices, {run.accumulate} times); lower them or add samples."
        )
    delivered = per_epoch * batch
    _check_stages(run)
    warmup = 0.0 if run.rates is None else _checked_warmup(run, run.rates, batch, delivered)

    def step_at(epoch: float) -> int:
        return round(epoch * per_epoch)

    def rate_at(step: int) -> float:
        if run.rates is None:
            return run.learning_rate
        return run.rates.rate_of_step(step * batch, batch, delivered)

    ends, resolutions = _ends(run)
    stages = []
    for (first, last), resolution in zip(pairwise([0.0, *ends]), resolutions, strict=True):
        steps = step_at(first), step_at(last)
        rates = rate_at(steps[0]), rate_at(max(steps[0], steps[1] - 1))
        samples = round((last - first) * delivered)
        stages.append(Stage(resolution, (first, last), steps, samples, rates))
    restarts = [] if run.rates is None else list(accumulate(run.rates.cycles))[:-1]
    return Plan(
        settings=run,
        stages=stages,
        steps_per_epoch=per_epoch,
        steps=per_epoch * run.max_epochs,
        restarts=[step_at(epoch) for epoch in restarts],
        warmup_steps=math.ceil(warmup * per_epoch - 1e-6),
        nominal_steps=round(run.samples_per_epoch * run.max_epochs / batch),
        nominal_restarts=[round(run.samples_per_epoch * epoch / batch) for epoch in restarts],
    )


def _ends(run: RunSettings) -> tuple[list[float], list[int | tuple[int, int]]]:
    """Last epoch and resolution of each stage; the last one lasts on."""
    if run.stages is None or run.stages.uniform is not None:
        return [float(run.max_epochs)], [run.resolution if run.stages is None else run.stages.uniform or 0]
    return [*list(accumulate(run.stages.epochs))[:-1], float(run.max_epochs)], list(run.stages.resolutions)


def _check_stages(run: RunSettings) -> None:
    _, resolutions = _ends(run)
    sides = [side for value in resolutions for side in (value if isinstance(value, tuple) else (value,))]
    if run.stages is not None and sum(run.stages.epochs) > run.max_epochs + 1e-6:
        raise UsageError(
            f"The stages of `resolution` last {sum(run.stages.epochs):g} epochs but the run has {run.max_epochs}: "
            "change `resolution.epochs` or --trainer.max_epochs."
        )
    if min(sides) < run.patches.size:
        raise UsageError(
            f"A stage renders at {min(sides)} pixels, smaller than the {run.patches.size} pixel patches: raise "
            "`resolution.resolutions` or lower `patches.size`."
        )
    if max(sides) > run.resolution:
        raise UsageError(
            f"A stage renders at {max(sides)} pixels but the data delivers {run.resolution}: raise the `resolution` "
            "of the data or lower `resolution.resolutions`."
        )


def _checked_warmup(run: RunSettings, rates: Rates, batch: int, delivered: int) -> float:
    """Epochs of the warm-up."""
    if abs(sum(rates.cycles) - run.max_epochs) > 1e-6:
        raise UsageError(
            f"The cycles of `learning_rate` last {sum(rates.cycles):g} epochs but the run has {run.max_epochs}: change "
            "`learning_rate.cycles` or --trainer.max_epochs."
        )
    warmup = rates.warmup_epochs(batch, delivered)
    if warmup >= rates.cycles[0]:
        end = "restart" if len(rates.cycles) > 1 else "end"
        raise UsageError(
            f"The warm-up of {warmup * delivered / batch:.0f} steps passes the first {end} of the learning rate at "
            f"step {rates.cycles[0] * delivered / batch:.0f}: lower `learning_rate.warmup_steps` or "
            "`learning_rate.warmup_fraction`."
        )
    return warmup


@dataclass(frozen=True)
class Memory:
    """Bytes on one device, estimated."""

    weights: int
    """Float32 if they are trained."""
    gradients: int
    """Float32, with DDP's buckets."""
    moments: int
    """Of the optimiser."""
    average: int
    """Of the weights."""
    activations: int
    """Largest while a step runs: what is kept for the backward pass, and what it makes anew there."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.gradients + self.moments + self.average + self.activations


def estimate_cost(run: RunSettings, config: ReconstructorConfig, checkpointing: bool | None = None) -> StepCost:
    """Cost of a step, by the run's own settings or with and without checkpointing of the transformers."""
    patches = run.patches
    return step_cost(
        config,
        run.losses,
        run.views,
        patches.size,
        patches.coarse_samples,
        patches.fine_samples,
        patches.recompute,
        run.checkpointing if checkpointing is None else checkpointing,
        run.half,
    )


def estimate_memory(run: RunSettings, cost: StepCost) -> Memory:
    """Memory of one device (an estimate: see `vfusion3d.training.cost`)."""
    trained = 4 * cost.parameters // (run.devices if run.sharded else 1)
    weights = trained + cost.frozen_bytes
    activations = cost.fixed_bytes + run.batch_size * cost.sample_bytes
    activations += max(run.batch_size * cost.peak_bytes, cost.chunk_bytes)
    return Memory(
        weights=weights,
        gradients=trained * (2 if run.distributed and not run.sharded else 1),
        moments=2 * trained,
        average=weights if run.averaged else 0,
        activations=max(activations, trained),  # the optimiser's own scratch, when activations are gone
    )


def device_hours(plan: Plan, cost: StepCost, tflops: float) -> float:
    """Hours of all devices together, were each to sustain so many TFLOP/s."""
    samples = sum(stage.samples for stage in plan.stages)
    return samples * cost.sample_flops / (tflops * 1e12) / 3600
