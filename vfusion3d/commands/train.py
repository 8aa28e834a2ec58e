"""`vfusion3d fit | validate | test | predict | plan`: LightningCLI with the paper's schedules as top-level keys."""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from argparse import ArgumentError
from dataclasses import asdict, fields
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, SingleDeviceStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only

from vfusion3d.callbacks import CameraNoise, LearningRateRestart, ResolutionSchedule, SaveOnSigterm, Throughput
from vfusion3d.commands.arguments import one_line
from vfusion3d.commands.plan import PLAN, PlanningTrainer, add_plan_arguments, check_batch, show_plan
from vfusion3d.data.held_out import excluded_names
from vfusion3d.errors import (
    CheckpointError,
    MissingExtraError,
    TrainingError,
    TrainingTerminated,
    UsageError,
    VFusion3DError,
)
from vfusion3d.outputs import CANNOT_WRITE, output_errors
from vfusion3d.recipes import find_recipe, list_recipes
from vfusion3d.training.checkpoint_io import WholeCheckpointIO, read_checkpoint
from vfusion3d.training.export import RECIPE
from vfusion3d.training.module import SETTINGS, settings_from_plain

_PER_MACHINE = ("num_workers", "cache_gib", "root")
"""Settings of the data that a resumed run may change."""
_COST_ONLY = ("gradient_checkpointing", "compile", "recompute", "attention", "latent_cache", "sampling")
"""Settings of the model that a resumed run may change: they decide memory, speed and what is shown, not weights."""

SCHEDULES = {"resolution": ResolutionSchedule, "learning_rate": LearningRateRestart, "camera_noise": CameraNoise}
"""Top-level keys of a recipe, each the arguments of one callback or null."""


