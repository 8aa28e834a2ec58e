"""A recipe run inside the chain: with its own checkpoints, from which an interrupted run goes on."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger

from vfusion3d.callbacks import CameraNoise, LearningRateRestart, ResolutionSchedule
from vfusion3d.commands.nano.chain import Progress
from vfusion3d.commands.nano.settings import merged, recipe_text
from vfusion3d.training.checkpoint_io import WholeCheckpointIO

CHECKPOINTS, MODEL, PICTURES = "checkpoints", "model", "pictures"
_FOLDERS = {
    "ModelCheckpoint": CHECKPOINTS,
    "ExportModel": MODEL,
    "OrbitSheets": PICTURES,
    "NovelViewSheets": PICTURES,
}
_SCHEDULES = {"resolution": ResolutionSchedule, "learning_rate": LearningRateRestart, "camera_noise": CameraNoise}


class _Report(Callback):
    """Tells the chain how far the run is."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After every step."""
        self.progress(trainer.global_step / trainer.estimated_stepping_batches)


def fit(recipe: str, changes: Mapping[str, Any], folder: Path, progress: Progress, **exported: str) -> Trainer:
    """Run a packaged recipe, or go on with it.

    Args:
        recipe: Its name.
        changes: Values in place of the recipe's, nested as it is.
        folder: Gets ``checkpoints``, ``pictures``, ``model`` (as far as the recipe writes such) and ``metrics.csv``.
        progress: Told the share of the steps that are done.
        exported: Arguments of the recipe's `ExportModel`.
    """
    document = merged(yaml.safe_load(recipe_text(recipe)), changes)
    lightning.seed_everything(document["seed_everything"], verbose=False)
    callbacks: list[Callback] = [_Report(progress)]
    for entry in document["trainer"].pop("callbacks"):
        place = _FOLDERS.get(entry["class_path"].rsplit(".", 1)[-1])
        more = {} if place is None else {"dirpath": str(folder / place)}
        callbacks.append(_instance(entry, **more, **(exported if place == MODEL else {})))
    for key, schedule in _SCHEDULES.items():
        if document[key] is not None:
            callbacks.append(schedule(**document[key]))
    module, data = _instance(document["model"]), _instance(document["data"])
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice on workers and loggers, which means nothing at this size
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        trainer = Trainer(
            **{**document["trainer"], **quiet, "default_root_dir": folder, "accelerator": "cpu"},
            callbacks=callbacks,
            logger=CSVLogger(folder, name="", version="log"),
            plugins=[WholeCheckpointIO()],
        )
        last = folder / CHECKPOINTS / "last.ckpt"
        try:
            trainer.fit(module, data, ckpt_path=str(last) if last.exists() else None)
        except SystemExit as stop:
            if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning turns it into exit code 1
                raise KeyboardInterrupt from None
            raise
    return trainer


def _instance(entry: Mapping[str, Any], **more: Any) -> Any:
    """What a recipe's ``class_path`` and ``init_args`` describe."""
    package, _, name = entry["class_path"].rpartition(".")
    return getattr(importlib.import_module(package), name)(**{**(entry.get("init_args") or {}), **more})
