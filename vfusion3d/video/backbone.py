"""The protocol that every video diffusion model is behind."""

from __future__ import annotations

import dataclasses
import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vfusion3d.cameras import Cameras
from vfusion3d.errors import UsageError
from vfusion3d.video.codecs import LatentCodec
from vfusion3d.video.diffusion import DiffusionProcess

NO_LICENCE = "No released weights went into it, so no licence of others binds what it generates."


@dataclass(frozen=True)
class Conditioning:
    """What a video is made from, B items; which fields are there depends on the backbone.

    Args:
        image: First frame as a latent, ``[B, C, h, w]``.
        text: Text tokens, ``[B, L, D]``.
        embedding: The picture as one vector or few tokens, ``[B, D]`` or ``[B, L, D]``.
        cameras: The frames' cameras as `Cameras.vectors`, ``[B, F, 16]``, for backbones that read them; whoever trains
            or samples adds them with `dataclasses.replace`.
        image_kept: 1 where the picture conditions, 0 where it was dropped, ``[B]``.
        noise_level: Standard deviation of the noise on the picture behind ``image``, for those that are told, ``[B]``.
    """

    image: Tensor
    text: Tensor | None = None
    embedding: Tensor | None = None
    cameras: Tensor | None = None
    image_kept: Tensor | None = None
    noise_level: Tensor | None = None

    def map(self, function: Any) -> Conditioning:
        """Apply a function to every tensor."""
        tensors = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        fields: dict[str, Any] = {k: None if v is None else function(v) for k, v in tensors.items()}
        return Conditioning(**fields)

    def __getitem__(self, items: Any) -> Conditioning:
        """Some of the items."""
        return self.map(lambda tensor: tensor[items])

    @staticmethod
    def cat(parts: Sequence[Conditioning]) -> Conditioning:
        """Items of several one after another."""
        columns = {f.name: [getattr(part, f.name) for part in parts] for f in dataclasses.fields(Conditioning)}
        fields: dict[str, Any] = {k: None if v[0] is None else torch.cat(v) for k, v in columns.items()}
        return Conditioning(**fields)


