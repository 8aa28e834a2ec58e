"""The model: one picture and its camera in, triplanes out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vfusion3d.alpha import over_white
from vfusion3d.cameras import Cameras, frame_transform, source_vectors
from vfusion3d.models.checkpoints import HubCheckpoints
from vfusion3d.models.config import ReconstructorConfig
from vfusion3d.models.encoder import build_encoder
from vfusion3d.models.field import TriplaneField
from vfusion3d.models.transformer import CameraEmbedding, TriplaneDecoder
from vfusion3d.models.triplanes import Triplanes


class TriplaneReconstructor(nn.Module, HubCheckpoints):
    """Single-image 3D reconstruction by a large triplane transformer (paper section 3.3).

    Args:
        config: The architecture, or the name of a preset. Weights are random; `from_pretrained` loads them.

    Example:
        >>> import torch
        >>> from vfusion3d import TriplaneReconstructor, orbit
        >>> _ = torch.manual_seed(0)
        >>> model = TriplaneReconstructor("tiny").eval()
        >>> picture = torch.ones(1, 4, 32, 32)  # premultiplied RGBA
        >>> with torch.no_grad():
        ...     triplanes = model(picture, orbit(views=1))
        ...     views = triplanes.render(orbit(views=3).unsqueeze(0), height=8, width=8)
        >>> views.rgb.shape
        torch.Size([1, 3, 3, 8, 8])
    """

    def __init__(self, config: ReconstructorConfig | str) -> None:
        super().__init__()
        self.config = ReconstructorConfig.preset(config) if isinstance(config, str) else config
        self.encoder = build_encoder(self.config)
        self.camera_embedding = CameraEmbedding(self.config.camera_dim)
        self.decoder = TriplaneDecoder(self.config)
        self.field = TriplaneField(self.config)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.decoder.positions.device

    def forward(self, images: Tensor, cameras: Cameras) -> Triplanes:
        """Reconstruct B objects.

        Args:
            images: Pictures ``[B, 4, S, S]`` as premultiplied RGBA in [0, 1], or ``[B, 3, S, S]`` as RGB on
                white for models that need no mask.
            cameras: Their cameras in the world, ``[B]`` (ignored but for the pose of the answer by models
                whose source frame is ``fixed``).

        Raises:
            ValueError: if shapes do not fit the model.
        """
        images = self._prepare(images)
        if tuple(cameras.shape) != (len(images),):
            raise ValueError(f"Argument `cameras` must have shape [{len(images)}], but got {list(cameras.shape)}.")
        cameras = cameras.to(device=images.device, dtype=torch.float32)
        frame = self.config.source_frame
        features = self.encoder(images)
        embedding = self.camera_embedding(source_vectors(cameras, frame).to(self.decoder.positions.dtype))
        planes = self.decoder(features.tokens, embedding)
        to_model = frame_transform(cameras, frame)
        return Triplanes(
            self.field,
            planes.float(),
            to_model,
            features.pixels,
            cameras.transform(to_model),
            self.config.coarse_samples,
            self.config.fine_samples,
        )

    def _prepare(self, images: Tensor) -> Tensor:
        """What the encoder reads: RGB on white, with the mask behind it where the model wants one."""
        size = self.config.image_size
        if images.dim() != 4 or images.shape[1] not in (3, 4) or images.shape[2:] != (size, size):
            raise ValueError(
                f"Argument `images` must have shape [B, 3 or 4, {size}, {size}], but got {list(images.shape)}."
            )
        if images.shape[1] == 3:
            if self.config.image_alpha:
                raise ValueError("Argument `images` must be premultiplied RGBA: this model reads the foreground mask.")
            return images
        white = over_white(images)
        return torch.cat([white, images[:, 3:]], dim=1) if self.config.image_alpha else white

    def gradient_checkpointing_enable(self, enabled: bool = True) -> None:
        """Recompute the transformers' layers in the backward pass (less memory, a third more time)."""
        self.encoder.gradient_checkpointing = self.decoder.gradient_checkpointing = enabled

    @property
    def blocks(self) -> list[nn.Module]:
        """All layers of both transformers: what is compiled, sharded and recomputed one by one."""
        return [*self.encoder.blocks, *self.decoder.layers]

    def compile_blocks(self, **options: Any) -> None:
        """Compile the transformers' layers in place; state dicts keep their keys.

        Layers of one kind share their code, so there are two compilations for the whole run: pictures and patches
        keep their size through all stages of a `ResolutionSchedule`.

        Args:
            options: Of `torch.compile`.
        """
        for block in self.blocks:
            block.compile(**options)

    def extra_repr(self) -> str:
        """Name and licence."""
        return f"name={self.config.name!r}, license={self.config.license!r}"

    def parameter_count(self) -> int:
        """Number of weights."""
        return sum(p.numel() for p in self.parameters())

    def __call__(self, *args: Any, **kwargs: Any) -> Triplanes:
        """`forward`, with its hooks and its return type."""
        return super().__call__(*args, **kwargs)
