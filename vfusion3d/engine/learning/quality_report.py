"""How well a quality filter does on videos that it has not seen: numbers and plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vfusion3d.engine.learning.plots import figure, save_figure
from vfusion3d.engine.stages.quality import FOLDS, QualityClassifier, check_labelled, threshold_for
from vfusion3d.errors import UsageError
from vfusion3d.metrics.intervals import wilson_interval

_BINS = 8


@dataclass(frozen=True)
class CrossValidation:
    """Decision values of labelled videos, each by a filter that was trained without it.

    Args:
        decisions: ``[N]``.
        good: Labels, bool ``[N]``.
        folds: By which of the filters, ``[N]``.
    """

    decisions: np.ndarray
    good: np.ndarray
    folds: np.ndarray

    def at(self, threshold: float) -> dict[str, float]:
        """Keep rate, precision and recall of videos with ``decision >= threshold``."""
        kept = self.decisions >= threshold
        right = float((kept & self.good).sum())
        return {
            "threshold": threshold,
            "keep_rate": float(kept.mean()),
            "precision": right / max(int(kept.sum()), 1),
            "recall": right / int(self.good.sum()),
        }

    def summary(self, keep_rate: float) -> dict[str, Any]:
        """What ``quality.json`` says of it: at the threshold 0, at that of a keep rate, and how the folds differ."""
        from sklearn.metrics import average_precision_score, roc_auc_score

        each = [
            CrossValidation(self.decisions[part], self.good[part], self.folds[part]).at(0.0)
            for part in (self.folds == fold for fold in np.unique(self.folds))
        ]
        spread = {name: float(np.std([one[name] for one in each])) for name in ("precision", "recall")}
        return {
            "videos": len(self.good),
            "good": int(self.good.sum()),
            "folds": len(each),
            "roc_auc": float(roc_auc_score(self.good, self.decisions)),
            "average_precision": float(average_precision_score(self.good, self.decisions)),
            "at_zero": self.at(0.0),
            "spread_over_folds": spread,
            "at_keep_rate": self.at(threshold_for(self.decisions, keep_rate)),
        }

    def calibration(self, bins: int = _BINS) -> list[dict[str, float]]:
        """The share of good videos among those of similar decision values, with 95 % intervals (Wilson).

        Returns:
            Of each of up to ``bins`` groups of equally many: mean ``decision``, ``good`` share, ``low`` and ``high``.
        """
        order = np.argsort(self.decisions)
        groups = []
        for part in np.array_split(order, min(bins, len(order))):
            share, low, high = wilson_interval(int(self.good[part].sum()), len(part))
            groups.append({"decision": float(self.decisions[part].mean()), "good": share, "low": low, "high": high})
        return groups


def cross_validate(
    features: np.ndarray, good: Sequence[bool] | np.ndarray, tag: str, penalty: float = 1.0, seed: int = 0
) -> CrossValidation:
    """Train on four fifths of the labelled videos, judge the rest, five times; each part has its share of good ones.

    Args:
        features: ``[N, D]``.
        good: Labels, ``[N]``.
        tag: Of the features.
        penalty: As `QualityClassifier.train`.
        seed: Of the parts.

    Raises:
        UsageError: if there are too few labels for two folds with two of each label in training.
    """
    from sklearn.model_selection import StratifiedKFold

    features, labels = check_labelled(features, good)
    rare = min(int(labels.sum()), int((~labels).sum()))
    if rare < 4:
        raise UsageError(
            f"Cross-validation needs at least four good and four bad videos, but there are {int(labels.sum())} good "
            f"and {int((~labels).sum())} bad; label more."
        )
    decisions, folds = np.zeros(len(labels)), np.zeros(len(labels), int)
    splitter = StratifiedKFold(min(FOLDS, rare // 2), shuffle=True, random_state=seed)
    for fold, (train, test) in enumerate(splitter.split(features, labels)):
        decisions[test] = QualityClassifier.train(features[train], labels[train], tag, penalty).decision(features[test])
        folds[test] = fold
    return CrossValidation(decisions, labels, folds)


def plot_calibration(result: CrossValidation, threshold: float, path: Path) -> None:
    """Draw how the share of good videos grows with the decision value.

    Raises:
        OutputError: if the picture cannot be written.
    """
    groups = result.calibration()
    with figure("Decision value (out of fold)", "Share labelled good") as (drawing, axes):
        middle = [group["good"] for group in groups]
        axes.errorbar(
            [group["decision"] for group in groups],
            middle,
            yerr=[
                [share - group["low"] for share, group in zip(middle, groups, strict=True)],
                [group["high"] - share for share, group in zip(middle, groups, strict=True)],
            ],
            fmt="o-",
            capsize=3,
            label="groups of equal size, 95 % intervals",
        )
        axes.axhline(float(result.good.mean()), color="grey", linestyle=":", label="all labelled videos")
        axes.axvline(threshold, color="black", linestyle="--", label=f"threshold {threshold:.3g}")
        axes.set_ylim(-0.02, 1.02)
        axes.legend(fontsize="small")
        save_figure(drawing, path)


def plot_keep_rate(result: CrossValidation, threshold: float, path: Path) -> None:
    """Draw precision and recall for every keep rate.

    Raises:
        OutputError: if the picture cannot be written.
    """
    order = np.argsort(-result.decisions, kind="stable")
    right = np.cumsum(result.good[order])
    kept = np.arange(1, len(order) + 1)
    with figure("Keep rate", "Share") as (drawing, axes):
        axes.plot(kept / len(order), right / kept, label="precision: of the kept, good")
        axes.plot(kept / len(order), right / right[-1], label="recall: of the good, kept")
        axes.axhline(float(result.good.mean()), color="grey", linestyle=":", label="precision of keeping all")
        rate = result.at(threshold)["keep_rate"]
        axes.axvline(rate, color="black", linestyle="--", label=f"chosen: {rate:.1%}")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.legend(fontsize="small", loc="lower right")
        save_figure(drawing, path)
