"""Training an elevation model on renders, whose cameras are known, and how far off it is on others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from tqdm import tqdm

from vfusion3d.cameras import MAX_ELEVATION
from vfusion3d.data.packing import orbit_elevation
from vfusion3d.engine.learning.collected import collect, failures, vectors
from vfusion3d.engine.learning.plots import figure, save_figure
from vfusion3d.engine.learning.videos import Videos
from vfusion3d.engine.stage import ERROR, ID, ItemError, Row
from vfusion3d.engine.stages.features import FEATURES, FeatureStage
from vfusion3d.engine.stages.masks import cut_frames
from vfusion3d.engine.stages.pictures import each_row
from vfusion3d.errors import UsageError
from vfusion3d.preprocessing.elevation import PICTURE, VIDEO, ElevationRegressor, centred_on_white, train_elevation
from vfusion3d.preprocessing.features import ELEVATION_FRAMES, FeatureModel, uniform_frames

FOLDS = 5
_SLACK = 0.05  # radians by which jittered cameras may seem to leave the range


class FrameFeatures(FeatureStage):
    """Features of frames 0, 4, 8 and 12, one after another in one list: as they are, and as pictures whose camera is
    unknown (`centred_on_white`)."""

    name = "frame_features"
    writes: ClassVar[dict[str, pa.DataType]] = {
        "frame_features": pa.list_(pa.float32()),
        "picture_features": pa.list_(pa.float32()),
        FEATURES: pa.string(),
    }

    def process(self, rows: Sequence[Row]) -> Sequence[Row | ItemError]:
        """Look at each video."""
        return each_row(rows, self._features)

    def _features(self, row: Row) -> Row:
        frames = row["frames"]
        if not frames:
            raise ItemError("There are no frames.")
        chosen = [frames[k] for k in uniform_frames(len(frames), ELEVATION_FRAMES)]
        centred = torch.stack([centred_on_white(cut, self.model.size) for cut in cut_frames(chosen)])
        return {
            "frame_features": self.vectors(chosen).flatten().numpy(),
            "picture_features": self.look(centred).flatten().numpy(),
            FEATURES: self.model.tag,
        }


@dataclass(frozen=True)
class ElevationData:
    """Renders with known elevations.

    Args:
        features: Of four frames of each, ``[N, 4, D]``.
        pictures: Of the same as pictures.
        frames: Elevations of those frames in radians, ``[N, 4]``.
        orbits: Elevations that the orbits are labelled with, ``[N]``.
        model: What made the features.
        left_out: Why some videos were not used, by id.
    """

    features: np.ndarray
    pictures: np.ndarray
    frames: np.ndarray
    orbits: np.ndarray
    model: FeatureModel
    left_out: dict[str, str]

    def rows(self, chosen: np.ndarray, kinds: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Training vectors and their elevations: of some orbits, as videos, as pictures or both in equal numbers."""
        features, pictures, frames = self.features[chosen], self.pictures[chosen], self.frames[chosen]
        many = features.shape[1]
        parts = []
        if VIDEO in kinds:
            repeats = many if PICTURE in kinds else 1
            parts.append((features.mean(1).repeat(repeats, 0), self.orbits[chosen].repeat(repeats)))
        if PICTURE in kinds:
            parts.append((pictures.reshape(-1, pictures.shape[-1]), frames.reshape(-1)))
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def elevation_data(videos: Videos, stage: FrameFeatures, folder: Path, quiet: bool = False) -> ElevationData:
    """Features and elevations of all videos whose cameras are known.

    Args:
        videos: Renders on orbits.
        stage: Makes the features.
        folder: Where they are kept, so that a killed process goes on.
        quiet: No progress bar.

    Raises:
        UsageError: if no video has cameras in the range of elevations.
    """
    left_out: dict[str, str] = {}
    labels: dict[str, tuple[float, np.ndarray]] = {}
    for video in videos.ids:
        cameras = videos.cameras(video)
        if cameras is None:
            left_out[video] = "its cameras are unknown or nominal"
            continue
        label = orbit_elevation(cameras)
        if not -_SLACK <= label <= MAX_ELEVATION + _SLACK:
            left_out[video] = "its elevation is not between 0 and 45 degrees"
            continue
        chosen = uniform_frames(len(cameras), ELEVATION_FRAMES)
        labels[video] = label, cameras.elevations[chosen].double().numpy()
    table = collect(stage, videos, list(labels), folder, quiet)
    left_out |= failures(table)
    table = table.filter(pc.field(ERROR).is_null())
    used = table[ID].to_pylist()
    if not used:
        why = next(iter(left_out.values())).rstrip(".")
        raise UsageError(
            f"None of the {len(videos)} videos in {videos.location} can be used to train an elevation model ({why}); "
            "render some with `vfusion3d render --layout orbit`."
        )
    features, pictures = (
        vectors(table, column).reshape(len(used), ELEVATION_FRAMES, -1)
        for column in ("frame_features", "picture_features")
    )
    orbits = np.array([labels[video][0] for video in used])
    frames = np.stack([labels[video][1] for video in used])
    return ElevationData(features, pictures, frames, orbits, stage.model, left_out)


