"""Classifier-free guidance on picture and text, per frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor
from typing_extensions import Literal

Profile = Literal["constant", "linear", "triangle"]


@dataclass(frozen=True)
class Guidance:
    """``X(0) + w_i (X(I) - X(0)) + w_p (X(I, p) - X(I))`` (Emu Video; arXiv 2311.10709, equation 4).

    Args:
        image: Weight w_i, or its largest value where the profile varies it.
        text: Weight w_p.
        profile: Course of w_i over the frames: ``constant``, ``linear`` from ``start`` to ``image``, or ``triangle`` from
            ``start`` to ``image`` in the middle and back (SV3D).
        start: Where the other profiles start.
    """

    image: float = 2.0
    text: float = 7.5
    profile: Profile = "constant"
    start: float = 1.0

    def __post_init__(self) -> None:
        if self.profile not in get_args(Profile):
            raise ValueError(f"Argument `profile` must be one of {get_args(Profile)}, but got {self.profile!r}.")

    def image_weights(self, frames: int) -> Tensor:
        """w_i per frame, ``[frames]``.

        Example:
            >>> Guidance(image=2.5, profile="triangle").image_weights(5).tolist()
            [1.0, 1.75, 2.5, 1.75, 1.0]
        """
        if self.profile == "constant":
            return torch.full((frames,), self.image)
        course = torch.linspace(0, 1, frames)
        if self.profile == "triangle":
            course = 1 - (2 * course - 1).abs()
        return self.start + (self.image - self.start) * course
