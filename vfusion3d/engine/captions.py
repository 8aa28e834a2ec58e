"""Which captions cannot describe a single object (paper, section 3.3), without a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pyarrow as pa

from vfusion3d.engine.stage import ItemError, Row, Stage


class RuleCaptionFilter(Stage):
    """Refuses captions that are empty or long. It understands none: those of several things pass.

    Args:
        words: The most words that a caption may have.
    """

    name = "caption_rules"
    reads = ("prompt",)
    writes: ClassVar[dict[str, pa.DataType]] = {"single_object": pa.bool_(), "caption_reason": pa.string()}

    def __init__(self, words: int = 30) -> None:
        super().__init__(words=words)
        self.words = words

    def process(self, rows: Sequence[Row]) -> Sequence[Row | ItemError]:
        """Say yes or no, and why."""
        return [self._judge(row["prompt"]) for row in rows]

    def _judge(self, caption: str) -> Row:
        words = caption.split()
        reason = "empty" if not words else "long" if len(words) > self.words else None
        return {"single_object": reason is None, "caption_reason": reason}
