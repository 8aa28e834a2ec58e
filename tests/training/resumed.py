"""A tiny training run that writes what it does, for the tests of resuming; also a process of its own:

python resumed.py FOLDER '{"epochs": 3, ...}'
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint

from vfusion3d.callbacks import CameraNoise, LearningRateRestart, ResolutionSchedule, SkipNonFinite
from vfusion3d.data import ProceduralDataModule
from vfusion3d.training import LossWeights, OptimizerSettings, PatchSettings, ReconstructorTraining


def module(weights: str | None, **changes: Any) -> ReconstructorTraining:
    torch.manual_seed(0)
    return ReconstructorTraining(
        "tiny",
        weights=weights,
        losses=LossWeights(perceptual=0.0, l2=1.0, opacity=0.1),
        optimizer=OptimizerSettings(**changes),
        patches=PatchSettings(size=8, foreground=0.5),
    )


class Journal(Callback):
    """One JSON line per batch: everything that the schedules and the sample order decide, and the loss.

    Args:
        folder: Where; one file per process.
        kill: Batch, counted from the start of this process, in whose training step it dies of SIGKILL.
        fail: As ``kill``, but by an exception.
    """

    def __init__(self, folder: Path, kill: int | None = None, fail: int | None = None) -> None:
        self.folder, self.kill, self.fail = Path(folder), kill, fail
        self.batches = 0
        self.noise = ""

    def on_before_backward(self, trainer, pl_module, loss):
        self.batches += 1
        if self.batches == self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.batches == self.fail:
            raise ValueError("stopped by the test")

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        from vfusion3d.data.batches import batch_cameras

        noisy = pl_module.camera_noise.apply(batch_cameras(batch), batch, "render")
        rows = [hashlib.sha256(row.numpy().tobytes()).hexdigest()[:12] for row in noisy.vectors.cpu()]
        self.noise = dict(zip(batch["sample"].tolist(), rows, strict=True))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        per_step = len(batch["images"]) * trainer.world_size * trainer.accumulate_grad_batches
        drawn = zip(batch["epoch"].tolist(), batch["sample"].tolist(), strict=True)
        line = {
            "step": -(-pl_module.samples_seen // per_step),
            "epoch": trainer.current_epoch,
            "lr": round(trainer.optimizers[0].param_groups[0]["lr"], 12),
            "resolution": pl_module.render_resolution,
            "samples_seen": pl_module.samples_seen,
            "samples": [[epoch, sample, self.noise[sample]] for epoch, sample in drawn],
            "loss": float(outputs["loss"]),
        }
        with open(self.folder / f"journal_{trainer.global_rank}.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")


def fit(
    folder: Path | str,
    resume: Path | str | None = None,
    epochs: int = 3,
    samples: int = 8,
    batch_size: int = 4,
    devices: int = 1,
    accumulate: int = 1,
    workers: int = 0,
    ema: bool = False,
    kind: str = "adamw",
    weights: str | None = None,
    kill: int | None = None,
    fail: int | None = None,
    callbacks: tuple[Callback, ...] = (),
    **options: Any,
) -> ReconstructorTraining:
    """Train, with a checkpoint after every step, epoch and validation; three stages and a restart in three epochs."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model = module(weights, kind=kind)
    data = ProceduralDataModule(
        samples_per_epoch=samples, batch_size=batch_size, resolution=24, views=2, val_samples=2, num_workers=workers
    )
    keep: dict[str, Any] = {"save_top_k": -1, "auto_insert_metric_name": False}
    trainer = Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        max_epochs=epochs,
        accumulate_grad_batches=accumulate,
        gradient_clip_val=1.0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        callbacks=[
            ResolutionSchedule([8, 16, 24], [1, 1.25, 0.75]),
            LearningRateRestart(1e-3, [1.5, 1.5], warmup_steps=1, warmup_fraction=0.2),
            CameraNoise(targets="both"),
            SkipNonFinite(),
            *([EMAWeightAveraging(decay=0.8)] if ema else []),
            Journal(folder, kill, fail),
            ModelCheckpoint(folder, "step{step}", every_n_train_steps=1, **keep),
            ModelCheckpoint(folder, "epoch{step}", every_n_epochs=1, save_on_train_epoch_end=True, **keep),
            ModelCheckpoint(folder, "validated{step}", mode="max", save_on_train_epoch_end=False, **keep),
            *callbacks,
        ],
        **options,
    )
    trainer.fit(model, data, ckpt_path=resume, weights_only=True)
    if trainer.is_global_zero:
        torch.save(model.model.state_dict(), folder / "weights.pt")
    return model


def journal(folder: Path | str) -> list[dict[str, Any]]:
    """What a run did per optimiser step, over all its batches and processes; samples in the order of their numbers."""
    steps: dict[int, dict[str, Any]] = {}
    files = sorted(Path(folder).glob("journal_*.jsonl"))
    for path in files:
        for line in map(json.loads, path.read_text().splitlines()):
            step = steps.setdefault(line["step"], {**line, "samples": [], "loss": 0.0})
            step["samples"] = sorted(step["samples"] + line["samples"])
            step["samples_seen"] = max(step["samples_seen"], line["samples_seen"])
            step["lr"] = line["lr"]  # of the batch that took the step
            step["loss"] += line["loss"] / len(files)
    return [steps[k] for k in sorted(steps)]


if __name__ == "__main__":
    fit(sys.argv[1], **json.loads(sys.argv[2]))
