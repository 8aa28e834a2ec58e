"""Camera noise while training."""

from __future__ import annotations

from typing import Any, Literal, get_args

from lightning.pytorch import Callback, Trainer

from vfusion3d.cameras import Cameras, rigid_noise
from vfusion3d.data.batches import MultiViewBatch
from vfusion3d.data.randomness import unit_noise

NoiseTargets = Literal["source", "render", "both"]
_STREAMS = {"source": 111, "render": 112}


class CameraNoise(Callback):
    """Small uniform noise on poses and intrinsics (paper: in [-0.02, 0.02]; distribution and units are ours).

    Poses move by a rigid motion, so a rotation stays a rotation. Noise is independent per view and a function
    of (seed, sample, epoch).

    Args:
        rotation: Largest rotation-vector component, radians.
        translation: Largest translation component, world units.
        intrinsics: Largest change of a normalised intrinsic number.
        targets: ``source`` (what the model is told about its input), ``render`` (where it is supervised) or
            ``both`` (pre-training; fine-tuning: ``source``).
        seed: The run's seed.

    Raises:
        ValueError: naming the argument.
    """

    def __init__(
        self,
        rotation: float = 0.02,
        translation: float = 0.02,
        intrinsics: float = 0.02,
        targets: NoiseTargets = "both",
        seed: int = 0,
    ) -> None:
        if targets not in get_args(NoiseTargets):
            raise ValueError(f"Argument `targets` must be one of {get_args(NoiseTargets)}, but got {targets!r}.")
        for name, value in (("rotation", rotation), ("translation", translation), ("intrinsics", intrinsics)):
            if value < 0:
                raise ValueError(f"Argument `{name}` must not be negative, but got {value}.")
        self.rotation, self.translation, self.intrinsics = rotation, translation, intrinsics
        self.targets, self.seed = targets, seed

    def apply(self, cameras: Cameras, batch: MultiViewBatch, target: str) -> Cameras:
        """Noisy cameras ``[B]`` or ``[B, V]``, unchanged if ``target`` is not among the targets."""
        if self.targets not in (target, "both"):
            return cameras
        count = cameras.poses[0].numel() // 12
        unit = unit_noise(self.seed, batch["sample"], batch["epoch"], 10 * count, _STREAMS[target])
        unit = unit.view(*cameras.shape, 10)
        return rigid_noise(cameras, self.rotation, self.translation, self.intrinsics, unit)

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Hand the noise to the module."""
        pl_module.camera_noise = self

    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Take it back, so that evaluation is exact."""
        pl_module.camera_noise = None
