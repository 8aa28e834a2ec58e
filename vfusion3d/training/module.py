"""The LightningModule that trains a reconstructor as the paper does (section 3.3 and supplement)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
import torch.nn.functional as F
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor
from torch.distributed.fsdp import FSDPModule, fully_shard

from vfusion3d import __version__
from vfusion3d.alpha import over_white
from vfusion3d.cameras import Cameras
from vfusion3d.data.batches import MultiViewBatch, batch_cameras, require_pixels
from vfusion3d.data.randomness import unit_noise
from vfusion3d.data.resize import area_resize
from vfusion3d.errors import UsageError
from vfusion3d.metrics.novel_views import NovelViewMetrics
from vfusion3d.models import ReconstructorConfig, Rendering, TriplaneReconstructor, Triplanes
from vfusion3d.models.checkpoints import load_encoder, read_encoder
from vfusion3d.training.export import MODEL
from vfusion3d.training.losses import LossWeights, PerceptualLoss, inside_loss, opacity_loss, total_variation
from vfusion3d.training.optimisation import OptimizerSettings, build_optimizer
from vfusion3d.training.patches import crop_patches, patch_anchors, recentre_inputs
from vfusion3d.training.resuming import ResumableModule

_PATCH_STREAM, _BORDER_STREAM, _BACKGROUND_STREAM, _JITTER_STREAM = 101, 102, 103, 104


@dataclass(frozen=True)
class PatchSettings:
    """What is rendered in a training step."""

    size: int = 128
    """Side of a supervised patch in pixels (paper: 128)."""
    foreground: float = 0.0
    """Share of patches centred on the object (paper recipes: 0)."""
    coarse_samples: int | None = None
    """Samples per ray in equal intervals; the model's by default."""
    fine_samples: int | None = None
    """Samples per ray placed by importance; the model's by default."""
    recompute: bool = True
    """Gradient checkpointing of the renderer: less memory, a third slower."""


@dataclass(frozen=True)
class InputSettings:
    """How training inputs resemble test pictures."""

    border: tuple[float, float] = (0.05, 0.2)
    """Range of the border ratio around the recentred object (DESIGN semantics 4; ours)."""
    random_background: bool = False
    """Supervise over a random grey per view instead of white (OpenLRM does)."""


SETTINGS: dict[str, type[Any]] = {
    "losses": LossWeights,
    "optimizer": OptimizerSettings,
    "patches": PatchSettings,
    "inputs": InputSettings,
}
"""Arguments of `ReconstructorTraining` that are dataclasses."""

S = TypeVar("S")


def settings_from_plain(cls: type[S], value: S | dict[str, Any]) -> S:
    """Settings from what a checkpoint holds, plain dictionaries and lists only; what is not there is the default."""
    if not isinstance(value, dict):
        return value
    return cls(**{key: tuple(item) if isinstance(item, list) else item for key, item in value.items()})


def _encoder(config: ReconstructorConfig, weights: str) -> tuple[Path, dict[str, Tensor]]:
    if config.encoder == "vit":
        raise UsageError(
            "Argument `encoder_weights` is for DINOv2 encoders, but the architecture's is 'vit': set it to null."
        )
    return read_encoder(weights)


class CameraNoiseLike(Protocol):
    """What `vfusion3d.callbacks.CameraNoise` gives the module."""

    def apply(self, cameras: Cameras, batch: MultiViewBatch, target: str) -> Cameras:
        """Noisy cameras for ``target`` in {"source", "render"}."""


