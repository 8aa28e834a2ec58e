"""Which videos are good: a support vector machine on their features (paper, section 3.3)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from vfusion3d.engine.stage import ItemError, Row, Stage
from vfusion3d.engine.stages.features import FEATURES
from vfusion3d.engine.stages.pictures import each_row
from vfusion3d.errors import UsageError
from vfusion3d.preprocessing.features import check_tag
from vfusion3d.preprocessing.learned import digest_of, load_learned, save_learned

QUALITY = "quality"
"""Name of the files of a filter, and of the column that it adds."""
KEEP_RATE = 0.675  # the paper's: 2.7 of 4 million
FOLDS = 5
_ARRAYS = ("mean", "scale", "support", "coefficients")


@dataclass(frozen=True)
class QualityClassifier:
    """A standardised support vector machine with Gaussian kernel.

    Args:
        features: Tag of the features that it reads (`vfusion3d.preprocessing.features.FeatureModel`).
        mean: Of each number in the training features, ``[D]``.
        scale: Its standard deviation there, ``[D]``.
        support: Support vectors, standardised, ``[S, D]``.
        coefficients: Their weights, positive for good ones, ``[S]``.
        intercept: Added to the weighted sum.
        gamma: Of the kernel ``exp(-gamma |x - y|^2)``.
        threshold: Decision value from which videos are kept.
        report: What was measured when it was trained; plain data.
    """

    features: str
    mean: np.ndarray
    scale: np.ndarray
    support: np.ndarray
    coefficients: np.ndarray
    intercept: float
    gamma: float
    threshold: float = 0.0
    report: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def train(
        features: np.ndarray, good: Sequence[bool] | np.ndarray, tag: str, penalty: float = 1.0
    ) -> QualityClassifier:
        """Fit a filter; both classes weigh the same, however many of each there are.

        Args:
            features: ``[N, D]``.
            good: Labels, ``[N]``.
            tag: Of the features.
            penalty: Of the errors on the training set (scikit-learn's ``C``).

        Raises:
            UsageError: if there are not two of each label, or features are not finite.
        """
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import SVC

        features, labels = check_labelled(features, good)
        scaler = StandardScaler().fit(features)
        points = scaler.transform(features)
        gamma = 1 / (points.shape[1] * max(float(points.var()), 1e-12))  # scikit-learn's "scale"
        svm = SVC(C=penalty, kernel="rbf", gamma=gamma, class_weight="balanced").fit(points, labels)
        return QualityClassifier(
            tag,
            scaler.mean_,
            scaler.scale_,
            svm.support_vectors_,
            svm.dual_coef_[0],
            float(svm.intercept_[0]),
            gamma,
        )

    def decision(self, features: np.ndarray) -> np.ndarray:
        """Decision values ``[N]`` of features ``[N, D]``: positive for what looks like the good ones.

        Raises:
            UsageError: if a vector has another number of entries than the training features.
        """
        features = np.asarray(features, np.float64)
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise UsageError(
                f"The quality filter was trained on vectors of {len(self.mean)} numbers, but got "
                f"{features.shape[-1] if features.ndim else 0}; make them with the same settings."
            )
        points = (features - self.mean) / self.scale
        distance = (points**2).sum(1)[:, None] + (self.support**2).sum(1) - 2 * points @ self.support.T
        return np.exp(-self.gamma * distance.clip(0)) @ self.coefficients + self.intercept

    def with_keep_rate(self, rate: float, decisions: np.ndarray) -> QualityClassifier:
        """This filter with the threshold that keeps a share of videos.

        Args:
            rate: In (0, 1].
            decisions: Their decision values; of videos it was trained on, out-of-fold ones
                (`vfusion3d.engine.learning.quality_report.cross_validate`).

        Raises:
            UsageError: if the rate is out of range.
        """
        return replace(self, threshold=threshold_for(decisions, rate))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``quality.json`` and ``quality.safetensors``.

        Raises:
            OutputError: if they cannot be written.
        """
        settings = {
            "features": self.features,
            "intercept": self.intercept,
            "gamma": self.gamma,
            "threshold": self.threshold,
            "report": dict(self.report),
        }
        save_learned(folder, QUALITY, settings, {name: getattr(self, name) for name in _ARRAYS})

    @staticmethod
    def load(folder: str | os.PathLike[str]) -> QualityClassifier:
        """Read what `save` wrote.

        Raises:
            CheckpointError: naming what is missing or broken.
        """
        settings, arrays = load_learned(
            folder, QUALITY, ("features", "intercept", "gamma", "threshold", "report"), _ARRAYS
        )
        return QualityClassifier(**settings, **arrays)


def threshold_for(decisions: np.ndarray, rate: float) -> float:
    """The largest threshold at which at least a share of decision values is kept (``value >= threshold``).

    Example:
        >>> threshold_for(np.array([0.1, 0.4, 0.3, 0.2]), 0.5)
        0.3
    """
    if not 0 < rate <= 1:
        raise UsageError(f"The keep rate must be in (0, 1], but got {rate}.")
    ordered = np.sort(np.asarray(decisions, np.float64))[::-1]
    if not len(ordered):
        raise UsageError("A keep rate needs decision values to choose the threshold by, but there are none.")
    return float(ordered[min(int(np.ceil(rate * len(ordered) - 1e-9)), len(ordered)) - 1])


def check_labelled(features: np.ndarray, good: Sequence[bool] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features as float64 and labels as booleans.

    Raises:
        UsageError: if they cannot be trained on.
    """
    features, labels = np.asarray(features, np.float64), np.asarray(good, bool)
    if features.ndim != 2 or len(features) != len(labels):
        raise UsageError(f"Features {features.shape} and {len(labels)} labels do not fit; give one vector for each.")
    rare = min(int(labels.sum()), int((~labels).sum()))
    if rare < 2:
        raise UsageError(
            f"A quality filter needs at least two good and two bad videos, but there are {int(labels.sum())} good and "
            f"{int((~labels).sum())} bad; label more."
        )
    if not np.isfinite(features).all():
        raise UsageError("Some features are NaN or infinite; compute them anew.")
    return features, labels


class QualityScore(Stage):
    """The decision value of a quality filter; a threshold on it is a condition (``where``) of later steps.

    Args:
        classifier: Folder that ``vfusion3d train-quality`` wrote.

    Raises:
        CheckpointError: if it holds no filter.
    """

    name = "quality_score"
    reads = ("quality_features", FEATURES)
    writes: ClassVar[dict[str, pa.DataType]] = {QUALITY: pa.float64()}

    def __init__(self, classifier: str) -> None:
        self.folder = Path(classifier)
        self.classifier = QualityClassifier.load(classifier)
        super().__init__(classifier=digest_of(self.folder, QUALITY, ("intercept", "gamma")))

    def process(self, rows: Sequence[Row]) -> Sequence[Row | ItemError]:
        """Judge each by itself: rounding depends on how many are judged together.

        Raises:
            UsageError: if the filter was trained on other features.
        """
        return each_row(rows, self._judge)

    def _judge(self, row: Row) -> Row:
        check_tag(f"The quality filter {self.folder}", self.classifier.features, row[FEATURES])
        return {QUALITY: float(self.classifier.decision(np.array([row["quality_features"]]))[0])}
