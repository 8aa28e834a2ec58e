"""Good or bad: what people say of videos, and the web page on which they say it."""

from vfusion3d.engine.learning.labels.agreement import Agreement, agreement, agreements, merge_labels
from vfusion3d.engine.learning.labels.files import LABELS, LabelFile, read_labels
from vfusion3d.engine.learning.labels.server import LabelServer, LabelSession

__all__ = [
    "LABELS",
    "Agreement",
    "LabelFile",
    "LabelServer",
    "LabelSession",
    "agreement",
    "agreements",
    "merge_labels",
    "read_labels",
]
