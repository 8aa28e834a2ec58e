"""Alarms for the known failures of training a field from pictures."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from vfusion3d.callbacks.progress import how_to_go_on
from vfusion3d.cameras import Cameras, on_sphere
from vfusion3d.data.batches import batch_cameras
from vfusion3d.data.resize import area_resize
from vfusion3d.errors import TrainingError

FRONT, SIDE, BACK, OPPOSITE = range(4)


class CollapseMeasures(NamedTuple):
    """What tells a collapsed field from a healthy one, scalars; means over objects, NaN where nothing tells."""

    coverage: Tensor
    """Opaque area from the input camera, as a share of the object's mask."""
    background: Tensor
    """Opacity from the input camera where the mask is empty, within the unit sphere."""
    side: Tensor
    """Opaque area from the side as a share of that from the front."""
    mirror: Tensor
    """How much of the front's colour the back view, flipped left to right, explains (R squared, at most 1)."""


EMPTY, FULL, BILLBOARD, MIRRORED = 0.1, 0.8, 0.3, 0.9
"""The alarms' thresholds, ours. Renders of 30 sets of 4 procedural objects as they are measure 0.89 to 0.98, 0, 0.70 to
1.50, and at most 0.3."""
PLAIN = 1e-3
"""Variance of a front's colour below which its back cannot be told from its mirror image."""

KINDS = {
    "empty": "the objects are empty: hardly anything is opaque where the masks say so; raise the opacity loss or lower "
    "the learning rate",
    "full": "the objects are full: everything around them is opaque too; raise the opacity loss or check the masks",
    "billboard": "the objects are billboards: flat cards that face the input camera; check the cameras' poses, or "
    "supervise more views",
    "mirrored": "the objects' backs are mirror images of their fronts; check the cameras' poses, or supervise more "
    "views",
}
"""What is said of each failure."""


class CollapseAlarm(Callback):
    """Says so, once per kind, when a model makes objects that are empty, full, billboards or mirrored at the back.

    After each validation it looks at the first objects of the validation set, from the input camera, from the side,
    from behind and from the opposite point. Thresholds are ours (`CollapseMeasures`, `EMPTY` and the following), far
    from what renders of true objects show; a failure has to be seen in several validations in a row, since untrained
    models show some of them.

    Args:
        objects: Objects looked at on each process.
        size: Side of the renders in pixels.
        patience: Validations in a row that must show a failure.
        stop: End the training at an alarm.

    Raises:
        ValueError: naming the argument.
        TrainingError: in training, at an alarm with ``stop``.

    Logged: ``collapse/coverage``, ``collapse/background``, ``collapse/side`` and ``collapse/mirror``.
    """

    def __init__(self, objects: int = 4, size: int = 32, patience: int = 2, stop: bool = False) -> None:
        for name, value in (("objects", objects), ("size", size), ("patience", patience)):
            if value < 1:
                raise ValueError(f"Argument `{name}` must be at least 1, but got {value}.")
        self.objects, self.size, self.patience, self.stop = objects, size, patience, stop
        self.seen = dict.fromkeys(KINDS, 0)
        """Validations in a row that showed each failure."""
        self.raised: list[str] = []
        """Failures that have been reported."""
        self._measures: CollapseMeasures | None = None

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Look at the first objects."""
        if batch_idx == 0 and dataloader_idx == 0 and not (trainer.sanity_checking or self._cannot_look(trainer)):
            with trainer.precision_plugin.val_step_context():
                self._measures = self.look(pl_module, {key: value[: self.objects] for key, value in batch.items()})

    @staticmethod
    def _cannot_look(trainer: Trainer) -> bool:
        """FSDP gathers a model's weights for its training and validation steps alone."""
        return isinstance(trainer.strategy, FSDPStrategy)

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Say so where nothing can be seen."""
        if self._cannot_look(trainer):
            rank_zero_warn("CollapseAlarm sees nothing under --trainer.strategy fsdp; use ddp to have its alarms.")

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Log, and raise the alarm.

        Raises:
            TrainingError: with ``stop``.
        """
        measures, self._measures = self._measures, None
        if measures is None:
            return
        measures = _mean_over_processes(trainer, measures)
        for name, value in zip(measures._fields, measures, strict=True):
            pl_module.log(f"collapse/{name}", value, sync_dist=True)
        found = failures(measures)
        self.seen = {kind: self.seen[kind] + 1 if kind in found else 0 for kind in KINDS}
        for kind in found:
            if self.seen[kind] >= self.patience and kind not in self.raised:
                self.raised.append(kind)
                sentence = f"After step {trainer.global_step} {KINDS[kind]}"
                if self.stop:
                    raise TrainingError(f"{sentence}; training ended, and {how_to_go_on(trainer)}.")
                rank_zero_warn(f"{sentence}.")

    @torch.no_grad()
    def look(self, pl_module: Any, batch: Any) -> CollapseMeasures:
        """Render the objects of a batch and measure them."""
        front = batch_cameras(batch)[:, 0]
        cameras = inspection_cameras(front)
        rendered = pl_module.reconstruct(batch).render(cameras, self.size, self.size, background=0.0)
        views = torch.cat([rendered.rgb, rendered.opacity], 2).float()
        return collapse_measures(views, area_resize(batch["images"][:, 0], self.size, self.size)[:, 3], front)

    def state_dict(self) -> dict[str, Any]:
        """What has been seen and said."""
        return {"seen": self.seen, "raised": self.raised}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.seen, self.raised = dict(state_dict["seen"]), list(state_dict["raised"])


