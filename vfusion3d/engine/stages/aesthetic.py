"""How pleasing an orbit's frames are: LAION's aesthetic predictor."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vfusion3d.engine.stage import ItemError, Row, Stage
from vfusion3d.engine.stages.pictures import decode_frames, each_row
from vfusion3d.engine.stages.pretrained import identify, load_model
from vfusion3d.engine.stages.weights import choose_device, weights_identity
from vfusion3d.errors import CheckpointError
from vfusion3d.video.encoders import CLIP_MEAN, CLIP_STD

CLIP = "openai/clip-vit-large-patch14"
HIDDEN = (1024, 128, 64, 16)
_LOGGER = logging.getLogger("vfusion3d")


class AestheticPredictor(nn.Module):
    """LAION's improved aesthetic predictor (Schuhmann 2022): linear layers on a normalised CLIP feature, to about 1
    (plain) to 10 (pleasing).

    Its layers follow on each other without non-linearities; what dropout there was in training is none here.

    Args:
        width: Numbers in a CLIP feature; 768 for ViT-L/14.
    """

    def __init__(self, width: int = 768) -> None:
        super().__init__()
        self.width = width
        self.layers = nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise((width, *HIDDEN, 1))))

    @classmethod
    def from_file(cls, path: str | Path) -> AestheticPredictor:
        """The predictor in a safetensors file, whatever its layers are called, in the order of their numbers.

        Raises:
            CheckpointError: if the file is missing, is no safetensors file, or holds another network.
        """
        if Path(path).suffix in (".pth", ".pt", ".bin"):
            raise CheckpointError(
                f"Aesthetic weights {path} are pickled, which could run code: convert them once with "
                "safetensors.torch.save_file(torch.load(FILE, weights_only=True), 'aesthetic.safetensors')."
            )
        try:
            state = load_file(path)
        except FileNotFoundError as error:
            raise CheckpointError(f"Aesthetic weights {path} are not there; check the path.") from error
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(f"Aesthetic weights {path} are no complete safetensors file ({error}).") from error
        names = sorted((name for name in state if name.endswith(".weight")), key=_number)
        width = state[names[0]].shape[-1] if names else 768
        predictor = cls(width)
        renamed: dict[str, Tensor] = {}
        for place, name in enumerate(names):
            renamed[f"layers.{place}.weight"] = state[name]
            renamed[f"layers.{place}.bias"] = state.get(name.removesuffix("weight") + "bias", torch.zeros(0))
        wanted = {name: value.shape for name, value in predictor.state_dict().items()}
        if {name: value.shape for name, value in renamed.items()} != wanted or len(state) != len(wanted):
            sizes = "-".join(str(size) for size in (768, *HIDDEN, 1))
            raise CheckpointError(
                f"Aesthetic weights {path} are not the predictor's linear layers {sizes}; give LAION's file for "
                "ViT-L/14."
            )
        predictor.load_state_dict(renamed)
        return predictor.eval()

    def forward(self, features: Tensor) -> Tensor:
        """Scores ``[...]`` of features ``[..., width]``, which are normalised first."""
        return self.layers(F.normalize(features, dim=-1))[..., 0]  # type: ignore[no-any-return]


def _number(name: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", name))


class AestheticScore(Stage):
    """What LAION's aesthetic predictor says of an orbit: CLIP features averaged over its frames, then the predictor.

    Args:
        weights: A safetensors file of the predictor for the CLIP model (`AestheticPredictor.from_file`), which is never
            downloaded; None: the column is null, since there is no score without them.
        clip: The CLIP model whose image features the predictor reads: ``owner/name`` on the Hugging Face hub, or a
            folder that ``save_pretrained`` wrote.
        device: Where the models work; ``auto`` is a GPU if there is one.

    Raises:
        CheckpointError: if the weights cannot be read or are another network's, or there is no such CLIP model.
    """

    name = "aesthetic"
    reads = ("frames",)
    writes: ClassVar[dict[str, pa.DataType]] = {"aesthetic": pa.float32()}

    def __init__(self, weights: str | Path | None = None, clip: str = CLIP, device: str = "auto") -> None:
        self.weights, self.clip, self.device = weights, clip, device
        self.model: Any = None
        self.predictor: AestheticPredictor | None = None
        if weights is None:
            super().__init__(weights=None)
            return
        AestheticPredictor.from_file(weights)  # what is wrong is told now, not in the midst of a run
        super().__init__(weights=weights_identity(weights), clip=identify(clip))

    def load(self) -> None:
        """Load CLIP and the predictor.

        Raises:
            CheckpointError: if they cannot be loaded, or do not belong together.
        """
        if self.weights is None:
            _LOGGER.warning("There is no aesthetic score without the predictor's weights; its column is null.")
            return
        from transformers import CLIPModel

        device = choose_device(self.device)
        self.predictor = AestheticPredictor.from_file(self.weights).to(device)
        self.model = load_model(self.clip, CLIPModel).to(device)
        width = self.model.config.projection_dim
        if width != self.predictor.width:
            raise CheckpointError(
                f"Aesthetic weights {self.weights} read features of {self.predictor.width} numbers, but {self.clip} "
                f"makes {width}; give the CLIP model that they belong to ({CLIP})."
            )

    def process(self, rows: Sequence[Row]) -> Sequence[Row | ItemError]:
        """Each row's score, from about 1 to 10; null without weights."""
        if self.weights is None:
            return [{"aesthetic": None}] * len(rows)
        return each_row(rows, self._score)

    @torch.no_grad()
    def _score(self, row: Row) -> Row:
        assert self.predictor is not None, "load() comes first"
        features = self._features(decode_frames(row["frames"]))
        return {"aesthetic": float(self.predictor(F.normalize(features, dim=-1).mean(0)))}

    def _features(self, frames: Tensor) -> Tensor:
        """CLIP's embeddings ``[F, width]`` of frames ``[F, 3, H, W]`` in [0, 1], resized as it was trained."""
        size = self.model.config.vision_config.image_size
        resized = F.interpolate(frames, (size, size), mode="bicubic", antialias=True).clamp(0, 1)
        mean, std = (resized.new_tensor(values).view(-1, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
        pixels = ((resized - mean) / std).to(self.model.device)
        return self.model.visual_projection(self.model.vision_model(pixels).pooler_output)  # type: ignore[no-any-return]
