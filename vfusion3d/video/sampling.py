"""From noise to latents: the loop around diffusers' solvers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from vfusion3d.errors import UsageError
from vfusion3d.video.backbone import Conditioning, VideoBackbone
from vfusion3d.video.guidance import Guidance, GuidedDenoiser

Progress = Callable[[int, int], None]
"""Called with the steps done and in all."""


@torch.no_grad()
def sample_latents(
    backbone: VideoBackbone,
    conditioning: Conditioning,
    noise: Tensor,
    *,
    steps: int = 50,
    solver: str | None = None,
    guidance: Guidance | None = None,
    has_text: Tensor | None = None,
    eta: float = 0.0,
    generators: Sequence[torch.Generator] | None = None,
    together: int | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Latents from noise; an item's do not depend on the others in its batch.

    Args:
        backbone: The video model.
        conditioning: Of B items.
        noise: Standard normal, ``[B, F, C, h, w]``.
        steps: Denoising steps.
        solver: One of ``backbone.process.solvers``; the first by default.
        guidance: Weights of picture and text; the default ones if None.
        has_text: Which items have a text, bool ``[B]``; where the backbone reads text, all of them by default.
        eta: Share of the noise of DDPM that the solver ``ddim`` adds in every step, in [0, 1].
        generators: Source of the noise that a solver adds, one for each item, on the CPU.
        together: As `GuidedDenoiser`.
        progress: Told after each step.

    Returns:
        Latents as `VideoBackbone.decode` takes them, float32.

    Raises:
        UsageError: if the backbone has no such solver, or a number is out of range.
    """
    check_solver(backbone, solver, steps, eta)
    scheduler: Any = backbone.process.scheduler(solver or backbone.process.solvers[0])
    scheduler.set_timesteps(steps, device=noise.device)
    if has_text is None:
        has_text = torch.full((len(noise),), backbone.reads_text)
    weights = (guidance or Guidance()).pass_weights(noise.shape[1], has_text.cpu())
    denoiser = GuidedDenoiser(backbone, conditioning, weights, together)
    accepted = inspect.signature(scheduler.step).parameters
    # With all of DDPM's noise, diffusers takes the root of a zero that rounding makes negative.
    options: dict[str, Any] = {"eta": min(eta, 1 - 1e-4)} if eta else {}
    if generators is not None and "generator" in accepted:
        options["generator"] = list(generators)
    latents = noise.float() * getattr(scheduler, "init_noise_sigma", 1.0)  # flow matching starts from the noise itself
    for done, time in enumerate(scheduler.timesteps, 1):
        scaled = hasattr(scheduler, "scale_model_input")
        inputs = scheduler.scale_model_input(latents, time) if scaled else latents
        latents = scheduler.step(denoiser(inputs, time), time, latents, return_dict=False, **options)[0]
        if progress is not None:
            progress(done, len(scheduler.timesteps))
    return latents


def check_solver(backbone: VideoBackbone, solver: str | None, steps: int, eta: float) -> None:
    """Refuse what cannot be sampled with.

    Raises:
        UsageError: naming the argument.
    """
    if steps < 1:
        raise UsageError(f"Argument `steps` must be at least 1, but got {steps}.")
    scheduler: Any = backbone.process.scheduler(solver or backbone.process.solvers[0])
    if not 0 <= eta <= 1:
        raise UsageError(f"Argument `eta` must be between 0 and 1, but got {eta}.")
    if eta and "eta" not in inspect.signature(scheduler.step).parameters:
        raise UsageError(f"Argument `eta` goes with the solver ddim, but got {eta} with another.")