class RecipeInCheckpoint(SaveConfigCallback):
    """Also keeps the recipe's data and schedules in every checkpoint, and refuses to resume with others."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write ``config.yaml``, and read the lists that the recipe names once, while they are there."""
        super().setup(trainer, pl_module, stage)
        self.recipe = self._recipe(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Plain text, so that checkpoints load with ``weights_only=True``."""
        checkpoint[RECIPE] = json.dumps(self.recipe)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Compare.

        Raises:
            UsageError: naming the settings that differ.
        """
        if trainer.state.fn != TrainerFn.FITTING or RECIPE not in checkpoint:
            return
        changed = _differences(json.loads(checkpoint[RECIPE]), self.recipe)
        if changed:
            raise _changed_recipe("The checkpoint", changed)

    def _recipe(self, trainer: Trainer) -> dict[str, Any]:
        """Data and schedules, with samples per step and the names in lists, without what may change."""
        document = json.loads(self.parser.dump(self.config, format="json", skip_none=False))

        def kept(key: str, value: Any) -> Any:
            if key == "exclude" and value is not None:
                return sorted(excluded_names(value))
            if isinstance(value, dict):
                return {k: kept(k, v) for k, v in value.items() if k not in _PER_MACHINE}
            if isinstance(value, list):
                return [kept("", item) for item in value]
            if key == "batch_size" and isinstance(value, int):
                return value * trainer.world_size * trainer.accumulate_grad_batches
            return value

        return {key: kept(key, document.get(key)) for key in ("data", *SCHEDULES)}


def _changed_recipe(subject: str, changed: list[str]) -> UsageError:
    return UsageError(
        f"{subject} was trained with other settings of {', '.join(changed)}, and resuming with a changed recipe is not "
        "possible: use its own recipe, config.yaml in its run's folder, or start a new run from an exported model with "
        "--model.init_args.weights."
    )


class _EndTogether(Callback):
    """An error of the first process ends those that it started, which would wait for it."""

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        launcher = trainer.strategy.launcher
        if isinstance(launcher, _SubprocessScriptLauncher) and not isinstance(exception, TrainingError):
            launcher.kill(signal.SIGKILL)


class TrainingCLI(LightningCLI):
    """LightningCLI with the optional keys of `SCHEDULES`; ``recipes/...`` names a file inside the package."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's, and ``plan``."""
        return {**LightningCLI.subcommands(), "plan": set()}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the schedules and the total batch."""
        parser.add_argument(
            "--total_batch",
            type=int | None,
            default=None,
            help="samples per optimiser step over all devices, which batch_size x devices x num_nodes x "
            "accumulate_grad_batches must make, or null to leave that unchecked",
        )
        for key, callback in SCHEDULES.items():
            parser.add_argument(
                f"--{key}",
                type=callback | None,
                default=None,
                help=f"arguments of {callback.__name__}, or null for none",
            )

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "plan":
            add_plan_arguments(parser)
        return parser

    def _parse_ckpt_path(self) -> None:
        """Lightning would let a checkpoint's settings silently beat the recipe; `_check_recipe` compares instead."""

    def instantiate_classes(self) -> None:
        """Instantiate, then refuse to resume with a changed recipe.

        Raises:
            VFusion3DError: if a value of the recipe is refused, or the checkpoint is no use. jsonargparse wraps
                whatever a constructor raises in a ValueError; what is no complaint about a value leaves as it was.
        """
        if self.subcommand == "plan":  # needs no instances
            return
        if self.subcommand == "fit":
            check_batch(self.config.fit)
        path = self._get(self.config, "ckpt_path")
        if path == "best":
            raise UsageError(
                "--ckpt_path best is known only to the process that trained; give the .ckpt file, in the checkpoints "
                "folder of its run."
            )
        checkpoint = None if path is None or _is_lightnings(path) else read_checkpoint(path)
        try:
            super().instantiate_classes()
        except (ValueError, MisconfigurationException) as error:
            cause: BaseException = error
            while str(cause).startswith("Does not validate") and cause.__cause__ is not None:
                cause = cause.__cause__
            if isinstance(cause, VFusion3DError) or not isinstance(cause, (ValueError, MisconfigurationException)):
                raise cause from cause.__cause__
            if "Requirement 'wandb" in str(cause):
                raise MissingExtraError("WandbLogger needs Weights & Biases: pip install wandb.") from error
            raise UsageError(f"{one_line(str(cause))}; correct the recipe or the option.") from error
        if checkpoint is not None:
            _check_recipe(path, checkpoint, self.model)

    def _run_subcommand(self, subcommand: str) -> None:
        if subcommand == "plan":
            show_plan(self._parser(subcommand), self.config.plan)
        else:
            super()._run_subcommand(subcommand)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add the schedules, speed and time left, and the usual loggers; let the trainer write checkpoints whole."""
        schedules = [self._get(self.config_init, key) for key in SCHEDULES]
        config = {**self._get(self.config_init, "trainer", default={}), **kwargs}
        if config.get("logger") in (None, True):
            config["logger"] = _usual_loggers(config.get("default_root_dir") or os.getcwd())
        callbacks = [schedule for schedule in schedules if schedule is not None]
        if not any(isinstance(callback, Throughput) for callback in config.get("callbacks") or []):
            callbacks.append(Throughput())
        # Last, so that its checkpoint holds what the others did at the end of the step.
        trainer = self._instantiate_trainer(config, [*callbacks, SaveOnSigterm(), _EndTogether()])
        strategy = trainer.strategy  # others write in ways of their own
        whole = (SingleDeviceStrategy, DDPStrategy, ModelParallelStrategy)
        if type(strategy) in whole and type(strategy.checkpoint_io) is TorchCheckpointIO:
            strategy.checkpoint_io = WholeCheckpointIO()
        if not isinstance(strategy, ModelParallelStrategy):  # what is not sharded may well be averaged
            warnings.filterwarnings("ignore", ".*WeightAveraging callback with a model that overrides", UserWarning)
        return trainer


def _usual_loggers(root: str) -> list[Logger]:
    """TensorBoard and a table, in one folder."""
    board = TensorBoardLogger(root, version=SLURMEnvironment.job_id())
    restarts = os.environ.get("SLURM_RESTART_COUNT")  # a requeued job must not begin the table of its first run anew
    version = f"version_{board.version}" + (f"_restart_{restarts}" if restarts else "")
    # The table's logger warns of the other's files.
    warnings.filterwarnings("ignore", "Experiment logs directory .* exists and is not empty", UserWarning)
    return [board, CSVLogger(root, version=version)]


def _is_lightnings(path: str) -> bool:
    """Whether ``--ckpt_path`` is a word, an address or a folder of shards that Lightning looks up itself."""
    return path in ("last", "hpc") or path.startswith("registry") or "://" in path or os.path.isdir(path)


def _check_recipe(path: str, checkpoint: dict[str, Any], model: LightningModule) -> None:
    """Compare a checkpoint's hyperparameters and weights with the model's.

    Raises:
        UsageError: naming the settings that differ.
        CheckpointError: if the settings are the same and the weights are not.
    """
    saved = dict(checkpoint.get("hyper_parameters", {}))
    for name, kind in SETTINGS.items():  # a version that knew fewer settings had the others at their defaults
        if isinstance(saved.get(name), dict) and saved[name].keys() <= {field.name for field in fields(kind)}:
            saved[name] = json.loads(json.dumps(asdict(settings_from_plain(kind, saved[name]))))
    saved, settings = (_what_counts(values) for values in (saved, json.loads(json.dumps(dict(model.hparams)))))
    changed = sorted(key for key in settings.keys() & saved.keys() if saved[key] != settings[key])
    if changed:
        raise _changed_recipe(f"The checkpoint {path}", changed)
    wanted = {key: value.shape for key, value in model.state_dict().items()}
    if wanted != {key: value.shape for key, value in checkpoint["state_dict"].items()}:
        raise CheckpointError(
            f"The checkpoint {path} belongs to another architecture than the recipe's {type(model).__name__}; give "
            "one of the same model and version of vfusion3d."
        )


def _what_counts(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of a model without those that decide only memory and speed."""
    return {
        key: _what_counts(value) if isinstance(value, dict) else value
        for key, value in settings.items()
        if key not in _COST_ONLY
    }


def _differences(then: Any, now: Any, path: str = "") -> list[str]:
    """Dotted names of what differs between two recipes."""
    if isinstance(then, dict) and isinstance(now, dict):
        # A key that was not there yet had no other value either.
        names = {key: f"{path}.{key}".lstrip(".").replace(".init_args", "") for key in sorted(then)}
        pairs = [(then[key], now.get(key), name) for key, name in names.items()]
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        pairs = [(a, b, f"{path}[{k}]") for k, (a, b) in enumerate(zip(then, now, strict=True))]
    else:
        return [] if then == now else [path]
    return [name for a, b, name in pairs for name in _differences(a, b, name)]


def main(arguments: list[str]) -> int:
    """Run LightningCLI on the arguments as they are (DDP relaunches ``sys.argv``).

    Raises:
        VFusion3DError: if a recipe, an option, a checkpoint or the output folder cannot be used.
        KeyboardInterrupt: on Ctrl-C, after Lightning has shut down.
        TrainingError: in the first process alone, though it ends all.
    """
    before = signal.signal(signal.SIGTERM, _terminated)
    sys.argv = [sys.argv[0], *_with_packaged_recipes(arguments)]
    _check_files(sys.argv)
    try:
        TrainingCLI(
            LightningModule,
            LightningDataModule,
            trainer_class=PlanningTrainer,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=RecipeInCheckpoint,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={"prog": "vfusion3d", "exit_on_error": False, "plan": {"description": PLAN}},
        )
    except TrainingError:
        if getattr(rank_zero_only, "rank", 0):  # what ends all processes alike is said once
            return 0
        raise
    except ArgumentError as error:
        mistake = one_line(str(error))
        recipe = ", or give a --config such as recipes/nano/reconstructor.yaml" if "required" in mistake else ""
        raise UsageError(f"{mistake}; see `vfusion3d {arguments[0]} --help`{recipe}.") from error
    except MisconfigurationException as error:
        raise UsageError(f"{one_line(str(error))}; correct the recipe or the option.") from error
    except OSError as error:
        if error.errno not in CANNOT_WRITE or error.filename is None:
            raise
        with output_errors(Path(error.filename2 or error.filename)):
            raise
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning turns it into exit code 1
            raise KeyboardInterrupt from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _terminated(number: int, frame: FrameType | None) -> None:
    """SIGTERM while nothing is being trained; `SaveOnSigterm` answers it then."""
    raise TrainingTerminated("The run was told to end (SIGTERM) while it was not training; nothing is lost.")


def _check_files(arguments: list[str]) -> None:
    """Read the recipes once before LightningCLI does, whose complaints do not name the file.

    Raises:
        UsageError: if one is missing or is no YAML mapping.
    """
    for previous, argument in pairwise(arguments):
        path = argument.removeprefix("--config=")
        if (path == argument and previous not in ("--config", "-c")) or "://" in path:
            continue
        if not os.path.isfile(path):
            raise UsageError(
                f"The recipe {path} does not exist or may not be read; give a YAML file or one of the package's: "
                f"{', '.join(list_recipes())}."
            )
        try:
            content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except yaml.MarkedYAMLError as error:
            line = "" if error.problem_mark is None else f" in line {error.problem_mark.line + 1}"
            raise UsageError(f"The recipe {path} is no YAML ({error.problem}{line}); correct it.") from error
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UsageError(f"The recipe {path} cannot be read as YAML ({one_line(str(error))}); check it.") from error
        if not isinstance(content, dict):
            raise UsageError(f"The recipe {path} holds no keys and values; write it like {list_recipes()[0]}.")


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
        packaged = None if os.path.exists(path) else find_recipe(path)
        result.append(prefix + (str(packaged) if packaged else path))
    return result