class ReconstructorTraining(ResumableModule):
    """Trains a `TriplaneReconstructor` from posed multi-view pictures.

    Batches are `MultiViewBatch`es (any data module of `vfusion3d.data`): view 0 is the input, all views are
    supervised on one patch each. The schedules of resolution, learning rate and camera noise are callbacks.

    Args:
        architecture: Preset of `vfusion3d.ReconstructorConfig`.
        changes: Fields of the preset to change.
        weights: Checkpoint to start from (anything `TriplaneReconstructor.from_pretrained` takes); then
            ``architecture``, ``changes`` and ``encoder_weights`` are ignored.
        encoder_weights: Where a DINOv2 encoder starts (paper: pretrained): a name on the Hugging Face hub such as
            ``facebook/dinov2-base``, a folder or a weight file; None for random weights.
        losses: Loss weights.
        optimizer: Its settings (AdamW as in the paper).
        patches: What is rendered per step.
        inputs: How inputs are prepared.
        gradient_checkpointing: Recompute the transformers' layers in the backward pass.
        compile: Compile the transformers' layers (`TriplaneReconstructor.compile_blocks`).
        seed: Decides patches, borders, backgrounds and jitter, together with a sample's index and epoch.

    Raises:
        CheckpointError: if weights to start from are not to be had or do not fit.
    """

    def __init__(
        self,
        architecture: str = "nano",
        changes: dict[str, Any] | None = None,
        weights: str | None = None,
        encoder_weights: str | None = None,
        losses: LossWeights = LossWeights(),
        optimizer: OptimizerSettings = OptimizerSettings(),
        patches: PatchSettings = PatchSettings(),
        inputs: InputSettings = InputSettings(),
        gradient_checkpointing: bool = False,
        compile: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        losses, optimizer = settings_from_plain(LossWeights, losses), settings_from_plain(OptimizerSettings, optimizer)
        patches, inputs = settings_from_plain(PatchSettings, patches), settings_from_plain(InputSettings, inputs)
        # What may be missing comes first: random weights of a large model take minutes.
        encoder: tuple[Path, dict[str, Tensor]] | None = None
        if weights is not None:
            self.model = TriplaneReconstructor.from_pretrained(weights).train()
        else:
            config = ReconstructorConfig.preset(architecture, **(changes or {}))
            encoder = None if encoder_weights is None else _encoder(config, encoder_weights)
        self._perceptual = PerceptualLoss(losses.trunk, losses.trunk_weights) if losses.perceptual else None
        if weights is None:
            self.model = TriplaneReconstructor(config)
        if encoder is not None:
            load_encoder(self.model, *encoder)
        self.model.gradient_checkpointing_enable(gradient_checkpointing)
        if compile:
            self.model.compile_blocks()
        self.losses, self.optimizer_settings, self.patches, self.inputs = losses, optimizer, patches, inputs
        self.seed = seed
        self.render_resolution: int | tuple[int, int] | None = None
        """Side of the picture patches are cut from, or a (low, high) range to draw it from per sample; None: as
        delivered."""
        self.camera_noise: CameraNoiseLike | None = None
        self._scores = NovelViewMetrics()
        self.save_hyperparameters(
            {
                "architecture": architecture,
                "changes": dict(changes or {}),
                "weights": weights,
                "encoder_weights": encoder_weights,
                "losses": dataclasses.asdict(losses),
                "optimizer": dataclasses.asdict(optimizer),
                "patches": dataclasses.asdict(patches),
                "inputs": dataclasses.asdict(inputs),
                "gradient_checkpointing": gradient_checkpointing,
                "compile": compile,
                "seed": seed,
            }
        )

    # -- Lightning hooks -----------------------------------------------------------------------------------
    def setup(self, stage: str) -> None:
        """Refuse precisions that would round cameras and rays with everything else.

        Raises:
            UsageError: for 16-true and bf16-true.
        """
        precision = str(self.trainer.precision)
        if precision in ("16-true", "bf16-true"):
            mixed = precision.replace("true", "mixed")
            raise UsageError(f"Precision {precision} would round cameras and rays; use {mixed} (--trainer.precision).")

    def configure_model(self) -> None:
        """Shard weights, gradients and Adam's moments over the processes if the strategy is `ModelParallelStrategy`.

        Each layer of the transformers is gathered when it is needed (FSDP2); numbers stay those of one process.

        Raises:
            UsageError: if the strategy would also split tensors.
        """
        strategy = None if self._trainer is None else self._trainer.strategy  # a loaded module has no trainer yet
        if not isinstance(strategy, ModelParallelStrategy) or isinstance(self.model, FSDPModule):
            return
        if strategy.device_mesh["tensor_parallel"].size() > 1:
            raise UsageError(
                "ModelParallelStrategy would split tensors over processes, which this model cannot: set its "
                "`tensor_parallel_size` to 1 and its `data_parallel_size` to the number of processes."
            )
        mesh = strategy.device_mesh["data_parallel"]
        for block in self.model.blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(self.model, mesh=mesh)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """As `build_optimizer`; the schedule belongs to `LearningRateRestart`."""
        return build_optimizer(self.model, self.optimizer_settings)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the progress, and what the weights are of."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[MODEL] = {"config": self.model.config.to_dict(), "version": __version__}

    def training_step(self, batch: MultiViewBatch, batch_idx: int) -> Tensor:
        """One step: reconstruct from view 0, render a patch of every view, compare."""
        terms = self.loss_terms(batch)
        loss = torch.stack([value * weight for value, weight in terms.values()]).sum()
        count = len(batch["images"])
        logged = {f"train/{name}": value.detach() for name, (value, _) in terms.items()}
        self.log_dict(logged, batch_size=count)
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=count)
        self.samples_seen += count * self.trainer.world_size
        return loss

    def validation_step(self, batch: MultiViewBatch, batch_idx: int) -> Rendering:  # type: ignore[override]
        """Score whole renders of the non-input views, or of the input if there is no other: `NovelViewMetrics`.

        Returns:
            The renders of all views, of the pictures' size, on white.
        """
        return self._score(batch)

    def on_validation_epoch_end(self) -> None:
        """Log ``val/psnr``, ``val/foreground_psnr``, ``val/ssim`` and ``val/iou``."""
        self._log_scores("val")

    def test_step(self, batch: MultiViewBatch, batch_idx: int) -> Rendering:  # type: ignore[override]
        """As validation."""
        return self._score(batch)

    def on_test_epoch_end(self) -> None:
        """Log ``test/psnr`` and so on."""
        self._log_scores("test")

    def predict_step(self, batch: MultiViewBatch, batch_idx: int) -> Rendering:
        """Renders of all views, of the pictures' size, on white."""
        return self.render_views(batch)

    def _score(self, batch: MultiViewBatch) -> Rendering:
        rendered, images = self.render_views(batch), batch["images"]
        novel = slice(min(1, images.shape[1] - 1), None)
        target, mask = over_white(images)[:, novel], images[:, novel, 3:]
        self._scores.update(rendered.rgb[:, novel], rendered.opacity[:, novel], target, mask, batch["sample"])
        return rendered

    def _log_scores(self, stage: str) -> None:
        """Log the means, which are the same in all processes, and start anew."""
        if not self._scores.update_called:
            return
        for name, value in self._scores.compute().items():
            self.log(f"{stage}/{name}", value, prog_bar=name == "psnr")
        self._scores.reset()

    # -- pieces --------------------------------------------------------------------------------------------
    def reconstruct(self, batch: MultiViewBatch, noise: bool = False) -> Triplanes:
        """Triplanes from view 0 of a batch, recentred as at test time."""
        images, cameras = batch["images"][:, 0], batch_cameras(batch)[:, 0]
        low, high = self.inputs.border
        unit = unit_noise(self.seed, batch["sample"], batch["epoch"], 1, _BORDER_STREAM)[:, 0]
        border = low + (high - low) * (unit if noise else torch.full_like(unit, 0.5))
        if noise and self.camera_noise is not None:
            cameras = self.camera_noise.apply(cameras, batch, "source")
        images, cameras = recentre_inputs(images, cameras, self.model.config.image_size, border)
        return self.model(images, cameras)

    def loss_terms(self, batch: MultiViewBatch) -> dict[str, tuple[Tensor, float]]:
        """Every loss term with its weight.

        Returns:
            name -> (value, weight); only terms whose weight is not 0.
        """
        triplanes = self.reconstruct(batch, noise=True)
        target, cameras, jitter = self._targets(batch)
        size = self.patches.size
        rendered = triplanes.render(
            cameras,
            size,
            size,
            background=0.0,
            coarse_samples=self.patches.coarse_samples,
            fine_samples=self.patches.fine_samples,
            jitter=jitter,
            recompute=self.patches.recompute,
        )
        background = self._background(batch, target)
        mask = target[:, :, 3:]
        colour = (rendered.rgb + (1 - rendered.opacity) * background).float()
        wanted = target[:, :, :3] + (1 - mask) * background
        weights, terms = self.losses, {}
        if weights.l2:
            terms["l2"] = (F.mse_loss(colour, wanted), weights.l2)
        if self._perceptual is not None:
            name = "lpips" if self._perceptual.is_lpips else "random_feature"
            terms[name] = (self._perceptual(colour.flatten(0, 1), wanted.flatten(0, 1)), weights.perceptual)
        if weights.opacity:
            terms["opacity"] = (opacity_loss(rendered.opacity, mask, weights.opacity_form), weights.opacity)
        if weights.inside:
            if "points" not in batch:
                raise UsageError("The loss weight `inside` needs labelled points: set `points` of the data module.")
            terms["inside"] = (inside_loss(triplanes.density(batch["points"]), batch["inside"]), weights.inside)
        if weights.total_variation:
            terms["total_variation"] = (total_variation(triplanes.planes), weights.total_variation)
        return terms

    def _targets(self, batch: MultiViewBatch) -> tuple[Tensor, Cameras, Tensor]:
        """Patches ``[B, V, 4, P, P]`` at the stage's resolution, their cameras and the samples' jitter."""
        images, cameras = batch["images"], batch_cameras(batch)
        if self.camera_noise is not None:
            cameras = self.camera_noise.apply(cameras, batch, "render")
        count, views = images.shape[:2]
        patch = self.patches.size
        unit = unit_noise(self.seed, batch["sample"], batch["epoch"], 3 * views + 1, _PATCH_STREAM)
        corners = unit[:, 1:].unflatten(-1, (views, 3))
        parts = []
        for rows, size in self._resolution_groups(unit[:, 0], images.shape[-1]):
            resized = area_resize(images[rows].flatten(0, 1), size, size)
            anchors = patch_anchors(resized[:, 3], patch, corners[rows].flatten(0, 1), self.patches.foreground)
            parts.append((rows, *crop_patches(resized, cameras[rows].reshape(-1), anchors, patch)))
        order = torch.cat([rows for rows, _, _ in parts]).argsort()
        patches = torch.cat([p.unflatten(0, (-1, views)) for _, p, _ in parts])[order]
        windows = Cameras.cat([c.reshape(-1, views) for _, _, c in parts])[order]
        jitter = unit_noise(self.seed, batch["sample"], batch["epoch"], views * patch * patch * 2, _JITTER_STREAM).view(
            count, views, patch * patch, 2
        )
        return patches, windows, jitter

    def _resolution_groups(self, unit: Tensor, delivered: int) -> list[tuple[Tensor, int]]:
        """Samples with the same render resolution: (row numbers, resolution).

        Raises:
            UsageError: if the pictures are smaller than that, or than a patch.
        """
        resolution = delivered if self.render_resolution is None else self.render_resolution
        require_pixels(max(resolution if isinstance(resolution, int) else resolution[1], self.patches.size), delivered)
        if isinstance(resolution, int):
            return [(torch.arange(len(unit), device=unit.device), resolution)]
        low, high = resolution
        sizes = low + (unit * (high - low + 1)).long()
        return [((sizes == size).nonzero()[:, 0], int(size)) for size in sizes.unique()]

    def _background(self, batch: MultiViewBatch, target: Tensor) -> Tensor:
        if not self.inputs.random_background:
            return target.new_ones(1)
        unit = unit_noise(self.seed, batch["sample"], batch["epoch"], target.shape[1], _BACKGROUND_STREAM)
        return unit[:, :, None, None, None]

    @torch.no_grad()
    def render_views(self, batch: MultiViewBatch) -> Rendering:
        """Renders on white of all views, of the pictures' size."""
        rendered = self.reconstruct(batch).render(batch_cameras(batch), *batch["images"].shape[-2:])
        return Rendering(*(picture.float() for picture in rendered))
