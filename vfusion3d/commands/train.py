"""`vfusion3d fit | validate | test | predict`: LightningCLI with the paper's schedules as top-level keys."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from vfusion3d.callbacks import CameraNoise, LearningRateRestart, ResolutionSchedule
from vfusion3d.errors import UsageError
from vfusion3d.recipes import find_recipe

SCHEDULES = {"resolution": ResolutionSchedule, "learning_rate": LearningRateRestart, "camera_noise": CameraNoise}
"""Top-level keys of a recipe, each the arguments of one callback or null."""


class TrainingCLI(LightningCLI):
    """LightningCLI with the optional keys of `SCHEDULES`; ``recipes/...`` names a file inside the package."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the schedules."""
        for key, callback in SCHEDULES.items():
            parser.add_argument(
                f"--{key}",
                type=callback | None,
                default=None,
                help=f"arguments of {callback.__name__}, or null for none",
            )

    def _parse_ckpt_path(self) -> None:
        """Lightning would let a checkpoint's settings silently beat the recipe; `_check_recipe` compares instead."""

    def instantiate_classes(self) -> None:
        """Instantiate, then refuse to resume with a changed recipe."""
        super().instantiate_classes()
        path = self._get(self.config, "ckpt_path")
        if path is not None and Path(path).is_file():
            _check_recipe(path, dict(self.model.hparams))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Append the schedules to the trainer's callbacks."""
        schedules = [self._get(self.config_init, key) for key in SCHEDULES]
        config = {**self._get(self.config_init, "trainer", default={}), **kwargs}
        return self._instantiate_trainer(config, [schedule for schedule in schedules if schedule is not None])


def _check_recipe(path: str, settings: dict[str, Any]) -> None:
    """Compare a checkpoint's hyperparameters with the model's.

    Raises:
        UsageError: naming the settings that differ.
    """
    saved = torch.load(path, map_location="cpu", weights_only=True, mmap=True).get("hyper_parameters", {})
    changed = sorted(key for key in settings.keys() & saved.keys() if settings[key] != saved[key])
    if changed:
        raise UsageError(
            f"The checkpoint {path} was trained with other settings of {', '.join(changed)}, and resuming with a changed "
            "recipe is not possible: use its own recipe, config.yaml in its run's folder, or start a new run from an "
            "exported model with --model.init_args.weights."
        )


def main(arguments: list[str]) -> int:
    """Run LightningCLI on the arguments as they are (DDP relaunches ``sys.argv``)."""
    sys.argv = [sys.argv[0], *_with_packaged_recipes(arguments)]
    TrainingCLI(
        LightningModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_callback=SaveConfigCallback,
        save_config_kwargs={"overwrite": True},
    )
    return 0


def _with_packaged_recipes(arguments: list[str]) -> list[str]:
    """``--config recipes/x.yaml`` works from any folder: what is not a file here may be in the package."""
    result = []
    for previous, argument in zip(["", *arguments], arguments, strict=False):
        prefix, path = "", argument
        if argument.startswith("--config="):
            prefix, path = "--config=", argument[len("--config=") :]
        elif previous not in ("--config", "-c"):
            result.append(argument)
            continue
        packaged = None if Path(path).exists() else find_recipe(path)
        result.append(prefix + (str(packaged) if packaged else path))
    return result
