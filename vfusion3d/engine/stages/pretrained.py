"""Models of transformers and pipelines of diffusers for stages: from a folder or the hub, strictly, never unpickled."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import metadata_load, snapshot_download

from vfusion3d.engine.stages.weights import weights_identity
from vfusion3d.errors import CheckpointError, UsageError
from vfusion3d.hub import hub_answers, hub_errors
from vfusion3d.video.loading import check_weights, first_sentence, load_component, silent

ENDINGS = (".json", ".txt", ".model", ".safetensors")
"""Of files that are read: configurations, vocabularies, weights."""
CARD = "README.md"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
UNKNOWN = "unknown"
_VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model")


def identify(source: str) -> str:
    """What stands for a model in a stage's settings (`weights_identity`).

    Raises:
        CheckpointError: if it is neither a folder nor can be a name on the hub.
    """
    if not is_folder(source) and (source.startswith((".", "~", "/")) or source.count("/") > 1 or not source):
        raise CheckpointError(
            f"There is no folder {source!r}: give one that `save_pretrained` wrote, or owner/name on the Hugging Face "
            "hub."
        )
    return weights_identity(source)


def is_folder(source: str) -> bool:
    """Whether a model is a local folder."""
    return bool(source) and os.path.isdir(Path(source).expanduser())


def find_pretrained(source: str, index: str = "config.json", patterns: Sequence[str] | None = None) -> Path:
    """The folder of a model, downloaded if it is not on this machine.

    Args:
        source: A local folder that ``save_pretrained`` wrote, or ``owner/name`` on the Hugging Face hub.
        index: A file that it must have.
        patterns: Of further files to download; those with one of `ENDINGS`.

    Raises:
        CheckpointError: if it is not to be had.
    """
    identify(source)
    if not is_folder(source):
        instead = "give a folder that `save_pretrained` wrote"
        with hub_errors(source, what="Model", files=index, instead=instead):
            return Path(
                snapshot_download(
                    source,
                    allow_patterns=[index, CARD, *(patterns or [f"*{ending}" for ending in ENDINGS])],
                    ignore_patterns=["*.fp16.*", "*.non_ema.*", "onnx/*", "original/*"],  # the same weights again
                    local_files_only=not hub_answers(source, index),
                )
            )
    folder = Path(source).expanduser()
    if not (folder / index).is_file():
        raise CheckpointError(f"{folder} holds no {index}: give a folder that `save_pretrained` wrote.")
    return folder


def load_model(source: str, kind: Any, dtype: str = "float32") -> Any:
    """A model of transformers, in evaluation mode.

    Args:
        source: As for `find_pretrained`.
        kind: Its class, or an ``Auto`` class.
        dtype: Of its weights, a key of `DTYPES`.

    Raises:
        CheckpointError: if it is not to be had, is of another kind or does not fit its configuration.
    """
    folder = find_pretrained(source)
    check_weights(folder)
    return load_component(folder, "", kind, DTYPES[dtype])


def load_processor(source: str, kind: Any) -> Any:
    """A model's tokenizer or processor.

    Args:
        source: As for `find_pretrained`.
        kind: ``AutoTokenizer`` or ``AutoProcessor``.

    Raises:
        CheckpointError: if it has none that can be read.
    """
    folder = find_pretrained(source)
    what = "tokenizer" if kind.__name__ == "AutoTokenizer" else "processor"
    if not any((folder / name).is_file() for name in _VOCABULARIES):  # transformers would make one up
        raise CheckpointError(
            f"{source} has no {what} ({', '.join(_VOCABULARIES[:2])}, ...): copy or download the model again, or save "
            f"its {what} beside it."
        )
    try:
        with silent():
            return kind.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # of many types
        raise CheckpointError(
            f"The {what} in {source} cannot be read ({first_sentence(error)}): copy or download it again."
        ) from error


def check_dtype(dtype: str) -> str:
    """A name of a type of weights.

    Raises:
        UsageError: naming those that there are.
    """
    if dtype not in DTYPES:
        raise UsageError(f"Argument `dtype` must be one of {', '.join(DTYPES)}, but got {dtype!r}.")
    return dtype


def licence_of(folder: Path) -> str:
    """The licence that a model's card (`README.md`) names, or `UNKNOWN`."""
    try:
        about = metadata_load(folder / CARD) or {}
    except (OSError, ValueError):  # no card, or one that is not YAML
        about = {}
    named = [str(about[key]) for key in ("license_name", "license", "license_link") if about.get(key)]
    return ", ".join(name for name in named if name != "other") or UNKNOWN
