"""Released models in diffusers' layout: a folder for each component, of a configuration and safetensors weights.

Loading is strict and never unpickles; what cannot be loaded is refused in one sentence before memory is taken for it.
"""

from __future__ import annotations

import functools
import json
import logging
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers.utils import logging as diffusers_logging
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import CLIPTokenizer
from transformers.utils import logging as transformers_logging

from vfusion3d.errors import CheckpointError
from vfusion3d.hub import hub_answers, hub_errors

_INDEX = "model_index.json"  # every published pipeline has one
_TOKENIZER = "tokenizer"
_WEIGHTS = ("diffusion_pytorch_model", "model")  # of diffusers and of transformers
_LOGGER = logging.getLogger("vfusion3d")

M = TypeVar("M", bound=nn.Module)


def find_model(source: str, components: Sequence[str]) -> Path:
    """The folder of a model, downloaded if it is not on this machine.

    Args:
        source: A local folder, or ``owner/name`` on the Hugging Face hub.
        components: Names of the folders in it that are needed.

    Raises:
        CheckpointError: if it is not to be had, or files of a component are missing or cut off.
    """
    folder = Path(source).expanduser()
    if not (source and os.path.isdir(folder)):
        if folder.is_absolute() or source.startswith((".", "~")) or source.count("/") != 1:
            raise CheckpointError(
                f"There is no folder {source!r}: give one in diffusers' layout, or owner/name on the Hugging Face hub."
            )
        folder = _download(source, components)
    missing = [name for name in components if not (folder / name).is_dir()]
    if missing:
        raise CheckpointError(
            f"{source} has no folder {missing[0]}/: give a model in diffusers' layout with {', '.join(components)}."
        )
    for name in components:
        (_check_vocabulary if name == _TOKENIZER else check_weights)(folder / name)
    return folder


def _download(source: str, components: Sequence[str]) -> Path:
    files = f"{_INDEX}: give a model in diffusers' layout"
    instead = "give a folder in diffusers' layout"
    # The scheduler is a small file that says what the model was trained to predict.
    wanted = [
        f"{name}/*{ending}" for name in (*components, "scheduler") for ending in (".json", ".txt", ".safetensors")
    ]
    with hub_errors(source, what="Model", files=files, instead=instead):
        found = snapshot_download(
            source,
            allow_patterns=[_INDEX, *wanted],
            ignore_patterns=["*.fp16.*", "*.non_ema.*"],  # the same weights again
            local_files_only=not hub_answers(source, _INDEX),
        )
    return Path(found)


def class_of(folder: Path, component: str) -> str:
    """What a component's configuration says it is, for example ``UNet3DConditionModel``; "" if it does not say.

    Raises:
        CheckpointError: if there is no configuration that can be read.
    """
    settings = read_json(folder / component / "config.json")
    return str(settings.get("_class_name") or next(iter(settings.get("architectures") or [""])))


