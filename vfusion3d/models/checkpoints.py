"""Saving and loading: safetensors and a JSON configuration, in a folder, the package or the hub.

Loading is strict, never unpickles, prints nothing, and says in one sentence what it could not do.
"""

from __future__ import annotations

import csv
import importlib.resources
import json
import logging
import os
import pickle
import tempfile
import warnings
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from huggingface_hub import HfApi, hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from vfusion3d.errors import CheckpointError, OutputError
from vfusion3d.hub import hub_answers, hub_errors
from vfusion3d.models.config import ReconstructorConfig
from vfusion3d.models.released import Family, config_of, convert_state, family_of, installed_names

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
HELD_OUT = "held_out.txt"
TRAINING_MESHES = "training_meshes.csv"
SHIPPED = ("nano",)
"""Checkpoints inside the package."""
_DTYPE = "dtype"  # key of the configuration that says how the weights are stored; the file decides
_PICKLED = (".pt", ".pth", ".bin")  # what `torch.save` writes
_LOGGER = logging.getLogger("vfusion3d")

M = TypeVar("M", bound="HubCheckpoints")


class HubCheckpoints:
    """`from_pretrained`, `save_pretrained` and `push_to_hub` for a module built from a `ReconstructorConfig`."""

    config: ReconstructorConfig

    @classmethod
    def from_pretrained(
        cls: type[M],
        name_or_path: str | Path,
        *,
        device: str | torch.device = "cpu",
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        dtype: torch.dtype | Literal["auto"] = torch.float32,
    ) -> M:
        """Load a checkpoint in evaluation mode.

        Args:
            name_or_path: ``"nano"`` (in the package), a folder with ``config.json`` and
                ``model.safetensors``, a weight file (``.safetensors``, ``.pt``, ``.pth``, ``.bin``) of a released
                model, or ``"owner/name"`` on the Hugging Face hub. Besides ours, the published layouts of
                ``facebook/vfusion3d`` and ``zxhezexin/openlrm-*-1.1`` are read as they are.
            device: Where to put the weights.
            revision, cache_dir, token, local_files_only: As in `huggingface_hub.hf_hub_download`.
            dtype: Floating-point type of the weights in memory; ``"auto"`` keeps the file's.

        Raises:
            CheckpointError: one sentence that says what is wrong.
        """
        name = str(name_or_path)
        path = _local_path(name)
        if path is None:
            path = _download(name, revision, cache_dir, token, local_files_only)
        weights = path / WEIGHTS if path.is_dir() else path
        family, config, state = _read_checkpoint(weights)
        with torch.device("meta"):  # no time for random weights that the file replaces
            model = cls(config)  # type: ignore[call-arg]
        assert isinstance(model, nn.Module)
        state = _fitted(model, state, weights, published=family is not None)
        if "NC" in config.license:
            _LOGGER.warning("%s: weights under %s, for non-commercial use only.", name, config.license)
        # Copies: what safetensors returns is the file itself, mapped into memory, which may change or be cut off.
        wanted = {key: value.to(value.dtype if dtype == "auto" else dtype, copy=True) for key, value in state.items()}
        model.load_state_dict(wanted, assign=True)
        return model.to(device).eval()

    def save_pretrained(self, save_directory: str | Path, *, dtype: torch.dtype = torch.float32) -> None:
        """Write ``config.json`` and ``model.safetensors`` into a folder, each file whole or not at all.

        Args:
            save_directory: The folder; made if missing.
            dtype: Floating-point type of the file (float16 halves it).

        Raises:
            OutputError: if the folder cannot be written.
        """
        folder = Path(save_directory)
        assert isinstance(self, nn.Module)
        state = {key: value.detach().cpu().to(dtype).contiguous() for key, value in self.state_dict().items()}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as temporary:
                save_file(state, Path(temporary) / WEIGHTS, metadata={"format": "pt"})
                settings = {**self.config.to_dict(), _DTYPE: str(dtype).removeprefix("torch.")}
                text = json.dumps(settings, indent=2) + "\n"
                (Path(temporary) / CONFIG).write_text(text, encoding="utf-8")
                # safetensors makes files only their owner can read
                (Path(temporary) / WEIGHTS).chmod((Path(temporary) / CONFIG).stat().st_mode)
                for name in (WEIGHTS, CONFIG):
                    os.replace(Path(temporary) / name, folder / name)
        except (OSError, SafetensorError) as error:
            raise OutputError(f"Cannot write the checkpoint into {folder}: {error}.") from error

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        commit_message: str = "Upload a vfusion3d model",
        dtype: torch.dtype = torch.float32,
    ) -> str:
        """Upload ``config.json`` and ``model.safetensors`` to the Hugging Face hub.

        Args:
            repo_id: ``owner/name``; made if missing.
            private: Whether a new repository is private; the owner's default if None.
            token: Access token; that of ``hf auth login`` by default.
            commit_message: Message of the commit.
            dtype: As in `save_pretrained`.

        Returns:
            Address of the commit.
        """
        api = HfApi(token=token)
        repo_id = api.create_repo(repo_id=repo_id, private=private, exist_ok=True).repo_id
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, dtype=dtype)
            return str(api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=commit_message))