class VideoBackbone(nn.Module, ABC):
    """A latent video diffusion model that is conditioned on a first frame, and on text where it can be.

    Pictures are ``[B, 3, H, W]`` and videos ``[B, F, 3, H, W]``, RGB in [0, 1]; latents ``[B, F, C, h, w]`` of the
    scale that the denoiser is trained on. Attributes:

    - ``denoiser``: the network that is trained; ``codec``: pictures to latents; ``process``: levels, targets, solvers;
    - ``frames``: how many frames it makes, or None for any number.

    Keyword-only arguments of a subclass's ``__init__`` are its options: `from_preset` and `from_pretrained` take them.
    """

    name: ClassVar[str]
    """What recipes call it."""
    temporal: ClassVar[str | None]
    """Regular expression (searched) that names the denoiser's temporal parameters; None if it has none."""
    lora: ClassVar[str | None] = None
    """Regular expression (matched whole) that names the modules which low-rank updates go to."""
    licence: str
    """Of the weights it was loaded from, and what that means for what they generate; one sentence. The class has that
    of the released weights, a model of random weights `NO_LICENCE`."""
    presets: ClassVar[Mapping[str, Mapping[str, Any]]]
    """Architectures by name; those without weights of their own start from random ones."""

    denoiser: Any  # a network of diffusers, whose configurations have no types
    codec: LatentCodec
    process: DiffusionProcess
    frames: int | None = 16
    reads_text: bool = False
    """Whether text conditions it: it has a text encoder."""
    reads_cameras: bool = False
    """Whether it is told each frame's camera, as `Conditioning.cameras`."""
    fresh: frozenset[str] = frozenset()
    """Names of the denoiser's parameters that are not temporal and that the released weights do not (wholly) have: they
    are trained with the temporal ones."""

    @classmethod
    @abstractmethod
    def from_preset(cls, preset: str, **changes: Any) -> VideoBackbone:
        """A model of random weights.

        Args:
            preset: One of `presets`.
            changes: Options of the backbone.

        Raises:
            UsageError: if there is no such preset or option.
        """

    @classmethod
    @abstractmethod
    def from_pretrained(cls, source: str, **changes: Any) -> VideoBackbone:
        """A model from the Hugging Face hub or a local folder in diffusers' layout.

        Args:
            source: Name on the hub, or the folder.
            changes: Options of the backbone.

        Raises:
            UsageError: if there is no such option.
            CheckpointError: if it is not to be had or does not fit.
        """

    @classmethod
    def check_options(cls, changes: Mapping[str, Any]) -> None:
        """Refuse options that the backbone does not have.

        Raises:
            UsageError: naming those that it has.
        """
        known = [
            name
            for name, parameter in inspect.signature(cls.__init__).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        ]
        unknown = sorted(set(changes) - set(known))
        if unknown:
            raise UsageError(f"The backbone {cls.name} has no option {unknown[0]!r}, but {', '.join(known)}.")

    @classmethod
    def preset_of(cls, preset: str) -> Mapping[str, Any]:
        """A preset's settings.

        Raises:
            UsageError: if there is none of that name.
        """
        if preset not in cls.presets:
            raise UsageError(f"The backbone {cls.name} has no preset {preset!r}, but {', '.join(cls.presets)}.")
        return cls.presets[preset]

    # -- latents ---------------------------------------------------------------------------------------------------
    @torch.no_grad()
    def encode(self, video: Tensor, chunk: int = 8) -> Tensor:
        """Videos ``[B, F, 3, H, W]`` to latents ``[B, F, C, h, w]``, ``chunk`` frames at a time.

        Raises:
            UsageError: if the frames do not fit.
        """
        self.check_video(video)
        return self.codec.encode(video, chunk)

    @torch.no_grad()
    def decode(self, latents: Tensor, chunk: int = 8) -> Tensor:
        """Latents to videos in [0, 1], ``chunk`` frames at a time."""
        return self.codec.decode(latents, chunk)

    @abstractmethod
    def condition(
        self,
        images: Tensor,
        text: Sequence[str | None] | None = None,
        *,
        noise: Tensor | None = None,
        noise_level: Tensor | None = None,
    ) -> Conditioning:
        """What the denoiser is told.

        Args:
            images: First frames ``[B, 3, H, W]``.
            text: A caption each, or None.
            noise: Standard normal numbers of the pictures' shape that are put on the picture before it is encoded as a
                latent, an augmentation in training; picture embeddings see it clean.
            noise_level: Their standard deviation, on pictures in [-1, 1], ``[B]``.

        Raises:
            UsageError: if there is text and no text encoder, or the pictures do not fit.
        """

    @abstractmethod
    def dropped(self, conditioning: Conditioning, image: Tensor, text: Tensor) -> Conditioning:
        """Conditioning without the picture or the text of some items, as for classifier-free guidance.

        Args:
            conditioning: Of B items.
            image: Whether the picture is dropped, bool ``[B]``.
            text: Whether the text is dropped, bool ``[B]``.
        """

    @abstractmethod
    def forward(self, inputs: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """The denoiser's raw output ``[B, F, C, h, w]`` on noisy, scaled latents; ``timesteps`` ``[B]``."""

    def noisy(self, images: Tensor, noise: Tensor | None, noise_level: Tensor | None) -> Tensor:
        """First frames with the noise of `condition` on them, to encode as latents; not clipped."""
        self.check_images(images)
        if noise is None or noise_level is None:
            return images
        return images + noise * noise_level[:, None, None, None] / 2

    # -- checks ----------------------------------------------------------------------------------------------------
    @property
    def multiple(self) -> int:
        """The sides of its pictures must be multiples of this."""
        return self.codec.factor

    @property
    def smallest(self) -> int:
        """The sides of its pictures must not be smaller: so that the denoiser's coarsest grid has a cell."""
        return self.multiple

    def check_images(self, images: Tensor) -> None:
        """Refuse first frames that do not fit.

        Raises:
            UsageError: in one sentence.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise UsageError(
                f"First frames for {self.name} must be [B, 3, H, W] in RGB, but got the shape {list(images.shape)}."
            )
        self.check_size(*images.shape[-2:])

    def check_video(self, video: Tensor) -> None:
        """Refuse videos that do not fit.

        Raises:
            UsageError: in one sentence.
        """
        if video.ndim != 5 or video.shape[2] != 3:
            raise UsageError(
                f"Videos for {self.name} must be [B, F, 3, H, W] in RGB, but got the shape {list(video.shape)}."
            )
        if self.frames is not None and video.shape[1] != self.frames:
            raise UsageError(
                f"The backbone {self.name} makes {self.frames} frames, but the videos have {video.shape[1]}: give "
                f"orbits of {self.frames} views."
            )
        self.check_size(*video.shape[-2:])

    def check_size(self, height: int, width: int) -> None:
        """Refuse pictures of sides that do not fit the latent grid.

        Raises:
            UsageError: in one sentence.
        """
        if height % self.multiple or width % self.multiple:
            raise UsageError(
                f"Pictures for {self.name} must have sides that are multiples of {self.multiple} pixels, but got "
                f"{width} x {height}."
            )
        if min(height, width) < self.smallest:
            raise UsageError(
                f"Pictures of {width} x {height} pixels are smaller than the latent grid of this {self.name} model; "
                f"give {self.smallest} pixels a side or more."
            )

    # -- what is trained -------------------------------------------------------------------------------------------
    def temporal_parameters(self) -> dict[str, nn.Parameter]:
        """The denoiser's temporal parameters by name, and with them those that released weights lack (`fresh`).

        Raises:
            UsageError: if there are none.
        """
        found = {
            name: parameter
            for name, parameter in self.denoiser.named_parameters()
            if self.temporal is not None and (re.search(self.temporal, name) or name in self.fresh)
        }
        if not found:
            raise UsageError(
                f"No temporal layer of {self.name} was matched (pattern {self.temporal!r}); train `all` or `lora`."
            )
        return found


def check_text(backbone: VideoBackbone, text: Sequence[str | None] | None) -> None:
    """Refuse captions that nothing would read.

    Raises:
        UsageError: naming the backbone.
    """
    if not backbone.reads_text and any(text or ()):
        raise UsageError(
            f"This {backbone.name} model has no text encoder, so it cannot follow a text; leave the text out or load a "
            "model that has one."
        )


def captions(text: Sequence[str | None] | None, count: int) -> Sequence[str | None]:
    """A caption, or None, for each of ``count`` pictures.

    Raises:
        UsageError: if there are more or fewer.
    """
    if text is None:
        return [None] * count
    if len(text) != count:
        raise UsageError(f"Argument `text` must have a caption for each of {count} pictures, but got {len(text)}.")
    return text


def told_cameras(backbone: VideoBackbone, inputs: Tensor, conditioning: Conditioning) -> Cameras:
    """Cameras ``[B, F]`` of the frames that a backbone is to denoise, ``[B, F, C, h, w]``.

    Raises:
        UsageError: if the conditioning has none, or others.
    """
    vectors, wanted = conditioning.cameras, [*inputs.shape[:2], 16]
    if vectors is None or list(vectors.shape) != wanted:
        got = "nothing" if vectors is None else f"the shape {list(vectors.shape)}"
        raise UsageError(
            f"This {backbone.name} model is told each frame's camera: `Conditioning.cameras` must be {wanted} "
            f"(`Cameras.vectors`), but got {got}."
        )
    return Cameras.from_vectors(vectors.float())
