"""From how high a video was taken."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa

from vfusion3d.engine.stage import ItemError, Row, Stage
from vfusion3d.engine.stages.features import FEATURES
from vfusion3d.engine.stages.pictures import each_row
from vfusion3d.preprocessing.elevation import VIDEO, ElevationRegressor, elevation_digest
from vfusion3d.preprocessing.features import check_tag


class ElevationLabel(Stage):
    """The elevation in radians, in [0, pi/4], from which a video around an object looks at it.

    Args:
        regressor: Folder that ``vfusion3d train-elevation`` wrote.

    Raises:
        CheckpointError: if it holds no regressor.
        UsageError: if that was trained on single pictures only.
    """

    name = "elevation_label"
    reads = ("elevation_features", FEATURES)
    writes: ClassVar[dict[str, pa.DataType]] = {"elevation": pa.float32()}

    def __init__(self, regressor: str) -> None:
        self.folder = Path(regressor)
        self.regressor = ElevationRegressor.load(regressor)
        self.regressor.check_kind(VIDEO)
        super().__init__(regressor=elevation_digest(regressor))

    def process(self, rows: Sequence[Row]) -> Sequence[Row | ItemError]:
        """Estimate each by itself: rounding depends on how many are looked at together.

        Raises:
            UsageError: if the regressor was trained on other features.
        """
        return each_row(rows, self._estimate)

    def _estimate(self, row: Row) -> Row:
        check_tag(f"The elevation model {self.folder}", self.regressor.features, row[FEATURES])
        return {"elevation": float(self.regressor.predict(np.array([row["elevation_features"]], np.float32))[0])}
