"""Text and pictures as embeddings that denoisers attend to; none of it is ever trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from vfusion3d.video.frozen import Frozen

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
Resize = Literal["bilinear", "blurred_bicubic"]


class TextEncoder(Frozen, ABC):
    """Captions to tokens; every caption has the same number of them."""

    width: int
    """Numbers in a token."""

    def __init__(self) -> None:
        super().__init__()
        self._null: Tensor | None = None

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> Tensor:
        """``[B, L, width]``, on the module's device."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where its results are."""

    @torch.no_grad()
    def null(self) -> Tensor:
        """Tokens of the empty caption, ``[1, L, width]``: what a dropped text becomes."""
        if self._null is None or self._null.device != self.device:
            self._null = self.encode([""])
        return self._null

    def drop(self, tokens: Tensor | None, where: Tensor) -> Tensor:
        """Tokens ``[B, L, width]`` with those of the empty caption for some items, bool ``[B]``."""
        assert tokens is not None
        return torch.where(where[:, None, None], self.null().to(tokens), tokens)

    @torch.no_grad()
    def forward(self, texts: Sequence[str | None]) -> Tensor:
        """Tokens of captions; of an empty one where there is none."""
        return self.encode([text or "" for text in texts])


class ClipText(TextEncoder):
    """The last hidden states of a CLIP text model.

    Args:
        model: A ``CLIPTextModel`` of transformers.
        tokenizer: Its tokenizer; captions are cut to the length that the model takes.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__()
        self.model, self.tokenizer, self.width = model, tokenizer, model.config.hidden_size
        self.freeze()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device  # type: ignore[no-any-return]

    def encode(self, texts: Sequence[str]) -> Tensor:
        """As Stable Diffusion's pipelines do."""
        length = self.model.config.max_position_embeddings
        tokens = self.tokenizer(
            list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        return self.model(tokens.input_ids.to(self.device))[0]  # type: ignore[no-any-return]


class ByteText(TextEncoder):
    """Bytes of a caption as sinusoids of their value plus sinusoids of their place: nothing to train or load; for tiny
    models.

    Args:
        width: Numbers in a token; even.
        length: How many bytes are read.
    """

    codes: Tensor
    places: Tensor

    def __init__(self, width: int, length: int = 32) -> None:
        super().__init__()
        self.width, self.length = width, length
        codes = get_timestep_embedding(torch.arange(256), width, max_period=64)
        codes[0] = 0  # what is not there
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("places", get_timestep_embedding(torch.arange(length), width), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where its tables are."""
        return self.codes.device

    def encode(self, texts: Sequence[str]) -> Tensor:
        """UTF-8, cut off or filled with zero bytes."""
        cut = [text.encode()[: self.length].ljust(self.length, b"\0") for text in texts]
        index = torch.tensor([list(text) for text in cut], device=self.device)
        return self.codes[index] + self.places


class ImageEncoder(Frozen, ABC):
    """A picture as one vector."""

    width: int
    """Numbers in it."""

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """``[B, width]`` from pictures ``[B, 3, H, W]`` in [0, 1]."""


class ClipImage(ImageEncoder):
    """The projected embedding of a CLIP vision model.

    Args:
        model: A ``CLIPVisionModelWithProjection`` of transformers.
        resize: ``bilinear`` with antialiasing (I2VGen-XL), or ``blurred_bicubic``: a Gaussian blur first, then bicubic
            with aligned corners (Stable Video Diffusion).
        mean: Of the normalisation.
        std: Of the normalisation.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: Any,
        resize: Resize = "bilinear",
        mean: Sequence[float] = CLIP_MEAN,
        std: Sequence[float] = CLIP_STD,
    ) -> None:
        super().__init__()
        self.model, self.resize, self.width = model, resize, model.config.projection_dim
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.freeze()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Resize, normalise, embed."""
        resized = resize_for_clip(images, self.model.config.image_size, self.resize)
        pixels = (resized - self.mean) / self.std
        return self.model(pixels.to(next(self.model.parameters()).dtype)).image_embeds  # type: ignore[no-any-return]


class PooledImage(ImageEncoder):
    """Mean colours of a coarse grid, in [-1, 1]: nothing to train or load; for tiny models.

    Args:
        width: Numbers in the vector; the grid is the largest square one that fits, and zeros fill the rest.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, self.side = width, int((width / 3) ** 0.5)

    def forward(self, images: Tensor) -> Tensor:
        """Pool and flatten."""
        colours = F.adaptive_avg_pool2d(images * 2 - 1, self.side).flatten(1)
        return F.pad(colours, (0, self.width - colours.shape[1]))


def resize_for_clip(images: Tensor, size: int, how: Resize) -> Tensor:
    """Pictures ``[B, 3, H, W]`` to ``[B, 3, size, size]``, as a model's authors did.

    ``blurred_bicubic`` is what kornia's antialiased resize does: a blur of standard deviation ``(factor - 1) / 2`` over
    four of them.
    """
    if how == "bilinear":
        return F.interpolate(images, (size, size), mode="bilinear", antialias=True)
    sigmas = [max((side / size - 1) / 2, 0.001) for side in images.shape[-2:]]
    kernels = [int(max(4 * sigma, 3)) // 2 * 2 + 1 for sigma in sigmas]
    blurred = gaussian_blur(images, kernels[::-1], sigmas[::-1])
    return F.interpolate(blurred, (size, size), mode="bicubic", align_corners=True)
