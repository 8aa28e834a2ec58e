"""Pictures to first frames: the object alone, on white, as large as objects are in the orbit renders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from vfusion3d.alpha import rgb_pixels
from vfusion3d.cameras import Rig, fit_radius
from vfusion3d.data.shard_writer import encode
from vfusion3d.engine.stage import ItemError, Row, Stage
from vfusion3d.engine.stages.pictures import decode_picture, each_row
from vfusion3d.engine.stages.weights import weights_identity
from vfusion3d.preprocessing import FOV, centre_picture, check_strategy, rig_border
from vfusion3d.video.generator import SIZE
from vfusion3d.video.trained import find_video_model, read_video_config


class CentrePicture(Stage):
    """Cuts the object out, sets it on white and centres it with the border that it has in the orbit renders.

    Several objects, and one that is cut off by an edge of its picture, are refused: a video model would turn both
    wrongly.

    Args:
        model: The trained video model (`OrbitGenerator.from_pretrained`) whose size and rig the frames are for.
        size: Pixels a side; the model's, or 256, by default.
        border: Free share of the square on each side of the object; by default what an object of usual extent has in
            the model's rig (`rig_border`), or in one whose frame the unit sphere just fits.
        background: How the object is cut out, one of `vfusion3d.preprocessing.STRATEGIES`.
        background_weights: The ONNX file of ``rembg`` and ``birefnet``.
        check: Whether to refuse several objects and one that is cut off.

    Raises:
        UsageError: if there is no such strategy, or weights do not go with it.
        CheckpointError: if the model or the weights are not there.
        MissingExtraError: if the extra ``rembg`` is needed and not installed.
    """

    name = "centre"
    reads = ("image",)
    writes: ClassVar[dict[str, pa.DataType]] = {"first_frame": pa.binary(), "centre_warnings": pa.list_(pa.string())}

    def __init__(
        self,
        model: str | None = None,
        size: int | None = None,
        border: float | None = None,
        background: str = "auto",
        background_weights: str | Path | None = None,
        check: bool = True,
    ) -> None:
        check_strategy(background, background_weights)
        config = None if model is None else read_video_config(find_video_model(model))
        self.size = size or (SIZE if config is None else config.size)
        rig = Rig(fit_radius(FOV), FOV) if config is None else config.rig
        self.border = rig_border(rig) if border is None else border
        self.background, self.background_weights, self.check = background, background_weights, check
        super().__init__(
            size=self.size,
            border=round(self.border, 6),
            background=background,
            background_weights=None if background_weights is None else weights_identity(background_weights),
            check=check,
        )

    def process(self, rows: Sequence[Row]) -> Sequence[Row | ItemError]:
        """Each row's first frame as lossless WebP, RGB on white, or why its picture is of no use."""
        return each_row(rows, self._centre)

    def _centre(self, row: Row) -> Row:
        picture = decode_picture(row["image"])
        centred = centre_picture(picture, self.size, self.border, self.background, self.background_weights, self.check)
        return {"first_frame": encode(rgb_pixels(centred.on_white())), "centre_warnings": list(centred.warnings)}