@dataclass(frozen=True)
class ElevationErrors:
    """What models said of orbits that they were not trained on, and what is true; radians.

    Args:
        predicted: ``[N]``.
        true: ``[N]``.
    """

    predicted: np.ndarray
    true: np.ndarray

    def summary(self) -> dict[str, float]:
        """Errors in degrees, beside that of always saying the mean."""
        errors = np.degrees(np.abs(self.predicted - self.true))
        constant = np.degrees(np.abs(self.true - self.true.mean()))
        varies = self.predicted.std() > 0 and self.true.std() > 0
        return {
            "count": len(errors),
            "mean": float(errors.mean()),
            "median": float(np.median(errors)),
            "ninetieth_percentile": float(np.quantile(errors, 0.9)),
            "mean_of_constant": float(constant.mean()),
            "correlation": float(np.corrcoef(self.predicted, self.true)[0, 1]) if varies else 0.0,
        }


def train_on(
    data: ElevationData,
    kinds: Sequence[str] = (VIDEO, PICTURE),
    steps: int | None = None,
    seed: int = 0,
    quiet: bool = False,
) -> tuple[ElevationRegressor, dict[str, ElevationErrors]]:
    """Train on all orbits, and on four fifths of them five times to see the errors on the rest.

    Args:
        data: Renders.
        kinds: What the model is for: ``video``, ``picture``.
        steps: Optimiser steps; as `train_elevation`.
        seed: Of parts, weights and order.
        quiet: No progress bar.

    Returns:
        The model, and the errors of each kind.

    Raises:
        UsageError: if there are fewer than ten orbits.
    """
    count = len(data.orbits)
    if count < 2 * FOLDS:
        raise UsageError(f"An elevation model needs at least {2 * FOLDS} orbits, but there are {count}; render more.")
    folds = np.random.default_rng(seed).permutation(count) % FOLDS
    said: dict[str, list[np.ndarray]] = {kind: [] for kind in kinds}
    true: dict[str, list[np.ndarray]] = {kind: [] for kind in kinds}
    for fold in tqdm([*range(FOLDS), None], desc="train", unit="fold", disable=quiet):
        chosen = np.ones(count, bool) if fold is None else folds != fold
        model = train_elevation(*data.rows(chosen, kinds), data.model.tag, kinds=kinds, steps=steps, seed=seed)
        for kind in kinds if fold is not None else ():
            features, elevations = data.rows(~chosen, [kind])
            said[kind].append(model.predict(features, kind))
            true[kind].append(elevations)
    errors = {
        kind: ElevationErrors(np.concatenate(said[kind]), np.concatenate(true[kind]).clip(0, MAX_ELEVATION))
        for kind in kinds
    }
    model.model = data.model.name
    model.report = {"orbits": count, "folds": FOLDS, **{kind: errors[kind].summary() for kind in kinds}}
    return model, errors


def plot_errors(errors: ElevationErrors, path: Path) -> None:
    """Draw predicted against true elevations, and the histogram of the errors, in degrees.

    Raises:
        OutputError: if the picture cannot be written.
    """
    predicted, true = np.degrees(errors.predicted), np.degrees(errors.true)
    with figure("True elevation (degrees)", "Predicted (degrees)", panels=2) as (drawing, (left, right)):
        left.plot([0, 45], [0, 45], color="grey", linestyle=":")
        left.scatter(true, predicted, s=8, alpha=0.5)
        left.set_xlim(-1, 46)
        left.set_ylim(-1, 46)
        right.hist(predicted - true, bins=31)
        right.axvline(0, color="grey", linestyle=":")
        right.set_xlabel("Predicted - true (degrees)")
        right.set_ylabel("Orbits" if len(true) else "")
        right.set_title(f"mean error {np.abs(predicted - true).mean():.1f} degrees", fontsize="medium")
        save_figure(drawing, path)
