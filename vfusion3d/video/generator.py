"""A picture in, an orbit out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vfusion3d.errors import UsageError
from vfusion3d.video.backbone import Conditioning, VideoBackbone
from vfusion3d.video.guidance import Guidance


def sample_latents(
    backbone: VideoBackbone,
    conditioning: Conditioning,
    noise: Tensor,
    *,
    steps: int = 50,
    solver: str | None = None,
    guidance: Guidance = Guidance(),
) -> Tensor:
    """Latents ``[B, F, C, h, w]`` from standard normal noise of that shape.

    Raises:
        UsageError: if there is no such solver for the backbone.
    """
    if steps < 1:
        raise UsageError(f"Argument `steps` must be at least 1, but got {steps}.")
    scheduler = backbone.process.scheduler(solver or backbone.process.solvers[0])
    scheduler.set_timesteps(steps, device=noise.device)
    latents = noise * scheduler.init_noise_sigma
    for time in scheduler.timesteps:
        inputs = scheduler.scale_model_input(latents, time)
        raw = _guided(backbone, inputs, time, conditioning, guidance)
        latents = scheduler.step(raw, time, latents, return_dict=False)[0]
    return latents


def _guided(
    backbone: VideoBackbone, inputs: Tensor, time: Tensor, conditioning: Conditioning, guidance: Guidance
) -> Tensor:
    count = len(inputs)
    times = time.expand(count)
    yes = torch.ones(count, dtype=torch.bool, device=inputs.device)
    weights = guidance.image_weights(inputs.shape[1]).to(inputs)[:, None, None, None]
    nothing = backbone(inputs, times, backbone.dropped(conditioning, yes, yes))
    picture = backbone(inputs, times, backbone.dropped(conditioning, ~yes, yes))
    raw = nothing + weights * (picture - nothing)
    if backbone.reads_text:
        raw = raw + guidance.text * (backbone(inputs, times, conditioning) - picture)
    return raw


class OrbitGenerator:
    """Makes orbits of objects from one picture each.

    Args:
        backbone: A trained backbone.
        steps: Denoising steps.
        solver: One of the backbone's solvers.
        guidance: Weights of picture and text.
    """

    def __init__(
        self,
        backbone: VideoBackbone,
        steps: int = 50,
        solver: str | None = None,
        guidance: Guidance = Guidance(),
    ) -> None:
        self.backbone, self.steps, self.solver, self.guidance = backbone, steps, solver, guidance

    @torch.no_grad()
    def __call__(
        self,
        images: Tensor,
        text: Sequence[str | None] | None = None,
        seeds: Sequence[int] = (0,),
        frames: int | None = None,
    ) -> Tensor:
        """Videos ``[B, F, 3, H, W]`` in [0, 1] from first frames ``[B, 3, H, W]``; one seed each."""
        conditioning = self.backbone.condition(images, text)
        count = frames or self.backbone.frames or 16
        shape = (count, *conditioning.image.shape[1:])
        noise = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        latents = sample_latents(
            self.backbone,
            conditioning,
            noise.to(images),
            steps=self.steps,
            solver=self.solver,
            guidance=self.guidance,
        )
        return self.backbone.decode(latents)
