"""Which weights a stage's results come from (files by what they hold, not by where they are), and where they work."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path

import torch

from vfusion3d.errors import CheckpointError

_WEIGHTS = (".safetensors", ".onnx", ".bin")
_CHUNK = 1 << 22


def weights_identity(source: str | os.PathLike[str]) -> str:
    """What stands for weights in a stage's settings: ``sha256:...`` of a local file or of a folder's weight files and
    JSON files, the name itself of what is on the Hugging Face hub (whatever revision that is).

    Raises:
        CheckpointError: if a file cannot be read.
    """
    path = Path(source).expanduser()
    if path.is_file():
        files = [path]
    elif path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in (*_WEIGHTS, ".json") and file.is_file())
    else:
        return str(source)
    digest = hashlib.sha256()
    try:
        for file in files:
            stat = file.stat()
            digest.update(_sha256(str(file.resolve()), stat.st_size, stat.st_mtime_ns).encode())
            digest.update(b"" if file == path else str(file.relative_to(path)).encode())
    except OSError as error:
        raise CheckpointError(f"The weights {source} cannot be read ({error.strerror}); check them.") from error
    return f"sha256:{digest.hexdigest()[:32]}"


@lru_cache(maxsize=256)
def _sha256(path: str, size: int, modified: int) -> str:
    """Of a file's bytes; size and time are in the arguments so that a changed file is read again."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def choose_device(name: str) -> torch.device:
    """``auto`` is a GPU if there is one, else the CPU; anything else is torch's name of a device."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
