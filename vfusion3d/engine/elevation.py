"""From how high a video was taken."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa

from vfusion3d.engine.features import FEATURES
from vfusion3d.engine.stage import ItemError, Row, Stage
from vfusion3d.preprocessing.elevation import ElevationRegressor, elevation_digest
from vfusion3d.preprocessing.features import check_tag


class ElevationLabel(Stage):
    """The elevation in radians, in [0, pi/4], from which a video around an object looks at it.

    Args:
        regressor: Folder that ``vfusion3d train-elevation`` wrote.

    Raises:
        CheckpointError: if it holds no regressor.
    """

    name = "elevation_label"
    reads = ("elevation_features", FEATURES)
    writes: ClassVar[dict[str, pa.DataType]] = {"elevation": pa.float32()}

    def __init__(self, regressor: str) -> None:
        self.folder = Path(regressor)
        self.regressor = ElevationRegressor.load(regressor)
        super().__init__(regressor=elevation_digest(regressor))

    def process(self, rows: Sequence[Row]) -> Sequence[Row | ItemError]:
        """Estimate.

        Raises:
            UsageError: if the regressor was trained on other features.
        """
        for row in rows:
            check_tag(f"The elevation model {self.folder}", self.regressor.features, row[FEATURES])
        values = self.regressor.predict(np.array([row["elevation_features"] for row in rows], np.float32))
        return [{"elevation": float(value)} for value in values]
