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
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vfusion3d.engine.pictures import decode_frames, each_row
from vfusion3d.engine.stage import ItemError, Row, Stage
from vfusion3d.engine.weights import choose_device, weights_identity
from vfusion3d.errors import CheckpointError
from vfusion3d.hub import hub_answers, hub_errors
from vfusion3d.video.encoders import ClipImage

CLIP = "openai/clip-vit-large-patch14"
HIDDEN = (1024, 128, 64, 16)
_FILES = ("config.json", "model.safetensors")
_OTHER_HALF = ("text_model.", "text_projection.", "logit_scale", "vision_model.embeddings.position_ids")
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
        clip: A CLIP model whose image features the predictor reads: ``owner/name`` on the Hugging Face hub, or a folder
            that ``save_pretrained`` wrote.
        device: Where the models work; ``auto`` is a GPU if there is one.

    Raises:
        CheckpointError: if the weights cannot be read or are another network's.
    """

    name = "aesthetic"
    reads = ("frames",)
    writes: ClassVar[dict[str, pa.DataType]] = {"aesthetic": pa.float32()}

    def __init__(self, weights: str | Path | None = None, clip: str = CLIP, device: str = "auto") -> None:
        self.weights, self.clip, self.device = weights, clip, device
        self.encoder: ClipImage | None = None
        self.predictor: AestheticPredictor | None = None
        if weights is None:
            super().__init__(weights=None)
            return
        AestheticPredictor.from_file(weights)  # what is wrong is told now, not in the midst of a run
        super().__init__(weights=weights_identity(weights), clip=weights_identity(clip))

    def load(self) -> None:
        """Load CLIP and the predictor.

        Raises:
            CheckpointError: if they cannot be loaded, or do not belong together.
        """
        if self.weights is None:
            _LOGGER.warning("The aesthetic score is not available without the predictor's weights; its column is null.")
            return
        device = choose_device(self.device)
        self.predictor = AestheticPredictor.from_file(self.weights).to(device)
        self.encoder = ClipImage(load_clip(self.clip)).to(device)
        if self.encoder.width != self.predictor.width:
            raise CheckpointError(
                f"Aesthetic weights {self.weights} read features of {self.predictor.width} numbers, but {self.clip} "
                f"makes {self.encoder.width}; give the CLIP model that they belong to ({CLIP})."
            )

    def process(self, rows: Sequence[Row]) -> Sequence[Row | ItemError]:
        """Each row's score, from about 1 to 10; null without weights."""
        if self.predictor is None:
            return [{"aesthetic": None}] * len(rows)
        return each_row(rows, self._score)

    @torch.no_grad()
    def _score(self, row: Row) -> Row:
        assert self.encoder is not None and self.predictor is not None
        size = self.encoder.model.config.image_size
        frames = decode_frames(row["frames"]).to(self.encoder.mean.device)
        resized = F.interpolate(frames, (size, size), mode="bicubic", antialias=True).clamp(0, 1)  # as CLIP was trained
        features = F.normalize(self.encoder(resized).float(), dim=-1).mean(0)
        return {"aesthetic": float(self.predictor(features))}


def load_clip(source: str) -> Any:
    """The image half of a CLIP model, a ``CLIPVisionModelWithProjection`` of transformers.

    Args:
        source: ``owner/name`` on the Hugging Face hub, or a folder that ``save_pretrained`` wrote.

    Raises:
        CheckpointError: if it is not to be had or no CLIP model.
    """
    from transformers import CLIPVisionModelWithProjection

    folder = Path(source).expanduser()
    if not folder.is_dir():
        with hub_errors(source, what="CLIP model", files=" and ".join(_FILES), instead="give a local folder"):
            offline = not hub_answers(source, _FILES[0])
            folder = Path(snapshot_download(source, allow_patterns=list(_FILES), local_files_only=offline))
    try:
        model, info = CLIPVisionModelWithProjection.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, output_loading_info=True, dtype=torch.float32
        )
    except Exception as error:  # of many types, and over several lines
        reason = " ".join(str(error).split()).split(". ")[0][:250].rstrip(".")
        raise CheckpointError(f"{source} holds no CLIP model that can be loaded ({reason}).") from error
    wrong = [*info["missing_keys"], *(key for key in info["unexpected_keys"] if not key.startswith(_OTHER_HALF))]
    if wrong or info["mismatched_keys"]:
        example = wrong[0] if wrong else next(iter(info["mismatched_keys"]))
        raise CheckpointError(f"The weights of {source} are no CLIP model's (for example {example}); give another one.")
    return model.eval()
