"""Pictures of a video model's progress."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from vfusion3d.alpha import rgb_pixels
from vfusion3d.callbacks.sheets import Sheets
from vfusion3d.rendering.turntable import contact_sheet


class OrbitSheets(Sheets):
    """Draws the orbits that the module samples: a row of true frames, and the generated ones below.

    ``orbits_<step>.png`` after each validation with samples, ``test_orbits.png`` and ``predicted_orbits.png`` after
    `vfusion3d test` and `vfusion3d predict`; loggers that can show pictures get them too. The module's validation, test
    and predict steps return videos of the first orbits of a batch, or None.

    Args:
        dirpath: Folder of the PNGs; the logger's folder by default.
        objects: Objects shown; with several processes, of those that the first one samples.
    """

    LOGGED = "orbits"
    SHOWN = "orbits"

    def rows_of(self, batch: Any, outputs: Tensor | None, count: int) -> list[np.ndarray]:
        """True and generated frames, uint8 ``[2, F, H, W, 3]`` of each object."""
        pairs = [] if outputs is None else zip(batch["frames"][:count], outputs[:count], strict=False)
        return [np.stack([rgb_pixels(truth), rgb_pixels(video)]) for truth, video in pairs]

    def sheet(self, rows: list[np.ndarray]) -> Image.Image:
        """Frames side by side."""
        frames = np.concatenate(rows)
        return contact_sheet(list(frames.reshape(-1, *frames.shape[2:])), columns=frames.shape[1], gap=2)