def read_json(path: Path) -> dict[str, Any]:
    """An object in a JSON file.

    Raises:
        CheckpointError: if the file cannot be read as such.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.parent} holds no {path.name}: copy or download the model again.") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON ({error}): copy or download it again.") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} is not a JSON object: copy or download it again.")
    return values


def load_component(folder: Path, component: str, kind: type[M], dtype: torch.dtype = torch.float32) -> M:
    """A component in evaluation mode.

    Args:
        folder: As `find_model` returns it.
        component: Its name in there.
        kind: Its class, a model of diffusers or transformers, or an ``Auto`` class of the latter.
        dtype: Of its weights, but for those that its class keeps in float32.

    Raises:
        CheckpointError: if it is of another class, or its weights are another architecture's.
    """
    path, name = folder / component, class_of(folder, component)
    if name not in ("", kind.__name__) and not kind.__name__.startswith("Auto"):
        raise CheckpointError(f"{path} holds a {name}, but a {kind.__name__} is needed: give a model that has one.")
    try:
        with silent():
            model, info = kind.from_pretrained(  # type: ignore[attr-defined]
                path, use_safetensors=True, local_files_only=True, output_loading_info=True, torch_dtype=dtype
            )
    except Exception as error:  # of many types, and over several lines
        raise CheckpointError(
            f"The weights in {path} do not fit its config.json ({first_sentence(error)}): give both of one model."
        ) from error
    wrong = {kind: sorted(map(str, info[f"{kind}_keys"])) for kind in ("missing", "unexpected", "mismatched")}
    if any(wrong.values()):
        example = next(keys[0] for keys in wrong.values() if keys)
        raise CheckpointError(
            f"The weights in {path} do not fit its config.json: {len(wrong['missing'])} missing, "
            f"{len(wrong['unexpected'])} unexpected and {len(wrong['mismatched'])} differently shaped (for example "
            f"{example}); give both of one model."
        )
    return (model.float() if dtype == torch.float32 else model).eval()  # type: ignore[attr-defined, no-any-return]


def load_tokenizer(folder: Path, kind: Any = CLIPTokenizer) -> Any:
    """The tokenizer in ``tokenizer/``.

    Args:
        folder: As `find_model` returns it.
        kind: Its class in transformers.

    Raises:
        CheckpointError: if its files cannot be read.
    """
    try:
        with silent():
            return kind.from_pretrained(folder / _TOKENIZER, local_files_only=True)
    except Exception as error:  # of many types
        raise CheckpointError(
            f"{folder / _TOKENIZER} holds no {kind.__name__} that can be read ({first_sentence(error)}): copy or "
            "download it again."
        ) from error


def first_sentence(error: Exception) -> str:
    """What another library's error says, short and on one line."""
    return " ".join(str(error).split()).split(". ")[0][:250].rstrip(".")


def _check_vocabulary(path: Path) -> None:
    """Refuse a tokenizer without words, which transformers would make up."""
    if not any((path / name).is_file() for name in ("vocab.json", "tokenizer.json", "spiece.model")):
        raise CheckpointError(f"{path} holds no vocab.json or tokenizer.json: copy or download it again.")


def check_weights(path: Path) -> None:
    """Refuse a component whose weight files are not all there and whole; reads only where they begin.

    Raises:
        CheckpointError: naming the file.
    """
    for file in _weight_files(path):
        if not file.is_file():
            raise CheckpointError(f"{file} is missing, which {path} needs: copy or download it again.")
        try:
            with safe_open(file, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{file} is not a complete safetensors file ({error}): copy or download it again."
            ) from error


def _weight_files(path: Path) -> Collection[Path]:
    for name in _WEIGHTS:
        index, single = path / f"{name}.safetensors.index.json", path / f"{name}.safetensors"
        if index.is_file():
            shards = read_json(index).get("weight_map")
            if not isinstance(shards, dict):
                raise CheckpointError(f"{index} does not say which weights are where: copy or download it again.")
            return sorted({path / str(file) for file in shards.values()})
        if single.is_file():
            return [single]
    if any(path.glob("*.bin")):
        raise CheckpointError(
            f"{path} holds only pickled weights (.bin), which may run code and are not loaded: save the model again "
            "with save_pretrained, which writes safetensors."
        )
    raise CheckpointError(f"{path} holds no weights ({_WEIGHTS[0]}.safetensors or {_WEIGHTS[1]}.safetensors).")


@contextmanager
def silent() -> Iterator[None]:
    """Keep both libraries from printing what `load_component` says itself."""
    libraries: list[Any] = [diffusers_logging, transformers_logging]
    levels = [library.get_verbosity() for library in libraries]
    bars = transformers_logging.is_progress_bar_enabled()
    try:
        for library in libraries:
            library.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        yield
    finally:
        for library, level in zip(libraries, levels, strict=True):
            library.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


@functools.cache
def announce_licence(source: str, licence: str) -> None:
    """Say, once in a process, under which licence released weights are."""
    _LOGGER.warning("%s: %s", source, licence)
