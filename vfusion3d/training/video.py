"""The LightningModule that turns a video diffusion model into an orbit generator (paper, section 3.2)."""

from __future__ import annotations

import math
from typing import get_args

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from typing_extensions import Literal

from vfusion3d.data.orbit_videos import OrbitBatch
from vfusion3d.data.randomness import unit_noise
from vfusion3d.errors import UsageError
from vfusion3d.training.optimisation import OptimizerSettings, build_optimizer
from vfusion3d.training.resuming import StepBoundary
from vfusion3d.video import create_backbone

Trained = Literal["temporal", "all", "lora"]
_LEVEL_STREAM, _NOISE_STREAM, _DROP_STREAM = 201, 202, 203


class VideoFineTuner(LightningModule):
    """Fine-tunes a video backbone on orbits with the standard diffusion loss.

    Args:
        backbone: Name of the backbone, for example ``svd`` or ``emu``.
        source: A preset (random weights), a name on the Hugging Face hub or a local folder in diffusers' layout.
        train: ``temporal`` (the paper: temporal convolutions and attention alone), ``all`` or ``lora``.
        optimizer: Its settings.
        drop_image: Chance that a sample's picture is dropped, for guidance.
        drop_text: Chance that its text is.
        seed: Decides levels, noise and what is dropped, together with a sample's index and epoch.
    """

    def __init__(
        self,
        backbone: str = "svd",
        source: str = "stabilityai/stable-video-diffusion-img2vid",
        train: Trained = "temporal",
        optimizer: OptimizerSettings = OptimizerSettings(),
        drop_image: float = 0.1,
        drop_text: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if train not in get_args(Trained):
            raise UsageError(f"Argument `train` must be one of {', '.join(get_args(Trained))}, but got {train!r}.")
        self.backbone = create_backbone(backbone, source)
        self.backbone.requires_grad_(False)
        if train == "temporal":
            for parameter in self.backbone.temporal_parameters().values():
                parameter.requires_grad_(True)
        else:
            self.backbone.denoiser.requires_grad_(True)
        self.optimizer_settings, self.drop_image, self.drop_text, self.seed = optimizer, drop_image, drop_text, seed
        self.samples_seen = 0
        """Training samples seen by all processes; every schedule is a function of it."""
        self._boundary = StepBoundary()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """As `build_optimizer`."""
        return build_optimizer(self.backbone, self.optimizer_settings)

    def training_step(self, batch: OrbitBatch, batch_idx: int) -> Tensor:
        """One step of denoising."""
        loss = self.loss(batch)
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(batch["frames"]))
        self.samples_seen += len(batch["frames"]) * self.trainer.world_size
        return loss

    def loss(self, batch: OrbitBatch) -> Tensor:
        """``mean(weight * (raw - target)^2)`` in float32."""
        frames, samples, epochs = batch["frames"], batch["sample"], batch["epoch"]
        with torch.no_grad():
            clean = self.backbone.encode(frames).float()
            conditioning = self.backbone.condition(frames[:, 0], batch["caption"])
            drop = unit_noise(self.seed, samples, epochs, 2, _DROP_STREAM)
            conditioning = self.backbone.dropped(
                conditioning, drop[:, 0] < self.drop_image, drop[:, 1] < self.drop_text
            )
            levels = self.backbone.process.levels(unit_noise(self.seed, samples, epochs, 1, _LEVEL_STREAM)[:, 0])
            noise = normal_noise(self.seed, samples, epochs, clean[0].shape, _NOISE_STREAM)
            pair = self.backbone.process.pair(clean, noise, levels)
        raw = self.backbone(pair.inputs, pair.timesteps, conditioning)
        error = (raw.float() - pair.target).square().mean((1, 2, 3, 4))
        return (pair.weight * error).mean()


def normal_noise(seed: int, samples: Tensor, epochs: Tensor, shape: torch.Size, stream: int) -> Tensor:
    """Standard normal numbers ``[B, *shape]`` that depend on (seed, sample, epoch) alone (Box-Muller)."""
    count = shape.numel()
    unit = unit_noise(seed, samples, epochs, 2 * count, stream).view(-1, 2, count)
    radius = (-2 * torch.log1p(-unit[:, 0])).sqrt()
    return (radius * torch.cos(2 * math.pi * unit[:, 1])).view(-1, *shape)

