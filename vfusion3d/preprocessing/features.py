"""Pictures as vectors that small classifiers and regressors read: DINO's (paper, section 3.3), or without any weights.

Whatever is trained on such vectors is of use with the same ones only, so they have a tag: what made them, its version
or the digest of its weights, and the size of the pictures that it saw.
"""

from __future__ import annotations

import hashlib
import math
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from huggingface_hub import snapshot_download
from torch import Tensor, nn

from vfusion3d.errors import CheckpointError, UsageError
from vfusion3d.hub import hub_answers, hub_errors

DINO = "facebook/dino-vitb16"
PIXELS = "pixels"
QUALITY_FRAMES, ELEVATION_FRAMES = 8, 4  # the paper's numbers of frames whose features are averaged
_CONFIG = "config.json"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # DINO's own release is of before safetensors
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def uniform_frames(count: int, wanted: int) -> list[int]:
    """``wanted`` of a turn's frames, evenly spread, the first among them.

    Example:
        >>> uniform_frames(16, 4)
        [0, 4, 8, 12]
    """
    return [k * count // wanted for k in range(wanted)]


class FeatureExtractor(nn.Module, ABC):
    """Pictures to vectors."""

    width: int
    """Numbers in a vector."""

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """``[B, width]`` float32 of pictures on white, ``[B, 3, H, W]`` in [0, 1]."""


class PixelFeatures(FeatureExtractor):
    """Colours and edge directions on coarse grids: no weights, nothing learned; for small runs and tests.

    A picture is brought to 64 pixels a side. The vector has the mean "ink" (1 - colour, so that white is 0) of 8 x 8
    cells, and for 64 and 32 pixels a side the square roots of how much edge there is in each cell in each of 8
    directions (histograms of oriented gradients: Dalal and Triggs, CVPR 2005, without their normalisation by blocks).

    Example:
        >>> PixelFeatures()(torch.ones(1, 3, 48, 48)).abs().max() < 1e-3  # white
        tensor(True)
    """

    VERSION = 1
    _SIDE, _GRID, _DIRECTIONS = 64, 8, 8

    def __init__(self) -> None:
        super().__init__()
        self.width = self._GRID**2 * (3 + self._DIRECTIONS) + (self._GRID // 2) ** 2 * self._DIRECTIONS

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Resize, pool, count edges."""
        ink = 1 - F.interpolate(images.float(), (self._SIDE, self._SIDE), mode="bilinear", antialias=True)
        parts = [F.adaptive_avg_pool2d(ink, self._GRID)]
        parts += [self._edges(F.avg_pool2d(ink, factor), self._GRID // factor) for factor in (1, 2)]
        return torch.cat([part.flatten(1) for part in parts], 1)

    def _edges(self, ink: Tensor, grid: int) -> Tensor:
        """``[B, 8, grid, grid]``."""
        grey = F.pad(ink.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
        across, down = grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2], grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]
        place = torch.atan2(down, across).remainder(math.pi) * (self._DIRECTIONS / math.pi)
        centres = torch.arange(self._DIRECTIONS, device=ink.device).view(1, -1, 1, 1)
        away = (place - centres).abs()
        share = (1 - torch.minimum(away, self._DIRECTIONS - away)).clamp_min(0)  # of the two nearest directions
        length = (across.square() + down.square()).sqrt()
        return F.adaptive_avg_pool2d(share * length, grid).clamp_min(0).sqrt()


class DinoFeatures(FeatureExtractor):
    """The class token after the last layer of a vision transformer of transformers, such as DINO's.

    Args:
        model: A ``ViTModel``.
        size: Pixels a side that pictures are brought to.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: Any, size: int) -> None:
        super().__init__()
        self.model, self.size, self.width = model.eval().requires_grad_(False), size, model.config.hidden_size
        self.register_buffer("mean", torch.tensor(_MEAN).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(-1, 1, 1), persistent=False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Resize, normalise, embed."""
        shape = (self.size, self.size)
        resized = F.interpolate(images.float(), shape, mode="bicubic", antialias=True).clamp(0, 1)
        pixels = (resized - self.mean) / self.std
        other = self.size != self.model.config.image_size
        states = self.model(pixels.to(self.model.dtype), interpolate_pos_encoding=other).last_hidden_state
        return states[:, 0].float()  # type: ignore[no-any-return]


@dataclass(frozen=True)
class FeatureModel:
    """Which features, without loading what makes them.

    Args:
        name: As it was asked for.
        tag: Tells these features from all others.
        folder: Where its files are; None if it needs none.
        size: Pixels a side that pictures are brought to.
    """

    name: str
    tag: str
    folder: Path | None = None
    size: int = 0

    @staticmethod
    def find(name: str = DINO, size: int | None = None) -> FeatureModel:
        """Look for a model, and digest its files.

        Args:
            name: ``pixels`` (`PixelFeatures`); a local folder, or ``owner/name`` on the Hugging Face hub, of a vision
                transformer that ``save_pretrained`` wrote.
            size: Pixels a side that pictures are brought to; what the model was trained on by default (DINO: 224).

        Raises:
            CheckpointError: if there is no such model.
            UsageError: if the size does not fit it.
        """
        if name == PIXELS:
            if size is not None:
                raise UsageError(f"The features '{PIXELS}' have one size; leave the size out.")
            return FeatureModel(PIXELS, f"{PIXELS}:{PixelFeatures.VERSION}")
        folder = _find_folder(name)
        config = _read_config(folder)
        size = config.image_size if size is None else size
        if size < config.patch_size or size % config.patch_size:
            raise UsageError(
                f"Features of {name} need pictures whose side is a multiple of {config.patch_size}, but got {size}."
            )
        return FeatureModel(name, f"dino:{_digest(folder)}:{size}", folder, size)

    def load(self, device: str | torch.device = "cpu") -> FeatureExtractor:
        """The extractor.

        Raises:
            CheckpointError: if the weights cannot be loaded.
        """
        if self.folder is None:
            return PixelFeatures().to(device)
        from transformers import ViTModel

        try:
            model, info = ViTModel.from_pretrained(
                self.folder,
                add_pooling_layer=False,
                local_files_only=True,
                output_loading_info=True,
                weights_only=True,
                dtype=torch.float32,
            )
        except Exception as error:  # of many types, and over several lines
            reason = " ".join(str(error).split()).split(". ")[0][:250].rstrip(".")
            raise CheckpointError(
                f"The weights in {self.folder} do not fit its {_CONFIG} ({reason}): give both of one model."
            ) from error
        wrong = [*info["missing_keys"], *(key for key in info["unexpected_keys"] if not key.startswith("pooler."))]
        if wrong or info["mismatched_keys"]:
            example = wrong[0] if wrong else next(iter(info["mismatched_keys"]))
            raise CheckpointError(
                f"The weights in {self.folder} do not fit its {_CONFIG} (for example {example}): give both of one "
                "model."
            )
        return DinoFeatures(model, self.size).to(device)


def check_tag(what: str, trained: str, given: str) -> None:
    """Refuse features of another kind than those that something was trained on.

    Raises:
        UsageError: naming both.
    """
    if trained != given:
        raise UsageError(
            f"{what} was trained on other features ({trained}) than these ({given}); compute those, or train it anew."
        )


def _find_folder(name: str) -> Path:
    folder = Path(name).expanduser()
    if not (name and os.path.isdir(folder)):
        if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
            raise CheckpointError(
                f"There is no feature model {name!r}: give '{PIXELS}', a folder with {_CONFIG} and weights of a vision "
                f"transformer, or owner/name on the Hugging Face hub, such as {DINO}."
            )
        folder = _download(name)
    return folder


def _download(name: str) -> Path:
    instead = f"give a local folder, or '{PIXELS}', which needs no weights"
    with hub_errors(name, what="Feature model", files=f"{_CONFIG} of a vision transformer", instead=instead):
        local = not hub_answers(name, _CONFIG)
        for weights in _WEIGHTS:
            folder = Path(snapshot_download(name, allow_patterns=[_CONFIG, weights], local_files_only=local))
            if (folder / weights).exists():
                break
    return folder


def _read_config(folder: Path) -> Any:
    from transformers import ViTConfig

    path = folder / _CONFIG
    if not path.is_file():
        raise CheckpointError(f"{folder} holds no {_CONFIG}: copy or download the feature model again.")
    try:
        values, _ = ViTConfig.get_config_dict(folder)
        kind = values.get("model_type")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: copy or download it again.") from error
    if kind != "vit":
        raise CheckpointError(f"{path} is of a {kind!r}, but features come from a 'vit', such as {DINO}.")
    return ViTConfig.from_dict(values)


def _weights(folder: Path) -> Path:
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(f"{folder} holds no weights ({' or '.join(_WEIGHTS)}): copy or download the model again.")


def _digest(folder: Path) -> str:
    """Twelve hexadecimal digits of the configuration and the weights."""
    digest = hashlib.sha256((folder / _CONFIG).read_bytes())
    with open(_weights(folder), "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()[:12]