def inspection_cameras(front: Cameras) -> Cameras:
    """Where the alarm looks from: the input camera, the side, behind at the same height, and opposite.

    Args:
        front: Input cameras, ``[B]``.

    Returns:
        Cameras ``[B, 4]``.
    """
    side = on_sphere(
        front.azimuths + math.pi / 2, torch.zeros_like(front.azimuths), front.centers.norm(dim=-1), front.intrinsics
    )
    upright = front.poses.new_tensor([0.0, 0.0, 1.0]).expand(front.centers.shape)
    return Cameras.stack([front, side, _half_turn(front, upright), _half_turn(front, front.poses[..., 1])], dim=1)


def _half_turn(cameras: Cameras, axis: Tensor) -> Cameras:
    """Cameras turned by half a circle about an axis through the origin, ``[B, 3]``."""
    turn = 2 * axis[..., :, None] * axis[..., None, :] - torch.eye(3, dtype=axis.dtype, device=axis.device)
    return cameras.transform(torch.cat([turn, torch.zeros_like(turn[..., :1])], -1))


def collapse_measures(views: Tensor, mask: Tensor, front: Cameras) -> CollapseMeasures:
    """Measure pictures of objects.

    Args:
        views: Premultiplied RGBA from `inspection_cameras`, ``[B, 4, 4, S, S]``.
        mask: Opacity of the true object from the input camera, ``[B, S, S]``.
        front: Input cameras, ``[B]``.
    """
    colour, opacity = views[:, :, :3], views[:, :, 3]
    areas = (opacity > 0.5).float().mean((-1, -2))
    coverage = areas[:, FRONT] / mask.mean((-1, -2))
    origins, directions = front.rays(*mask.shape[-2:])
    near = torch.linalg.cross(origins, directions).norm(dim=-1) < 1
    outside = ((mask < 0.05) & near).float()
    background = (opacity[:, FRONT] * outside).sum((-1, -2)) / outside.sum((-1, -2))
    side = areas[:, SIDE] / areas[:, FRONT]
    mirror = torch.fmax(_explained(colour, opacity, BACK), _explained(colour, opacity, OPPOSITE))
    return CollapseMeasures(coverage.nanmean(), background.nanmean(), side.nanmean(), mirror)


def _mean_over_processes(trainer: Trainer, measures: CollapseMeasures) -> CollapseMeasures:
    """Each measure's mean over the processes where it tells something."""
    values = torch.stack(measures)
    sums = trainer.strategy.reduce(torch.stack([values.nan_to_num(0.0), (~values.isnan()).float()]), reduce_op="sum")
    return CollapseMeasures(*(sums[0] / sums[1]))


def _explained(colour: Tensor, opacity: Tensor, view: int) -> Tensor:
    """Share of the front's colour variance, over all objects, that another view explains when flipped."""
    weight = (opacity[:, FRONT] * opacity[:, view].flip(-1))[:, None]
    front, back = (colour[:, k] / opacity[:, k, None].clamp_min(1e-3) for k in (FRONT, view))
    mean = (weight * front).sum((-1, -2), keepdim=True) / weight.sum((-1, -2), keepdim=True).clamp_min(1e-6)
    variance, error = (weight * (front - mean).square()).sum(), (weight * (front - back.flip(-1)).square()).sum()
    return torch.where(variance > PLAIN * weight.sum(), 1 - error / variance, torch.nan)


def failures(measures: CollapseMeasures) -> list[str]:
    """Names of the failures that measures show, of `KINDS`."""
    if measures.coverage < EMPTY:
        return ["empty"]
    if measures.background > FULL:
        return ["full"]  # then all views show the same
    found = {"billboard": measures.side < BILLBOARD, "mirrored": measures.mirror > MIRRORED}
    return [kind for kind, there in found.items() if there]
