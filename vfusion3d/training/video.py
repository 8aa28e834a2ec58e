"""The LightningModule that turns a video diffusion model into an orbit generator (paper, section 3.2)."""

from __future__ import annotations

import dataclasses
import math
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from vfusion3d import __version__
from vfusion3d.cameras import Cameras
from vfusion3d.data.orbit_videos import OrbitBatch
from vfusion3d.data.randomness import unit_noise
from vfusion3d.errors import UsageError
from vfusion3d.metrics.orbits import OrbitMetrics
from vfusion3d.training.latents import LatentCache
from vfusion3d.training.module import settings_from_plain
from vfusion3d.training.optimisation import OptimizerSettings, build_optimizer
from vfusion3d.training.resuming import ResumableModule
from vfusion3d.video import Conditioning, VideoBackbone, create_backbone
from vfusion3d.video.attention import AttentionKind, set_attention
from vfusion3d.video.checkpointing import enable_checkpointing
from vfusion3d.video.guidance import Guidance
from vfusion3d.video.sampling import sample_latents
from vfusion3d.video.trainable import Trained, choose_trainable
from vfusion3d.video.trained import find_video_model, load_video_model, read_video_config

VIDEO = "vfusion3d_video"
"""Key of a checkpoint: what was trained, from what and on what orbits, as plain data."""
_LEVEL_STREAM, _NOISE_STREAM, _DROP_STREAM, _PICTURE_STREAM, _SAMPLE_STREAM = 201, 202, 203, 204, 205
_VALIDATION_LEVELS = 4


@dataclass(frozen=True)
class SamplingSettings:
    """Videos that validation generates, to look at and to score."""

    every_n_epochs: int = 1
    """Epochs between them; the last epoch always has some. 0: none."""
    videos: int = 4
    """How many, over all processes."""
    steps: int = 25
    """Denoising steps of each."""
    guidance: float = 2.0
    """Weight of the picture (Emu Video: 2)."""
    text_guidance: float = 7.5
    """Weight of the text, where the model reads one (Emu Video: 7.5)."""


