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

from vfusion3d.engine.pictures import decode_frames, each_row
from vfusion3d.engine.stage import ItemError, Row, Stage
from vfusion3d.engine.weights import weights_identity
from vfusion3d.errors import CheckpointError

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
