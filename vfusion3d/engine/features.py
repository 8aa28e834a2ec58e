"""What a video shows, as two vectors: one to judge its quality by, one its elevation (paper, section 3.3)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from vfusion3d.alpha import pixels_over_white
from vfusion3d.engine.stage import ItemError, Row, Stage
from vfusion3d.errors import CheckpointError
from vfusion3d.preprocessing.features import (
    DINO,
    ELEVATION_FRAMES,
    QUALITY_FRAMES,
    FeatureExtractor,
    FeatureModel,
    average_features,
    picture_features,
    uniform_frames,
)

FEATURES = "features"
"""Column that says by what an item's features were made (`FeatureModel.tag`)."""


class VideoFeatures(Stage):
    """Features of frames 0, 2, ..., 14 averaged for the quality, and of 0, 4, 8, 12 for the elevation.

    Args:
        model: As `FeatureModel.find`: DINO on the hub or in a folder, or ``pixels``.
        size: Pixels a side of what the model sees; its own by default.
        spread: Whether ``quality_features`` also have the standard deviation over the frames, which the paper's have
            not: what changes from frame to frame shows in it.
        device: Where the model works; ``auto`` is a GPU if there is one.
        together: Pictures that go through the model at once.

    Raises:
        CheckpointError: if there is no such model.
        UsageError: if the size does not fit it.
    """

    name = "video_features"
    reads = ("frames",)
    writes: ClassVar[dict[str, pa.DataType]] = {
        "quality_features": pa.list_(pa.float32()),
        "elevation_features": pa.list_(pa.float32()),
        FEATURES: pa.string(),
    }

    def __init__(
        self, model: str = DINO, size: int | None = None, spread: bool = False, device: str = "auto", together: int = 64
    ) -> None:
        self.model = FeatureModel.find(model, size)
        super().__init__(features=self.model.tag, spread=spread)
        self.size, self.spread, self.device, self.together = size, spread, device, together
        self.extractor: FeatureExtractor | None = None

    def load(self) -> None:
        """Load the model; on another machine it may be elsewhere, but has to be the same."""
        here = FeatureModel.find(self.model.name, self.size)
        if here.tag != self.model.tag:
            raise CheckpointError(
                f"The feature model {self.model.name} is another one here ({here.tag}) than where the run was started "
                f"({self.model.tag}): copy that one."
            )
        gpu = self.device == "auto" and torch.cuda.is_available()
        self.extractor = here.load("cuda" if gpu else "cpu" if self.device == "auto" else self.device)

    def process(self, rows: Sequence[Row]) -> Sequence[Row | ItemError]:
        """Look at the frames of all rows together."""
        results: list[Row | ItemError] = []
        pictures: list[list[Tensor]] = []
        for row in rows:
            try:
                # Every second frame, and every fourth, of which there are the same among them where there are 16.
                count = len(row["frames"])
                chosen = sorted({*uniform_frames(count, QUALITY_FRAMES), *uniform_frames(count, ELEVATION_FRAMES)})
                pictures.append([picture_on_white(row["frames"][k]) for k in chosen] if count else [])
                results.append({"chosen": chosen} if count else ItemError("The video has no frames."))
            except ItemError as error:
                pictures.append([])
                results.append(error)
        assert self.extractor is not None, "load() comes first"
        features = picture_features(self.extractor, [one for video in pictures for one in video], self.together)
        for place, vectors in enumerate(features.split([len(video) for video in pictures])):
            result = results[place]
            if isinstance(result, dict):
                count = len(rows[place]["frames"])
                whole = torch.zeros(count, vectors.shape[1])
                whole[result["chosen"]] = vectors
                results[place] = {
                    "quality_features": average_features(whole, QUALITY_FRAMES, self.spread).numpy(),
                    "elevation_features": average_features(whole, ELEVATION_FRAMES).numpy(),
                    FEATURES: self.model.tag,
                }
        return results


def picture_on_white(content: bytes) -> Tensor:
    """A picture file, RGB in [0, 1] on white, ``[3, H, W]``.

    Raises:
        ItemError: if it cannot be read.
    """
    try:
        with Image.open(io.BytesIO(content)) as picture:
            pixels = np.array(picture.convert("RGBA" if picture.has_transparency_data else "RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise ItemError(f"A frame cannot be read as a picture ({str(error).split(' <')[0]}).") from error
    if pixels.shape[-1] == 4:
        pixels = pixels_over_white(pixels)
    return torch.from_numpy(pixels).movedim(-1, 0).float() / 255
