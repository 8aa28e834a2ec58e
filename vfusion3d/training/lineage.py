"""The licences that a trained model comes from: of what its training started from, and of its training data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vfusion3d.models import ReconstructorConfig

LICENCES = "vfusion3d_licences"
"""Key of a checkpoint: what the training data say of their licences, a list of texts; None if that is not known."""
NOT_RECORDED = "The licences of the training data were not recorded."


def lineage(start: Iterable[str], licences: Iterable[str] | None) -> tuple[str, ...]:
    """One sentence for each licence that trained weights come from.

    Args:
        start: Those of what training started from.
        licences: Texts of the training data; None if they were not recorded.

    Example:
        >>> lineage(["svd: Stability AI Community License"], ["CC0-1.0"])
        ('svd: Stability AI Community License', 'Training data: CC0-1.0')
    """
    data = [NOT_RECORDED] if licences is None else [f"Training data: {text}" for text in licences]
    return tuple(dict.fromkeys([*start, *data]))


def reconstructor_lineage(
    settings: Mapping[str, Any], config: ReconstructorConfig, licences: Iterable[str] | None
) -> tuple[str, ...]:
    """The `lineage` of a reconstructor.

    Args:
        settings: Arguments of `ReconstructorTraining`.
        config: The model's configuration in training: licence and lineage are of what it started from, if anything.
        licences: As in `lineage`.
    """
    start: list[str] = []
    if settings.get("weights"):
        start = [f"Started from {settings['weights']}: {config.license}", *config.lineage]
    elif settings.get("encoder_weights"):
        start = [f"The encoder started from {settings['encoder_weights']}"]
    return lineage(start, licences)
