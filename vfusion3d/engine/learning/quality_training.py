"""From labelled videos to a saved filter, with what cross-validation says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from vfusion3d.engine.learning.collected import collect, failures, vectors
from vfusion3d.engine.learning.quality_report import cross_validate, plot_calibration, plot_keep_rate
from vfusion3d.engine.learning.videos import Videos
from vfusion3d.engine.stage import ERROR, ID
from vfusion3d.engine.stages.categories import category, keep_rates
from vfusion3d.engine.stages.features import VideoFeatures
from vfusion3d.engine.stages.quality import KEEP_RATE, QualityClassifier
from vfusion3d.errors import UsageError


def train_on_labels(
    videos: Videos,
    labels: Mapping[str, bool],
    stage: VideoFeatures,
    output: Path,
    *,
    keep_rate: float = KEEP_RATE,
    penalty: float = 1.0,
    seed: int = 0,
    quiet: bool = False,
) -> QualityClassifier:
    """Train a filter, cross-validate it, choose its threshold, draw the plots and save all of it.

    Args:
        videos: The videos.
        labels: Whether they are good, by id.
        stage: Makes the features.
        output: Gets ``quality.json``, ``quality.safetensors``, ``calibration.png``, ``keep_rate.png`` and the folder
            ``features``.
        keep_rate: Share of all videos that the threshold should keep: of the labelled ones it does, by out-of-fold
            decision values.
        penalty: As `QualityClassifier.train`.
        seed: Of the parts of cross-validation.
        quiet: No progress bar.

    Raises:
        UsageError: if labels are of other videos, or too few.
        OutputError: if something cannot be written.
    """
    known = set(videos.ids)
    wanted = [video for video in labels if video in known]
    if not wanted:
        raise UsageError(
            f"None of the {len(labels)} labelled videos is in {videos.location}; name the folder that was labelled."
        )
    table = collect(stage, videos, wanted, output / "features", quiet)
    failed = failures(table)
    if len(failed) == len(wanted):
        raise UsageError(f"None of the {len(wanted)} labelled videos can be used: {next(iter(failed.values()))}")
    table = table.filter(pc.field(ERROR).is_null())
    used = table[ID].to_pylist()
    features = vectors(table, "quality_features").astype(np.float64)
    good = np.array([labels[video] for video in used], bool)
    result = cross_validate(features, good, stage.model.tag, penalty, seed)
    summary = result.summary(keep_rate)
    threshold = summary["at_keep_rate"]["threshold"]
    kinds = [category(videos.prompt(video)) for video in used]
    rates = keep_rates(kinds, result.decisions >= threshold)
    for name, rate in rates.items():
        rate["labelled_good"] = float(good[[name in ("all", kind) for kind in kinds]].mean())
    report = {**summary, "left_out": len(labels) - len(used), "calibration": result.calibration(), "categories": rates}
    classifier = replace(
        QualityClassifier.train(features, good, stage.model.tag, penalty), threshold=threshold, report=report
    )
    plot_calibration(result, threshold, output / "calibration.png")
    plot_keep_rate(result, threshold, output / "keep_rate.png")
    classifier.save(output)
    return classifier