def held_out_names(name_or_path: str | Path) -> list[str]:
    """Names of the objects kept out of a local checkpoint's training, from the ``held_out.txt`` beside it.

    Raises:
        CheckpointError: if the checkpoint has no such list.
    """
    folder = _local_path(str(name_or_path))
    path = None if folder is None else folder / HELD_OUT
    if path is None or not path.is_file():
        raise CheckpointError(f"The checkpoint {name_or_path} has no {HELD_OUT}, so which objects it saw is unknown.")
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def training_names(name_or_path: str | Path) -> set[str] | None:
    """Names of the meshes that a local checkpoint was trained on, from the ``training_meshes.csv`` beside it; None if
    it has no such table."""
    folder = _local_path(str(name_or_path))
    path = None if folder is None else folder / TRAINING_MESHES
    if path is None or not path.is_file():
        return None
    with path.open(encoding="utf-8", newline="") as file:
        return {row["name"] for row in csv.DictReader(file)}


def _local_path(name: str) -> Path | None:
    """The folder or file that a name means on this machine; None for a name on the hub."""
    if name in SHIPPED:
        return Path(str(importlib.resources.files("vfusion3d") / "checkpoints" / name))
    path = Path(name).expanduser()
    if name and os.path.isdir(path):  # unlike pathlib's, False where reading is not permitted
        return path
    if os.path.isfile(path):
        if path.suffix in (".safetensors", *_PICKLED):
            return path
        raise CheckpointError(
            f"{name} is no weight file (.safetensors, {', '.join(_PICKLED)}); give one of a released model, or the "
            f"folder that holds {CONFIG} and {WEIGHTS}."
        )
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        known = ", ".join(SHIPPED)
        raise CheckpointError(
            f"Unknown model {name!r}: give a shipped name ({known}), a folder with {CONFIG} and {WEIGHTS}, a released "
            "weight file, or owner/name on the Hugging Face hub."
        )
    return None


def read_config(name_or_path: str | Path) -> ReconstructorConfig:
    """Architecture of a checkpoint of ours on this machine, without its weights.

    Raises:
        CheckpointError: if there is none.
    """
    folder = _local_path(str(name_or_path))
    if folder is None or not folder.is_dir():
        raise CheckpointError(f"{name_or_path} is no folder with a {CONFIG}; give one written by save_pretrained.")
    settings = _read_settings(folder / CONFIG)
    return ReconstructorConfig.from_dict({key: value for key, value in settings.items() if key != _DTYPE})


def read_encoder(name_or_path: str | Path) -> tuple[Path, dict[str, torch.Tensor]]:
    """A published DINOv2, to start an encoder from.

    Args:
        name_or_path: ``"owner/name"`` on the Hugging Face hub, a folder or a weight file, with the names of
            transformers or of DINOv2's authors.

    Returns:
        The file, and its weights under the names they have in a `TriplaneReconstructor`.

    Raises:
        CheckpointError: one sentence that says what is wrong.
    """
    name = str(name_or_path)
    path = _local_path(name)
    if path is None:
        instead = "give a folder or a file in `encoder_weights`, or null for a random encoder"
        path = _download(name, None, None, None, False, "Encoder", instead)
    weights = path / WEIGHTS if path.is_dir() else path
    return weights, convert_state({f"encoder.model.{key}": value for key, value in _read_weights(weights).items()})


def load_encoder(model: nn.Module, path: Path, state: dict[str, torch.Tensor]) -> None:
    """Copy what `read_encoder` returned into a `TriplaneReconstructor`, all of it or nothing.

    Raises:
        CheckpointError: if it is no encoder of the model's architecture.
    """
    own = {key: value for key, value in model.state_dict().items() if key.startswith("encoder.")}
    state, *differences = _compared({key: tuple(value.shape) for key, value in own.items()}, state)
    if any(differences):
        missing, unexpected, wrong = differences
        raise CheckpointError(
            f"{path} is no encoder of this architecture: {len(missing)} missing, {len(unexpected)} unexpected and "
            f"{len(wrong)} differently shaped weights (for example {(missing or unexpected or wrong)[0]}); give "
            "`encoder_weights` that fit it."
        )
    with torch.no_grad():
        for key, value in own.items():
            value.copy_(state[key])


