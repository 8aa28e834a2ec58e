"""From how high a picture, or a video around an object, was taken: a small network on features (paper, section 3.3)."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vfusion3d.cameras import MAX_ELEVATION, Rig
from vfusion3d.errors import CheckpointError, UsageError
from vfusion3d.preprocessing.learned import digest_of, load_learned, save_learned

ELEVATION_FILES = "elevation"
VIDEO, PICTURE = "video", "picture"
HIDDEN = 256
_SETTINGS = ("features", "kinds", "rig", "report")
_ARRAYS = ("mean", "scale", "first.weight", "first.bias", "second.weight", "second.bias")


class ElevationRegressor(nn.Module):
    """Two linear layers on standardised features.

    Args:
        features: Tag of the features that it reads (`vfusion3d.preprocessing.features.FeatureModel`).
        width: Numbers in a vector.
        hidden: Width of the hidden layer.
        kinds: What it was trained on: ``video``, features averaged over a turn's frames, and ``picture``, those of
            single frames.
        rig: Cameras of the renders it was trained on, which say how large objects should be in the frame; None if
            unknown.
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
        rig: Rig | None = None,
        report: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.features, self.width, self.kinds, self.rig = features, width, tuple(kinds), rig
        self.report = dict(report or {})
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.first, self.second = nn.Linear(width, hidden), nn.Linear(hidden, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Elevations ``[N]`` in [0, pi/4] of features ``[N, width]``, 0.5 being the middle of the network's range."""
        return self.unbounded(features).clamp(0, MAX_ELEVATION)

    def unbounded(self, features: Tensor) -> Tensor:
        """What is clamped in `forward`; for training."""
        hidden = torch.relu(self.first((features - self.mean) / self.scale))
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
        if kind not in self.kinds:
            raise UsageError(
                f"The elevation model was trained on features of a {' and a '.join(self.kinds)}, not of a {kind}; "
                "train one on both."
            )
        features = torch.as_tensor(np.asarray(features), dtype=torch.float32)
        if features.ndim != 2 or features.shape[1] != self.width:
            raise UsageError(
                f"The elevation model was trained on vectors of {self.width} numbers, but got {features.shape[-1]}; "
                "make them with the same settings."
            )
        return self(features).double().numpy()  # type: ignore[no-any-return]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``elevation.json`` and ``elevation.safetensors``.

        Raises:
            OutputError: if they cannot be written.
        """
        settings = {
            "features": self.features,
            "kinds": list(self.kinds),
            "rig": None if self.rig is None else asdict(self.rig),
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
            rig = None if settings["rig"] is None else Rig(**settings["rig"])
            model = ElevationRegressor(settings["features"], width, hidden, settings["kinds"], rig, settings["report"])
            model.load_state_dict({key: torch.from_numpy(value.copy()) for key, value in arrays.items()})
        except (ValueError, TypeError, RuntimeError) as error:
            raise CheckpointError(
                f"The model in {folder} is none that `vfusion3d train-elevation` wrote: train it again."
            ) from error
        return model.eval()


def elevation_digest(folder: str | os.PathLike[str]) -> str:
    """Sixteen hexadecimal digits of what decides a saved model's results."""
    return digest_of(folder, ELEVATION_FILES, ("features",))


def train_elevation(
    features: np.ndarray,
    elevations: np.ndarray,
    tag: str,
    *,
    kinds: Sequence[str] = (VIDEO,),
    rig: Rig | None = None,
    hidden: int = HIDDEN,
    steps: int = 1000,
    seed: int = 0,
) -> ElevationRegressor:
    """Fit a regressor: AdamW on the mean squared error, a cosine schedule, dropout on the features.

    Args:
        features: ``[N, D]``; frames of one object one after another if there are several.
        elevations: Radians, ``[N]``.
        tag: Of the features.
        kinds: What the features are of.
        rig: Cameras of the renders.
        hidden: Width of the hidden layer.
        steps: Optimiser steps of 256 vectors.
        seed: Of weights and order.

    Raises:
        UsageError: if there are fewer than two vectors, or numbers are not finite or out of range.
    """
    inputs = torch.as_tensor(np.asarray(features), dtype=torch.float32)
    targets = torch.as_tensor(np.asarray(elevations), dtype=torch.float32)
    if inputs.ndim != 2 or len(inputs) != len(targets) or len(inputs) < 2:
        raise UsageError(
            f"Features {tuple(inputs.shape)} and {len(targets)} elevations do not fit; give one vector for each of at "
            "least two."
        )
    if not bool(inputs.isfinite().all() and targets.isfinite().all()):
        raise UsageError("Some features or elevations are NaN or infinite; compute them anew.")
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ElevationRegressor(tag, inputs.shape[1], hidden, kinds, rig)
        model.mean.copy_(inputs.mean(0))
        model.scale.copy_(inputs.std(0).clamp_min(1e-3))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * 0.5 * (1 + math.cos(math.pi * step / steps))
            chosen = torch.randint(len(inputs), (min(256, len(inputs)),), generator=generator)
            dropped = torch.dropout(inputs[chosen] - model.mean, 0.2, True) + model.mean
            loss = ((model.unbounded(dropped) - targets[chosen]) / MAX_ELEVATION).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()
