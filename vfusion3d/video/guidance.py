"""Classifier-free guidance on picture and text, per frame."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from vfusion3d.errors import UsageError
from vfusion3d.video.backbone import Conditioning, VideoBackbone

Profile = Literal["constant", "linear", "triangle"]


@dataclass(frozen=True)
class Guidance:
    """``X(0) + w_i (X(I) - X(0)) + w_p (X(I, p) - X(I))`` (Emu Video; arXiv 2311.10709, equation 4).

    Args:
        image: Weight w_i, or its largest value where the profile varies it.
        text: Weight w_p; without effect on items without text.
        profile: Course of w_i over the frames: ``constant``, ``linear`` from ``start`` to ``image``, or ``triangle``
            from ``start`` to ``image`` in the middle and back (SV3D).
        start: Where the other profiles start.

    Raises:
        UsageError: if there is no such profile or a weight is no number.
    """

    image: float = 2.0
    text: float = 7.5
    profile: Profile = "constant"
    start: float = 1.0

    def __post_init__(self) -> None:
        if self.profile not in get_args(Profile):
            raise UsageError(
                f"Argument `profile` must be one of {', '.join(get_args(Profile))}, but got {self.profile!r}."
            )
        for name in ("image", "text", "start"):
            if not math.isfinite(getattr(self, name)):
                raise UsageError(f"Argument `{name}` must be a number, but got {getattr(self, name)}.")

    def image_weights(self, frames: int) -> Tensor:
        """w_i per frame, ``[frames]``.

        Example:
            >>> Guidance(image=2.5, profile="triangle").image_weights(5).tolist()
            [1.0, 1.75, 2.5, 1.75, 1.0]
        """
        if self.profile == "constant":
            return torch.full((frames,), float(self.image))
        course = torch.linspace(0, 1, frames)
        if self.profile == "triangle":
            course = 1 - (2 * course - 1).abs()
        return self.start + (self.image - self.start) * course

    def pass_weights(self, frames: int, has_text: Tensor) -> Tensor:
        """Weights of X(0), X(I) and X(I, p) in the sum, per frame; they add up to 1.

        Args:
            frames: Frames of the video.
            has_text: Which items have a text, bool ``[B]``.

        Returns:
            ``[B, 3, frames]``.
        """
        picture = self.image_weights(frames).expand(len(has_text), frames)
        text = (self.text * has_text.float())[:, None].expand_as(picture)
        return torch.stack([1 - picture, picture - text, text], 1)


class GuidedDenoiser:
    """A backbone under guidance: passes of weight zero are left out, the others go through the network together.

    Args:
        backbone: The backbone.
        conditioning: Of B items.
        weights: As `Guidance.pass_weights` gives them, ``[B, 3, F]``.
        together: Videos that go through the network at once, of all items and passes; all of them by default. Where a
            GPU's memory does not suffice, half as many go from then on.
    """

    def __init__(
        self, backbone: VideoBackbone, conditioning: Conditioning, weights: Tensor, together: int | None = None
    ) -> None:
        device = conditioning.image.device
        self.backbone = backbone
        passes, items = (weights != 0).any(-1).T.nonzero(as_tuple=True)
        self._weights = weights[items, passes][..., None, None, None].to(device)
        self._passes, self._items = passes.to(device), items.to(device)
        self._conditioning = backbone.dropped(conditioning[self._items], self._passes == 0, self._passes < 2)
        self._together = together or len(items)

    def __call__(self, inputs: Tensor, timestep: Tensor) -> Tensor:
        """The guided raw output ``[B, F, C, h, w]``, float32.

        Args:
            inputs: Noisy, scaled latents of that shape.
            timestep: What the denoiser is told of the noise level, of all items alike; ``[]``.

        Raises:
            UsageError: if a GPU's memory does not suffice for one video.
        """
        raw = self._weights * self._denoised(inputs[self._items], timestep)
        total = torch.zeros_like(raw[: len(inputs)])
        for kind in range(3):  # in this order for every item, alone or in a batch
            chosen = self._passes == kind
            total[self._items[chosen]] += raw[chosen]
        return total

    def _denoised(self, inputs: Tensor, timestep: Tensor) -> Tensor:
        while True:
            try:
                parts = torch.arange(len(inputs), device=inputs.device).split(self._together)
                return torch.cat(
                    [
                        self.backbone(inputs[part], timestep.expand(len(part)), self._conditioning[part]).float()
                        for part in parts
                    ]
                )
            except torch.OutOfMemoryError as error:
                if self._together == 1:
                    raise UsageError(
                        f"The memory of the device {inputs.device} does not suffice for one video of "
                        f"{inputs.shape[1]} frames; make smaller pictures or use bf16."
                    ) from error
            # Outside the handler, whose traceback would keep the tensors of the attempt alive.
            self._together = -(-min(self._together, len(inputs)) // 2)
            torch.cuda.empty_cache()
