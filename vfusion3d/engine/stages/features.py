"""What a video shows, as two vectors: one to judge its quality by, one its elevation (paper, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pyarrow as pa
import torch

from vfusion3d.engine.stage import ItemError, Row, Stage
from vfusion3d.engine.stages.pictures import decode_frames, each_row
from vfusion3d.engine.stages.weights import choose_device
from vfusion3d.errors import CheckpointError
from vfusion3d.preprocessing.features import (
    DINO,
    ELEVATION_FRAMES,
    QUALITY_FRAMES,
    FeatureExtractor,
    FeatureModel,
    uniform_frames,
)

FEATURES = "features"
"""Column that says by what an item's features were made (`FeatureModel.tag`)."""


class FeatureStage(Stage):
    """A stage that looks at frames through a feature model; one video at a time, since rounding depends on the size of
    a batch.

    Args:
        model: As `FeatureModel.find`: DINO on the hub or in a folder, or ``pixels``.
        size: Pixels a side of what the model sees; its own by default.
        device: Where the model works; ``auto`` is a GPU if there is one.
        settings: Further ones of the stage.

    Raises:
        CheckpointError: if there is no such model.
        UsageError: if the size does not fit it.
    """

    reads = ("frames",)

    def __init__(self, model: str = DINO, size: int | None = None, device: str = "auto", **settings: bool) -> None:
        self.model, self.size, self.device = FeatureModel.find(model, size), size, device
        self.extractor: FeatureExtractor | None = None
        super().__init__(features=self.model.tag, **settings)

    def load(self) -> None:
        """Load the model, which may be elsewhere on another machine, but has to be the same.

        Raises:
            CheckpointError: if it is not, or cannot be loaded.
        """
        here = FeatureModel.find(self.model.name, self.size)
        if here.tag != self.model.tag:
            raise CheckpointError(
                f"The feature model {self.model.name} is another one here ({here.tag}) than where the run was started "
                f"({self.model.tag}): copy that one."
            )
        self.extractor = here.load(choose_device(self.device))

    def vectors(self, frames: Sequence[bytes]) -> torch.Tensor:
        """Features of picture files of one size, ``[F, D]``, on the CPU.

        Raises:
            ItemError: if one cannot be read.
        """
        return self.look(decode_frames(frames))

    def look(self, pictures: torch.Tensor) -> torch.Tensor:
        """Features of RGB pictures in [0, 1], ``[F, 3, H, W]``: ``[F, D]``, on the CPU."""
        assert self.extractor is not None, "load() comes first"
        return self.extractor(pictures.to(choose_device(self.device))).cpu()


class VideoFeatures(FeatureStage):
    """Features of frames 0, 2, ..., 14 averaged for the quality, and of 0, 4, 8, 12 for the elevation.

    Args:
        model: As `FeatureModel.find`: DINO on the hub or in a folder, or ``pixels``.
        size: Pixels a side of what the model sees; its own by default.
        spread: Whether ``quality_features`` also have the standard deviation over the frames, in which a change over
            them shows; the paper's have not.
        device: Where the model works; ``auto`` is a GPU if there is one.

    Raises:
        CheckpointError: if there is no such model.
        UsageError: if the size does not fit it.
    """

    name = "video_features"
    writes: ClassVar[dict[str, pa.DataType]] = {
        "quality_features": pa.list_(pa.float32()),
        "elevation_features": pa.list_(pa.float32()),
        FEATURES: pa.string(),
    }

    def __init__(self, model: str = DINO, size: int | None = None, spread: bool = False, device: str = "auto") -> None:
        super().__init__(model, size, device, spread=spread)
        self.spread = spread

    def process(self, rows: Sequence[Row]) -> Sequence[Row | ItemError]:
        """Look at each video."""
        return each_row(rows, self._features)

    def _features(self, row: Row) -> Row:
        frames = row["frames"]
        if not frames:
            raise ItemError("There are no frames.")
        many, few = (uniform_frames(len(frames), wanted) for wanted in (QUALITY_FRAMES, ELEVATION_FRAMES))
        looked_at = sorted({*many, *few})
        vectors = dict(zip(looked_at, self.vectors([frames[k] for k in looked_at]), strict=True))
        quality = torch.stack([vectors[k] for k in many])
        parts = [quality.mean(0), quality.std(0, correction=0)] if self.spread else [quality.mean(0)]
        return {
            "quality_features": torch.cat(parts).numpy(),
            "elevation_features": torch.stack([vectors[k] for k in few]).mean(0).numpy(),
            FEATURES: self.model.tag,
        }