def _download(
    name: str,
    revision: str | None,
    cache_dir: str | Path | None,
    token: str | bool | None,
    local_files_only: bool,
    what: str = "Model",
    instead: str = f"give a folder or a shipped name ({', '.join(SHIPPED)})",
) -> Path:
    local_files_only = local_files_only or not hub_answers(name, CONFIG, revision, token)
    files = f"{CONFIG} and {WEIGHTS}: give a model written by save_pretrained or push_to_hub"
    with hub_errors(name, what=what, files=files, instead=instead):
        paths = [
            hf_hub_download(
                name, file, revision=revision, cache_dir=cache_dir, token=token, local_files_only=local_files_only
            )
            for file in (CONFIG, WEIGHTS)
        ]
    return Path(paths[1]).parent


def _read_checkpoint(weights: Path) -> tuple[Family | None, ReconstructorConfig, dict[str, torch.Tensor]]:
    """Whose layout a file has (None: ours), its configuration, and its weights under our names."""
    in_folder = weights.name == WEIGHTS
    settings = _read_settings(weights.with_name(CONFIG)) if in_folder else {}
    state = _read_weights(weights)
    family = family_of(state)
    state = convert_state(state)
    if family is None and not in_folder:
        example = next(iter(state), "none at all")
        raise CheckpointError(
            f"{weights} holds no weights of a model this library knows (for example {example}): "
            f"give a released VFusion3D or OpenLRM file, or a folder with {CONFIG} and {WEIGHTS}."
        )
    try:
        if family is not None:
            return family, config_of(family, state, settings), state
        ours = {key: value for key, value in settings.items() if key != _DTYPE}
        return None, ReconstructorConfig.from_dict(ours), state
    except CheckpointError as error:
        source = weights.with_name(CONFIG) if family is None else weights
        raise CheckpointError(f"{source}: {error}".rstrip(".") + ".") from error
    except ValueError as error:
        raise CheckpointError(
            f"{weights} has the layout of {family} but no sizes that fit together: {error}"
        ) from error


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.parent} holds no {CONFIG}: give a folder written by save_pretrained.") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON ({error}): save the checkpoint again.") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} is not a JSON object: save the checkpoint again.")
    return values


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix in _PICKLED:
        return _read_pickled(path)
    try:
        return load_file(path)
    except FileNotFoundError as error:
        if path.exists():  # what safetensors says of a file that it may not read
            raise CheckpointError(f"{path} cannot be read: check its permissions.") from error
        raise CheckpointError(f"{path.parent} holds no {WEIGHTS}: give a folder written by save_pretrained.") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a complete safetensors file ({error}): copy or download it again."
        ) from error


def _read_pickled(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a file by `torch.save`, without running anything that is in it."""
    try:
        with open(path, "rb") as file:
            start = file.read(2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about pickles that are refused anyway
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=start == b"PK")
    except PermissionError as error:
        raise CheckpointError(f"{path} cannot be read: check its permissions.") from error
    except Exception as error:  # torch raises many types on damaged files
        refused = isinstance(error, pickle.UnpicklingError)
        if refused and (
            start[:1] == b"\x80" or "Unsupported global" in str(error) or "Unsupported class" in str(error)
        ):
            raise CheckpointError(
                f"{path} holds Python code besides weights, which is not run: get it as safetensors, or save its "
                "tensors alone from a program that you trust."
            ) from error
        raise CheckpointError(f"{path} is cut off or no file of torch weights: download it again.") from error
    for key in ("model_state_dict", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise CheckpointError(f"{path} holds no state dict: give a file with a model's weights.")
    return content


def _fitted(model: nn.Module, state: dict[str, torch.Tensor], path: Path, published: bool) -> dict[str, torch.Tensor]:
    """The weights as the model calls them; the sizes of a published model were read off these themselves.

    Raises:
        CheckpointError: if they do not fit.
    """
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    state, missing, unexpected, wrong = _compared(wanted, state)
    if missing and not unexpected and not wrong and published:
        raise CheckpointError(
            f"{path} is incomplete: {len(missing)} of {len(wanted)} weights are missing (for example {missing[0]}); "
            "download or save it again."
        )
    if missing or unexpected or wrong:
        example = (missing or unexpected or wrong)[0]
        raise CheckpointError(
            f"{path} belongs to another architecture than its {CONFIG}: {len(missing)} missing, {len(unexpected)} "
            f"unexpected and {len(wrong)} differently shaped weights (for example {example}); give both files of one "
            "model."
        )
    return state


def _compared(
    wanted: dict[str, tuple[int, ...]], state: dict[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], list[str], list[str], list[str]]:
    """Weights as the model calls them, and the names that are missing, unexpected and of another shape."""
    state = installed_names(state, wanted)
    for key, size in wanted.items():
        if key.endswith("mask_token") and key not in state:  # never used, and some publish without it
            state[key] = torch.zeros(size)
    missing = sorted(set(wanted) - set(state))
    unexpected = sorted(set(state) - set(wanted))
    wrong = sorted(key for key in set(state) & set(wanted) if tuple(state[key].shape) != wanted[key])
    return state, missing, unexpected, wrong
