"""Small learned models on disk: ``NAME.json`` and ``NAME.safetensors``, nothing that could run code."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from vfusion3d.errors import CheckpointError
from vfusion3d.outputs import make_folder, write_atomically

_DIGEST = "weights"  # in the JSON file, of the other file: they are replaced one after the other


def save_learned(
    folder: str | os.PathLike[str], name: str, settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> None:
    """Write a model; arrays keep their type.

    Raises:
        OutputError: if it cannot be written.
    """
    folder = make_folder(Path(folder))
    weights = save({key: np.ascontiguousarray(arrays[key]) for key in arrays})
    document = {**settings, _DIGEST: hashlib.sha256(weights).hexdigest()}
    write_atomically(folder / f"{name}.safetensors", weights)
    write_atomically(folder / f"{name}.json", (json.dumps(document, indent=2) + "\n").encode())


def load_learned(
    folder: str | os.PathLike[str], name: str, settings: Sequence[str], arrays: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a model.

    Args:
        folder: Where it is.
        name: Of its files.
        settings: Keys that the JSON file must have, and no others.
        arrays: Names of the arrays, and no others.

    Returns:
        Both, by name.

    Raises:
        CheckpointError: naming what is missing or broken.
    """
    text, weights = Path(folder) / f"{name}.json", Path(folder) / f"{name}.safetensors"
    for path in (text, weights):
        if not path.is_file():
            raise CheckpointError(
                f"{path} is not there: give a folder that holds {name}.json and {name}.safetensors, as "
                f"`vfusion3d train-{name}` writes it."
            )
    try:
        values, content = json.loads(text.read_text(encoding="utf-8")), weights.read_bytes()
        tensors = load(content)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"The model in {folder} cannot be read ({error}): train or copy it again.") from error
    if not isinstance(values, dict) or set(values) != {*settings, _DIGEST} or set(tensors) != set(arrays):
        raise CheckpointError(f"The model in {folder} is of another version of vfusion3d: train it again.")
    if values.pop(_DIGEST) != hashlib.sha256(content).hexdigest():
        raise CheckpointError(f"{text} and {weights} are not of one model: train or copy it again.")
    return values, tensors


def digest_of(folder: str | os.PathLike[str], name: str, settings: Sequence[str]) -> str:
    """Sixteen hexadecimal digits of a model's arrays and some of its settings: what decides its results."""
    values = json.loads((Path(folder) / f"{name}.json").read_text(encoding="utf-8"))
    chosen = json.dumps({key: values[key] for key in (*settings, _DIGEST)}, sort_keys=True)
    return hashlib.sha256(chosen.encode()).hexdigest()[:16]
