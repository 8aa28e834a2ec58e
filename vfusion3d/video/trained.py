"""Trained video models on disk: what was trained, and where the rest comes from.

A folder of ``video.json`` (`VideoModelConfig`), ``trained.safetensors`` (the trained weights alone or, where training
started from random weights, all of them) and ``README.md``, the model card.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import torch
from huggingface_hub import hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vfusion3d import __version__
from vfusion3d.cameras import Rig
from vfusion3d.errors import CheckpointError, OutputError, UsageError
from vfusion3d.hub import hub_answers, hub_errors
from vfusion3d.outputs import carry_over, result_folder
from vfusion3d.video.backbone import VideoBackbone
from vfusion3d.video.card import video_card
from vfusion3d.video.registry import create_backbone, is_preset
from vfusion3d.video.trainable import Trained, choose_trainable, load_trainable_state, trainable_state

CONFIG = "video.json"
WEIGHTS = "trained.safetensors"
CARD = "README.md"
UNKNOWN = "unknown"
_REQUIRED = ("backbone", "source", "train", "rig", "size")
_KINDS: dict[str, Any] = {
    **dict.fromkeys(("backbone", "source", "train", "name", "licence", "version"), str),
    **dict.fromkeys(("size", "rank"), int),
    **dict.fromkeys(("steps", "samples"), (int, type(None))),
    "options": dict,
    "lineage": (list, tuple),
}


@dataclass(frozen=True)
class VideoModelConfig:
    """What ``video.json`` says of a trained video model.

    Args:
        backbone: Name of the backbone.
        source: What training started from: a preset (random weights), a name on the Hugging Face hub or a folder.
        train: What was trained: ``temporal``, ``all`` or ``lora``.
        rig: Cameras of the orbits it was trained on.
        size: Pixels a side of the frames it was trained on.
        rank: Of low-rank updates.
        options: Options of the backbone.
        name: What reports call the model.
        licence: Of the trained weights.
        lineage: One sentence for each licence that its videos are under besides: of the weights that training started
            from, of the training data.
        steps: Optimiser steps, or None if unknown.
        samples: Training samples seen by all processes, or None.
        version: Of vfusion3d, when the weights were saved.
    """

    backbone: str
    source: str
    train: Trained
    rig: Rig
    size: int
    rank: int = 64
    options: Mapping[str, Any] = field(default_factory=dict)
    name: str = UNKNOWN
    licence: str = UNKNOWN
    lineage: tuple[str, ...] = ()
    steps: int | None = None
    samples: int | None = None
    version: str = __version__

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> VideoModelConfig:
        """The inverse of `to_dict`.

        Raises:
            CheckpointError: if a key is missing, unknown or of another kind than it should be.
        """
        known = {f.name: f for f in fields(VideoModelConfig)}
        unknown = sorted(set(values) - set(known))
        missing = [name for name in _REQUIRED if name not in values]
        if unknown or missing:
            what = f"has the unknown key {unknown[0]!r}" if unknown else f"lacks the key {missing[0]!r}"
            raise CheckpointError(f"it {what}; use the version of vfusion3d that wrote it.")
        for key, kind in _KINDS.items():
            if key in values and (not isinstance(values[key], kind) or isinstance(values[key], bool)):
                raise CheckpointError(f"its {key!r} cannot be {values[key]!r}; save the model again.")
        if values["train"] not in get_args(Trained):
            raise CheckpointError(f"its 'train' must be one of {', '.join(get_args(Trained))}; save the model again.")
        try:
            rig = Rig(**values["rig"])
            rig.cameras(0.0)
        except (TypeError, ValueError) as error:
            raise CheckpointError(
                f"its 'rig' cannot be used ({str(error).rstrip('.')}); save the model again."
            ) from error
        return VideoModelConfig(**{**values, "rig": rig, "lineage": tuple(values.get("lineage", ()))})


def save_video_model(
    backbone: VideoBackbone,
    folder: str | Path,
    config: VideoModelConfig,
    *,
    half: bool = False,
    overwrite: bool = False,
) -> None:
    """Write ``video.json``, ``trained.safetensors`` and ``README.md``, all or nothing.

    Args:
        backbone: The model; `choose_trainable` has chosen what was trained.
        folder: What `load_video_model` and ``vfusion3d orbit --model`` will take.
        config: What is known of it.
        half: Store float16.
        overwrite: Replace an earlier one; other files in its folder stay.

    Raises:
        OutputError: if the folder exists and may not be replaced, or cannot be written.
    """
    folder = Path(folder)
    state = _complete_state(backbone) if is_preset(config.backbone, config.source) else trainable_state(backbone)
    with result_folder(folder, overwrite, marker=CONFIG) as partial:
        weights = partial / WEIGHTS
        try:
            save_file({name: _stored(value, half) for name, value in state.items()}, weights, {"format": "pt"})
        except SafetensorError as error:
            raise OutputError(f"The weights cannot be written into {folder}: {error}.") from error
        (partial / CONFIG).write_text(json.dumps(config.to_dict(), indent=2) + "\n", encoding="utf-8")
        weights.chmod((partial / CONFIG).stat().st_mode)  # safetensors makes files only their owner can read
        size = sum(value.numel() for value in trainable_state(backbone).values())
        (partial / CARD).write_text(video_card(config.to_dict(), size), encoding="utf-8")
        carry_over(folder, partial)


def load_video_model(name_or_path: str | Path) -> VideoBackbone:
    """A trained video model, in evaluation mode on the CPU.

    Args:
        name_or_path: A shipped name, a folder that `save_video_model` wrote, or ``owner/name`` on the Hugging Face hub.
            What was not trained is loaded from where training started.

    Raises:
        CheckpointError: one sentence that says what is wrong.
    """
    folder = find_video_model(name_or_path)
    config = read_video_config(folder)
    try:
        backbone = create_backbone(config.backbone, config.source, **config.options)
        choose_trainable(backbone, config.train, config.rank)
    except (UsageError, CheckpointError) as error:
        raise CheckpointError(f"The model of {folder / CONFIG} cannot be built: {error}") from error
    state = _read_weights(folder / WEIGHTS)
    try:
        if is_preset(config.backbone, config.source):
            _load_complete_state(backbone, state)
        else:
            load_trainable_state(backbone, state)
    except CheckpointError as error:
        raise CheckpointError(f"{folder / WEIGHTS} cannot be used: {error}") from error
    return backbone.eval()


def read_video_config(folder: Path) -> VideoModelConfig:
    """What a folder says of its model, without the weights.

    Raises:
        CheckpointError: if it says nothing, or not enough.
    """
    path = folder / CONFIG
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder} holds no {CONFIG}, so it is no trained video model: give a folder written by `vfusion3d export`."
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON ({error}): export the model again.") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} is not a JSON object: export the model again.")
    try:
        return VideoModelConfig.from_dict(values)
    except CheckpointError as error:
        raise CheckpointError(f"{path} cannot be used: {error}") from error


def shipped_video_models() -> list[str]:
    """Names of the video models inside the package."""
    inside = Path(str(resources.files("vfusion3d") / "checkpoints"))
    return sorted(path.parent.name for path in inside.glob(f"*/{CONFIG}"))


def find_video_model(name_or_path: str | Path) -> Path:
    """The folder of a model; one on the Hugging Face hub is downloaded.

    Raises:
        CheckpointError: if there is none.
    """
    name, shipped = str(name_or_path), shipped_video_models()
    if name in shipped:
        return Path(str(resources.files("vfusion3d") / "checkpoints" / name))
    path = Path(name).expanduser()
    if name and os.path.isdir(path):
        return path
    if os.path.isfile(path):
        raise CheckpointError(f"{name} is a file: give the folder that holds {CONFIG} and {WEIGHTS}.")
    known = f"a shipped name ({', '.join(shipped)}), " if shipped else ""
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise CheckpointError(
            f"Unknown video model {name!r}: give {known}a folder with {CONFIG} and {WEIGHTS}, owner/name on the "
            "Hugging Face hub, or BACKBONE:SOURCE for one that was not fine-tuned."
        )
    offline = not hub_answers(name, CONFIG)
    files = f"{CONFIG} and {WEIGHTS}: give a model written by `vfusion3d export`"
    with hub_errors(name, what="Video model", files=files, instead=f"give {known}a folder"):
        paths = [hf_hub_download(name, file, local_files_only=offline) for file in (CONFIG, WEIGHTS)]
    return Path(paths[0]).parent


def _frozen(backbone: VideoBackbone) -> dict[str, Tensor]:
    """Weights and buffers that are not trained."""
    trained = {name for name, parameter in backbone.named_parameters() if parameter.requires_grad}
    return {name: value for name, value in backbone.state_dict().items() if name not in trained}


def _complete_state(backbone: VideoBackbone) -> dict[str, Tensor]:
    return trainable_state(backbone) | {name: value.clone() for name, value in _frozen(backbone).items()}


def _load_complete_state(backbone: VideoBackbone, state: dict[str, Tensor]) -> None:
    frozen = _frozen(backbone)
    load_trainable_state(backbone, {name: value for name, value in state.items() if name not in frozen})
    wrong = [name for name in frozen if name not in state or state[name].shape != frozen[name].shape]
    if wrong:
        raise CheckpointError(
            f"{len(wrong)} of the weights that were not trained are missing or have another shape, the first is "
            f"{wrong[0]}; export the model again."
        )
    for name, value in frozen.items():
        value.copy_(state[name])


def _stored(value: Tensor, half: bool) -> Tensor:
    value = value.detach().cpu().contiguous()
    return value.to(torch.float16) if half and value.is_floating_point() else value


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError as error:
        if path.exists():  # what safetensors says of a file that it may not read
            raise CheckpointError(f"{path} cannot be read: check its permissions.") from error
        raise CheckpointError(
            f"{path.parent} holds no {WEIGHTS}: give a folder written by `vfusion3d export`."
        ) from error
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a complete safetensors file ({error}): copy or download it again."
        ) from error
