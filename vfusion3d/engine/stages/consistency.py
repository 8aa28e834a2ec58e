"""Whether an orbit's frames are where its label says: matches between neighbours, and structure from motion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pyarrow as pa

from vfusion3d.engine.stage import ItemError, Row, Stage
from vfusion3d.engine.stages.orbits import row_rig
from vfusion3d.engine.stages.pictures import decode_frames, each_row
from vfusion3d.metrics.consistency import MATCH_LIMIT, match_score
from vfusion3d.metrics.sfm import require_pycolmap, sfm_figures


class MatchScore(Stage):
    """The share of neighbouring frames whose SIFT matches fit the labelled cameras (`match_score`).

    Args:
        limit: Largest median epipolar error of a consistent pair, pixels.
    """

    name = "match_score"
    reads = ("frames", "rig", "elevation")
    writes: ClassVar[dict[str, pa.DataType]] = {"match_score": pa.float32()}

    def __init__(self, limit: float = MATCH_LIMIT) -> None:
        super().__init__(limit=limit)
        self.limit = limit

    def process(self, rows: Sequence[Row]) -> Sequence[Row | ItemError]:
        """Each row's share, in [0, 1]."""
        return each_row(rows, self._score)

    def _score(self, row: Row) -> Row:
        cameras = row_rig(row).cameras(row["elevation"])
        return {"match_score": float(match_score(decode_frames(row["frames"]), cameras, self.limit))}


class SfmCheck(Stage):
    """How many frames structure from motion registers, and how many of those where the label says (`sfm_figures`).

    Of perfect orbits of 16 frames only about half pass at 8 frames: compare with the rate of true renders.

    Args:
        timeout: Seconds that an item may take.
        seed: Of its random choices.
    """

    name = "sfm"
    reads = ("frames", "rig", "elevation")
    writes: ClassVar[dict[str, pa.DataType]] = {"sfm_registered": pa.int32(), "sfm_frames": pa.int32()}

    def __init__(self, timeout: float = 600.0, seed: int = 0) -> None:
        super().__init__(timeout=timeout, seed=seed)
        self.timeout, self.seed = timeout, seed

    def load(self) -> None:
        """See that it can run.

        Raises:
            MissingExtraError: if pycolmap is not installed.
        """
        require_pycolmap()

    def process(self, rows: Sequence[Row]) -> Sequence[Row | ItemError]:
        """Each row's counts of frames: registered, and within 10 degrees of the ideal orbit."""
        return each_row(rows, self._check)

    def _check(self, row: Row) -> Row:
        frames, cameras = decode_frames(row["frames"]), row_rig(row).cameras(row["elevation"])
        figures = sfm_figures(frames, cameras, seed=self.seed, timeout=self.timeout)
        return {
            "sfm_registered": round(figures["sfm_registered"] * len(frames)),
            "sfm_frames": round(figures["sfm_within"] * len(frames)),
        }