class VideoFineTuner(ResumableModule):
    """Fine-tunes a video backbone on orbits with the standard diffusion loss.

    Batches are `OrbitBatch`es. A step depends on nothing but the weights, ``seed`` and the samples' numbers and epochs,
    so dropout inside the backbone is off. Checkpoints hold only what is trained, in float32, with the orbits' rig.

    Args:
        backbone: Name of the backbone, for example ``svd`` or ``emu`` (`vfusion3d.video.backbone_names`).
        source: A preset (random weights), a name on the Hugging Face hub or a local folder in diffusers' layout.
        changes: Options of the backbone.
        weights: A trained model to go on from (what `load_video_model` takes), trained in the same way; then
            ``backbone``, ``source``, ``changes`` and the two proposals are ignored. None to start from ``source``.
        train: ``temporal`` (the paper: temporal convolutions and attention alone), ``all`` or ``lora``.
        rank: Of the low-rank updates.
        ray_channels: Whether the denoiser reads Pluecker rays of the cameras beside its latents (`add_ray_channels`; a
            proposal of the paper's supplement).
        joint_attention: Whether all views attend to each other along epipolar lines where the denoiser is coarsest
            (`add_joint_attention`; the other proposal).
        optimizer: Its settings.
        drop_image: Chance that a sample's picture is dropped, for guidance.
        drop_text: Chance that its text is.
        image_noise: Mean and standard deviation of the logarithm of the noise that is put on the first frame before it
            is encoded, on pictures in [-1, 1] (Stable Video Diffusion: -3, 0.5); None for none.
        gradient_checkpointing: Recompute the denoiser's layers in the backward pass.
        attention: Kernels of the denoiser's attention (`vfusion3d.video.attention`).
        latent_cache: Folder in which encoded videos are kept (`LatentCache`), for data that come again; None for none.
        sampling: Videos that validation generates.
        seed: Decides levels, noise and what is dropped, together with a sample's index and epoch.

    Raises:
        UsageError: if a value is out of range or nothing would be trained.
        CheckpointError: if weights to start from are not to be had or do not fit.
    """

    def __init__(
        self,
        backbone: str = "svd",
        source: str = "stabilityai/stable-video-diffusion-img2vid",
        changes: dict[str, Any] | None = None,
        weights: str | None = None,
        train: Trained = "temporal",
        rank: int = 64,
        ray_channels: bool = False,
        joint_attention: bool = False,
        optimizer: OptimizerSettings = OptimizerSettings(learning_rate=1e-5),
        drop_image: float = 0.1,
        drop_text: float = 0.1,
        image_noise: tuple[float, float] | None = None,
        gradient_checkpointing: bool = False,
        attention: AttentionKind = "auto",
        latent_cache: str | None = None,
        sampling: SamplingSettings = SamplingSettings(),
        seed: int = 0,
    ) -> None:
        super().__init__()
        optimizer = settings_from_plain(OptimizerSettings, optimizer)
        sampling = settings_from_plain(SamplingSettings, sampling)
        for name, chance in (("drop_image", drop_image), ("drop_text", drop_text)):
            if not 0 <= chance <= 1:
                raise UsageError(f"Argument `{name}` must be in [0, 1], but got {chance}.")
        proposals = {"ray_channels": ray_channels, "joint_attention": joint_attention}
        options = {**(changes or {}), **{name: True for name, wanted in proposals.items() if wanted}}
        start: dict[str, Any] = {"backbone": backbone, "source": source, "changes": options, "lineage": []}
        if weights is None:
            self.backbone = create_backbone(backbone, source, **options)
        else:
            self.backbone, start = _trained_model(weights, train)
        self.report = choose_trainable(self.backbone, train, rank)
        """What is trained and what is frozen."""
        for module in self.backbone.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        self.backbone.train()
        if gradient_checkpointing:
            enable_checkpointing(self.backbone)
        set_attention(self.backbone, attention)
        self.optimizer_settings, self.sampling, self.seed = optimizer, sampling, seed
        self.drop_image, self.drop_text = drop_image, drop_text
        self.image_noise = None if image_noise is None else (float(image_noise[0]), float(image_noise[1]))
        self.latent_cache = latent_cache
        self.rig: dict[str, Any] | None = None
        """The rig of the orbits that it was trained on, as plain data; None if the data do not tell."""
        self.resolution: int | None = None
        """Side of the frames that it was trained on, in pixels."""
        self._cache: LatentCache | None = None
        self._scores, self._still_scores = OrbitMetrics(), OrbitMetrics()
        self._sampled = 0
        self._about = {**start, "licence": self.backbone.licence, "train": train, "rank": rank}
        self.trained = frozenset(name for name, weight in self.named_parameters() if weight.requires_grad)
        """Names of the weights that are trained, which alone are in the state dict."""
        self.register_state_dict_post_hook(_leave_out_frozen)
        self.register_load_state_dict_post_hook(_miss_no_frozen)
        self.save_hyperparameters(
            {
                "backbone": backbone,
                "source": source,
                "changes": dict(changes or {}),
                "weights": weights,
                "train": train,
                "rank": rank,
                "ray_channels": ray_channels,
                "joint_attention": joint_attention,
                "optimizer": dataclasses.asdict(optimizer),
                "drop_image": drop_image,
                "drop_text": drop_text,
                "image_noise": None if self.image_noise is None else list(self.image_noise),
                "gradient_checkpointing": gradient_checkpointing,
                "attention": attention,
                "latent_cache": latent_cache,
                "sampling": dataclasses.asdict(sampling),
                "seed": seed,
            }
        )

    # -- Lightning hooks -------------------------------------------------------------------------------------------
    def setup(self, stage: str) -> None:
        """Say what is trained, open the latents' folder and learn the rig.

        Raises:
            UsageError: for precisions and strategies that it cannot be trained with.
            OutputError: if the latents' folder cannot be written.
        """
        precision = str(self.trainer.precision)
        if precision in ("16-true", "bf16-true"):
            mixed = precision.replace("true", "mixed")
            raise UsageError(
                f"Precision {precision} would round away steps as small as fine-tuning's; use {mixed} "
                "(--trainer.precision)."
            )
        halves = any(parameter.dtype == torch.bfloat16 for parameter in self.backbone.parameters())
        if halves and precision != "bf16-mixed":
            raise UsageError(
                "Frozen weights in bfloat16 (the backbone's option `half`) need --trainer.precision bf16-mixed, but it "
                f"is {precision}: change either."
            )
        if isinstance(self.trainer.strategy, (ModelParallelStrategy, FSDPStrategy)):
            raise UsageError(
                "VideoFineTuner keeps a whole copy of the model on every device, since only a part of it is trained: "
                "use --trainer.strategy ddp."
            )
        data: Any = getattr(self.trainer, "datamodule", None)
        if self.latent_cache is not None:
            if getattr(data, "endless", False):
                raise UsageError(
                    "Argument `latent_cache` is for orbits that come again, but these are new in every epoch: set it "
                    "to null, or the data's `objects` to a number."
                )
            self._cache = LatentCache(self.latent_cache)
        rig = getattr(data, "rig", None)
        self.rig = self.rig if rig is None else dataclasses.asdict(rig)
        self.resolution = getattr(data, "resolution", self.resolution)
        if stage == "fit":
            rank_zero_info(str(self.report))
            # Encoders and codec always are.
            warnings.filterwarnings("ignore", r"Found \d+ module\(s\) in eval mode", UserWarning)

    @property
    def about(self) -> dict[str, Any]:
        """What is trained, from what and on what orbits, as plain data."""
        return {**self._about, "rig": self.rig, "resolution": self.resolution, "version": __version__}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """As `build_optimizer`; the schedule belongs to `LearningRateRestart`."""
        return build_optimizer(self.backbone, self.optimizer_settings)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the progress, and what the weights are of."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[VIDEO] = self.about

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the progress, and the rig unless the data have one.

        Raises:
            UsageError: if the data have another, or a step would have another number of samples.
        """
        super().on_load_checkpoint(checkpoint)
        about = checkpoint.get(VIDEO, {})
        then = about.get("rig")
        if None not in (then, self.rig) and then != self.rig:
            raise UsageError(
                f"The checkpoint was trained on orbits of the rig {then}, but the data have {self.rig}: resume with "
                "data of the same rig."
            )
        self.rig, self.resolution = self.rig or then, self.resolution or about.get("resolution")

    def training_step(self, batch: OrbitBatch, batch_idx: int) -> Tensor:
        """One step of denoising."""
        loss = self.loss(batch)
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(batch["frames"]))
        self.samples_seen += len(batch["frames"]) * self.trainer.world_size
        return loss

    def on_validation_epoch_start(self) -> None:
        """Count sampled videos anew."""
        self._sampled = 0

    def validation_step(self, batch: OrbitBatch, batch_idx: int) -> Tensor | None:
        """The denoising loss at fixed levels, without dropping or noise on the picture; and sampled videos.

        Returns:
            Videos ``[N, F, 3, H, W]`` of the first N orbits of the batch, or None where none are due.
        """
        return self._validated(batch, "val", self._due())

    def on_validation_epoch_end(self) -> None:
        """Log the figures of `OrbitMetrics`, and ``still_psnr``: that of a video that only repeats its first frame."""
        self._log_scores("val")

    def on_test_epoch_start(self) -> None:
        """Count sampled videos anew."""
        self._sampled = 0

    def test_step(self, batch: OrbitBatch, batch_idx: int) -> Tensor | None:
        """As validation, every orbit sampled."""
        return self._validated(batch, "test", len(batch["frames"]))

    def on_test_epoch_end(self) -> None:
        """As validation."""
        self._log_scores("test")

    def predict_step(self, batch: OrbitBatch, batch_idx: int) -> Tensor:
        """A sampled video of each orbit, ``[B, F, 3, H, W]`` in [0, 1]."""
        return self.sample(batch)

    # -- pieces ----------------------------------------------------------------------------------------------------
    def loss(self, batch: OrbitBatch) -> Tensor:
        """``mean(weight * (raw - target)^2)`` in float32."""
        samples, epochs = batch["sample"], batch["epoch"]
        with torch.no_grad():
            conditioning = self._conditioning(batch, noisy=True)
            drop = unit_noise(self.seed, samples, epochs, 2, _DROP_STREAM)
            conditioning = self.backbone.dropped(
                conditioning, drop[:, 0] < self.drop_image, drop[:, 1] < self.drop_text
            )
            unit = unit_noise(self.seed, samples, epochs, 1, _LEVEL_STREAM)[:, 0]
            clean = self._latents(batch["frames"])
            noise = normal_noise(self.seed, samples, epochs, clean[0].shape, _NOISE_STREAM)
        return self._error(clean, conditioning, unit, noise)

    def _error(self, clean: Tensor, conditioning: Conditioning, unit: Tensor, noise: Tensor) -> Tensor:
        with torch.no_grad():
            pair = self.backbone.process.pair(clean, noise, self.backbone.process.levels(unit))
        raw = self.backbone(pair.inputs, pair.timesteps, conditioning)
        error = (raw.float() - pair.target).square().mean((1, 2, 3, 4))
        return (pair.weight * error).mean()

    def _latents(self, frames: Tensor) -> Tensor:
        if self._cache is not None:
            return self._cache.encode(self.backbone, frames)
        return self.backbone.encode(frames).float()

    def _conditioning(self, batch: OrbitBatch, noisy: bool = False) -> Conditioning:
        """What the denoiser is told of each orbit."""
        first = batch["frames"][:, 0]
        noise: dict[str, Tensor] = {}
        if noisy and self.image_noise is not None:
            drawn = [
                normal_noise(self.seed, batch["sample"], batch["epoch"], shape, _PICTURE_STREAM + 10 * k)
                for k, shape in enumerate((first[0].shape, torch.Size([1])))
            ]
            mean, spread = self.image_noise
            noise = {"noise": drawn[0], "noise_level": (mean + spread * drawn[1][:, 0]).exp()}
        text = batch["caption"] if self.backbone.reads_text else None
        conditioning = self.backbone.condition(first, text, **noise)
        if not self.backbone.reads_cameras:
            return conditioning
        return dataclasses.replace(conditioning, cameras=Cameras(batch["poses"], batch["intrinsics"]).vectors)

    @torch.no_grad()
    def sample(self, batch: OrbitBatch) -> Tensor:
        """A video from the first frame of each orbit, ``[B, F, 3, H, W]`` in [0, 1], whatever else is in the batch."""
        conditioning = self._conditioning(batch)
        shape = torch.Size([batch["frames"].shape[1], *conditioning.image.shape[1:]])
        noise = normal_noise(self.seed, batch["sample"], torch.zeros_like(batch["epoch"]), shape, _SAMPLE_STREAM)
        guidance = Guidance(image=self.sampling.guidance, text=self.sampling.text_guidance)
        has_text = torch.tensor([bool(text) and self.backbone.reads_text for text in batch["caption"]])
        latents = sample_latents(
            self.backbone, conditioning, noise, steps=self.sampling.steps, guidance=guidance, has_text=has_text
        )
        return self.backbone.decode(latents).float()

    def _due(self) -> int:
        """Videos that this process has yet to sample in this validation."""
        every, epoch = self.sampling.every_n_epochs, self.current_epoch + 1
        last = self.trainer.max_epochs is not None and epoch >= self.trainer.max_epochs
        if self.trainer.sanity_checking or not every or (epoch % every and not last):
            return 0
        return math.ceil(self.sampling.videos / self.trainer.world_size) - self._sampled

    def _validated(self, batch: OrbitBatch, stage: str, due: int) -> Tensor | None:
        frames = batch["frames"]
        conditioning, clean = self._conditioning(batch), self._latents(frames)
        first = torch.zeros_like(batch["epoch"])
        losses = []
        for level in range(_VALIDATION_LEVELS):
            noise = normal_noise(self.seed, batch["sample"], first + level, clean[0].shape, _NOISE_STREAM)
            unit = torch.full((len(frames),), (level + 0.5) / _VALIDATION_LEVELS, device=frames.device)
            losses.append(self._error(clean, conditioning, unit, noise))
        self.log(f"{stage}/loss", torch.stack(losses).mean(), batch_size=len(frames), prog_bar=True, sync_dist=True)
        if due < 1:
            return None
        chosen: Any = {key: value[:due] for key, value in batch.items()}  # type: ignore[index]
        video, truth = self.sample(chosen), chosen["frames"]
        self._sampled += len(video)
        self._scores.update(video, truth, chosen["sample"], Cameras(chosen["poses"], chosen["intrinsics"]))
        self._still_scores.update(truth[:, :1].expand_as(truth), truth, chosen["sample"])
        return video

    def _log_scores(self, stage: str) -> None:
        """Log the means, which are the same in all processes, and start anew."""
        if not self._scores.update_called:
            return
        figures = self._scores.compute() | {"still_psnr": self._still_scores.compute()["psnr"]}
        for name, value in figures.items():
            if value.isfinite():
                self.log(f"{stage}/{name}", value, prog_bar=name == "psnr")
        self._scores.reset()
        self._still_scores.reset()


def _trained_model(weights: str, train: Trained) -> tuple[VideoBackbone, dict[str, Any]]:
    """A trained model, and what its training started from.

    Raises:
        CheckpointError: if it cannot be loaded.
        UsageError: if something else of it was trained, which would be lost with what is frozen now.
    """
    config = read_video_config(find_video_model(weights))
    if config.train != train:
        raise UsageError(
            f"Argument `train` is {train!r}, but {weights} was trained {config.train!r}: set it to that to go on."
        )
    start = {"backbone": config.backbone, "source": config.source, "changes": dict(config.options)}
    start["lineage"] = [f"Started from {weights}: {config.licence}", *config.lineage]
    return load_video_model(weights), start


def _leave_out_frozen(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    """What is frozen comes from where the backbone came from."""
    trained: Any = module.trained
    for name in [name for name in state if name.startswith(prefix) and name[len(prefix) :] not in trained]:
        del state[name]


def _miss_no_frozen(module: nn.Module, keys: Any) -> None:
    """Nor is it missed; an average of the weights holds the module as its ``module``."""
    trained: Any = module.trained
    keys.missing_keys[:] = [name for name in keys.missing_keys if name.removeprefix("module.") in trained]


def normal_noise(seed: int, samples: Tensor, epochs: Tensor, shape: torch.Size, stream: int) -> Tensor:
    """Standard normal numbers ``[B, *shape]`` that depend on (seed, sample, epoch) alone (Box-Muller)."""
    count = shape.numel()
    unit = unit_noise(seed, samples, epochs, 2 * count, stream).view(-1, 2, count)
    radius = (-2 * torch.log1p(-unit[:, 0])).sqrt()
    return (radius * torch.cos(2 * math.pi * unit[:, 1])).view(-1, *shape)
