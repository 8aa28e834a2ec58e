"""From how high a picture, or a video around an object, was taken: a small network on features (paper, section 3.3)."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from vfusion3d.alpha import over_white
from vfusion3d.cameras import MAX_ELEVATION
from vfusion3d.errors import CheckpointError, UsageError
from vfusion3d.preprocessing.features import PIXELS, FeatureModel, check_tag
from vfusion3d.preprocessing.learned import digest_of, load_learned, save_learned
from vfusion3d.preprocessing.recentre import recentre

ELEVATION_FILES = "elevation"
VIDEO, PICTURE = "video", "picture"
HIDDEN = 256
_BATCH, _DROPOUT = 256, 0.3
_SIZE = 128  # pixels a side of a centred picture, for features that bring it to their own size
_SETTINGS = ("features", "kinds", "model", "report")
_ARRAYS = ("mean", "scale", "first.weight", "first.bias", "second.weight", "second.bias")


class ElevationRegressor(nn.Module):
    """Two linear layers on standardised features.

    Args:
        features: Tag of the features that it reads (`vfusion3d.preprocessing.features.FeatureModel`).
        width: Numbers in a vector.
        hidden: Width of the hidden layer.
        kinds: What it was trained on: ``video``, features averaged over a turn's frames, and ``picture``, those of
            single frames.
        model: Name of the model that makes the features, as it was found when this was trained.
        report: What was measured when it was trained; plain data.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        features: str,
        width: int,
        hidden: int = HIDDEN,
        kinds: Sequence[str] = (VIDEO,),
        model: str = PIXELS,
        report: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.features, self.width, self.kinds, self.model = features, width, tuple(kinds), model
        self.report = dict(report or {})
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.first, self.second = nn.Linear(width, hidden), nn.Linear(hidden, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Elevations ``[N]`` in [0, pi/4] of features ``[N, width]``, 0.5 being the middle of the network's range."""
        return self.unbounded(features).clamp(0, MAX_ELEVATION)

    def unbounded(self, features: Tensor, dropout: float = 0.0) -> Tensor:
        """What is clamped in `forward`; in training a share of the hidden layer is dropped."""
        hidden = torch.dropout(torch.relu(self.first((features - self.mean) / self.scale)), dropout, dropout > 0)
        return (self.second(hidden)[..., 0] + 0.5) * MAX_ELEVATION

    @torch.no_grad()
    def predict(self, features: np.ndarray | Tensor, kind: str = VIDEO) -> np.ndarray:
        """Elevations in radians, in [0, pi/4].

        Args:
            features: ``[N, width]``.
            kind: What they are of: ``video`` or ``picture``.

        Raises:
            UsageError: if the network was not trained on such, or on vectors of another size.
        """
        self.check_kind(kind)
        features = torch.as_tensor(np.asarray(features), dtype=torch.float32)
        if features.ndim != 2 or features.shape[1] != self.width:
            raise UsageError(
                f"The elevation model was trained on vectors of {self.width} numbers, but got {features.shape[-1]}; "
                "make them with the same settings."
            )
        return self(features).double().clamp(0, MAX_ELEVATION).numpy()  # type: ignore[no-any-return]

    def check_kind(self, kind: str) -> None:
        """Refuse what it was not trained on.

        Raises:
            UsageError: naming both.
        """
        if kind not in self.kinds:
            raise UsageError(
                f"The elevation model was trained on features of a {' and a '.join(self.kinds)}, not of a {kind}; "
                "train one on both."
            )

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``elevation.json`` and ``elevation.safetensors``.

        Raises:
            OutputError: if they cannot be written.
        """
        settings = {
            "features": self.features,
            "kinds": list(self.kinds),
            "model": self.model,
            "report": self.report,
        }
        save_learned(
            folder, ELEVATION_FILES, settings, {key: value.numpy() for key, value in self.state_dict().items()}
        )

    @staticmethod
    def load(folder: str | os.PathLike[str]) -> ElevationRegressor:
        """Read what `save` wrote.

        Raises:
            CheckpointError: naming what is missing or broken.
        """
        settings, arrays = load_learned(folder, ELEVATION_FILES, _SETTINGS, _ARRAYS)
        try:
            hidden, width = arrays["first.weight"].shape
            model = ElevationRegressor(width=width, hidden=hidden, **settings)
            model.load_state_dict({key: torch.from_numpy(value.copy()) for key, value in arrays.items()})
        except (ValueError, TypeError, RuntimeError) as error:
            raise CheckpointError(
                f"The model in {folder} is none that `vfusion3d train-elevation` wrote: train it again."
            ) from error
        return model.eval()


class ElevationEstimator:
    """From how high a single picture was taken.

    The regressor has to be trained on single pictures too: the features of one are no mean over a turn, which has lost
    what is seen from one side only. Both are centred (`centred_on_white`): whoever took a picture chose its frame.

    Args:
        folder: Of an `ElevationRegressor`.
        model: What makes the features, if that is elsewhere than when the regressor was trained.
        device: Where it works.

    Raises:
        CheckpointError: if one of both cannot be loaded.
        UsageError: if they do not belong together, or the regressor is for videos only.
    """

    def __init__(
        self, folder: str | os.PathLike[str], model: str | None = None, device: str | torch.device = "cpu"
    ) -> None:
        self.regressor, self.device = ElevationRegressor.load(folder), device
        self.regressor.check_kind(PICTURE)
        size = self.regressor.features.rpartition(":")[2]
        name = model or self.regressor.model
        try:
            found = FeatureModel.find(name, None if name == PIXELS else int(size))
        except CheckpointError as error:
            raise CheckpointError(
                f"The elevation model {folder} needs the features that it was trained on: {error}"
            ) from error
        check_tag(f"The elevation model {folder}", self.regressor.features, found.tag)
        self.extractor, self.size = found.load(device), found.size

    def __call__(self, cutout: Image.Image) -> float:
        """Degrees above the horizon, in [0, 45].

        Args:
            cutout: The object, RGBA with straight alpha.

        Raises:
            InputImageError: if nothing is opaque.
        """
        features = self.extractor(centred_on_white(cutout, self.size)[None].to(self.device)).cpu()
        return math.degrees(float(self.regressor.predict(features, PICTURE)[0]))


def centred_on_white(cutout: Image.Image, size: int | None) -> Tensor:
    """What features of a single picture are made of: the object alone, with a border of a tenth on each side.

    Args:
        cutout: The object, RGBA with straight alpha.
        size: Pixels a side that the features see; None if they take any.

    Returns:
        RGB in [0, 1], ``[3, S, S]``.

    Raises:
        InputImageError: if nothing is opaque.
    """
    return over_white(recentre(cutout, size or _SIZE)[0])


def elevation_digest(folder: str | os.PathLike[str]) -> str:
    """Sixteen hexadecimal digits of what decides a saved model's results."""
    return digest_of(folder, ELEVATION_FILES, ("features",))


def train_elevation(
    features: np.ndarray,
    elevations: np.ndarray,
    tag: str,
    *,
    kinds: Sequence[str] = (VIDEO,),
    hidden: int = HIDDEN,
    steps: int | None = None,
    seed: int = 0,
) -> ElevationRegressor:
    """Fit a regressor: AdamW on the mean squared error, a cosine schedule, dropout.

    Args:
        features: ``[N, D]``; frames of one object one after another if there are several.
        elevations: Radians, ``[N]``.
        tag: Of the features.
        kinds: What the features are of.
        hidden: Width of the hidden layer.
        steps: Optimiser steps of up to 256 vectors; by default as many as see each vector 30 times, but at least 1000
            and at most 20,000.
        seed: Of weights and order.

    Raises:
        UsageError: if there are fewer than two vectors, or numbers are not finite or out of range.
    """
    inputs = torch.as_tensor(np.asarray(features), dtype=torch.float32)
    targets = torch.tensor(np.asarray(elevations), dtype=torch.float32)
    if inputs.ndim != 2 or len(inputs) != len(targets) or len(inputs) < 2:
        raise UsageError(
            f"Features {tuple(inputs.shape)} and {len(targets)} elevations do not fit; give one vector for each of at "
            "least two."
        )
    if not bool(inputs.isfinite().all() and targets.isfinite().all()):
        raise UsageError("Some features or elevations are NaN or infinite; compute them anew.")
    batch = min(_BATCH, len(inputs))
    steps = min(max(30 * len(inputs) // batch, 1000), 20_000) if steps is None else steps
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ElevationRegressor(tag, inputs.shape[1], hidden, kinds)
        model.mean.copy_(inputs.mean(0))
        model.scale.copy_(inputs.std(0).clamp_min(1e-3))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * 0.5 * (1 + math.cos(math.pi * step / steps))
            chosen = torch.randint(len(inputs), (batch,), generator=generator)
            said = model.unbounded(inputs[chosen], _DROPOUT)
            loss = ((said - targets[chosen]) / MAX_ELEVATION).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()
