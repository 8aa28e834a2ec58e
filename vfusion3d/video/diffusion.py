"""Noise levels, training targets and solvers: the one thing in which video diffusion models differ as generators.

All train on one loss, ``mean(weight * (raw - target)^2)`` in float32; a process says how levels are drawn, how the
noisy input is made of them, and what the target is. Solvers are those of diffusers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal, NamedTuple

import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    SchedulerMixin,
    UniPCMultistepScheduler,
)
from torch import Tensor

from vfusion3d.errors import UsageError

PredictionType = Literal["v_prediction", "sample"]
"""What a denoiser returns, as diffusers names it."""
_LARGEST_WEIGHT = 10.0  # of an error of clean latents, where there is little noise


class TrainingPair(NamedTuple):
    """What a denoiser is trained on."""

    inputs: Tensor
    """Noisy latents, scaled as the denoiser reads them, ``[B, F, C, h, w]``."""
    timesteps: Tensor
    """What the denoiser is told of the noise level, ``[B]``."""
    target: Tensor
    """What it should return, ``[B, F, C, h, w]``."""
    weight: Tensor
    """Weight of each item's squared error, ``[B]``."""


class DiffusionProcess(ABC):
    """How clean latents become noisy ones, and back."""

    solvers: tuple[str, ...]
    """Names of the solvers it can be sampled with; the first is the default."""

    @abstractmethod
    def levels(self, unit: Tensor) -> Tensor:
        """Noise levels ``[B]`` for training from uniform numbers in [0, 1), ``[B]``."""

    @abstractmethod
    def pair(self, clean: Tensor, noise: Tensor, levels: Tensor) -> TrainingPair:
        """Training input and target.

        Args:
            clean: Latents ``[B, F, C, h, w]``, float32.
            noise: Standard normal, of the same shape.
            levels: ``[B]``, as `levels` draws them.
        """

    @abstractmethod
    def clean(self, raw: Tensor, inputs: Tensor, levels: Tensor) -> Tensor:
        """The clean latents that a denoiser's raw output on (scaled) inputs claims, ``[B, F, C, h, w]``."""

    @abstractmethod
    def scheduler(self, solver: str) -> SchedulerMixin:
        """A new scheduler of diffusers for sampling; its timesteps are what `pair` tells the denoiser.

        Raises:
            UsageError: if there is no such solver for this process.
        """

    def _refuse(self, solver: str) -> UsageError:
        return UsageError(f"Argument `solver` must be one of {', '.join(self.solvers)}, but got {solver!r}.")


class VariancePreserving(DiffusionProcess):
    """A thousand steps of DDPM with v-prediction (Emu Video; VIDEO.md, "Training").

    Args:
        beta_schedule: ``scaled_linear`` or ``squaredcos_cap_v2``, as diffusers names them.
        zero_terminal_snr: Whether the last level is pure noise (arXiv 2305.08891), as Emu Video's.
        snr_gamma: Min-SNR weighting (arXiv 2303.09556) with this gamma, or None for equal weights on v.
        prediction_type: ``v_prediction``, or ``sample``: the denoiser returns the clean latents themselves, for
            networks too narrow to pass all of the noise (arXiv 2511.13720); what they cost is the error of v that they
            mean (snr + 1 times theirs), at most ten times theirs.
    """

    solvers = ("ddim", "euler", "dpm")

    def __init__(
        self,
        beta_schedule: str = "scaled_linear",
        zero_terminal_snr: bool = True,
        snr_gamma: float | None = None,
        prediction_type: PredictionType = "v_prediction",
    ) -> None:
        self.snr_gamma, self.prediction_type = snr_gamma, prediction_type
        self._options: dict[str, Any] = {
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": beta_schedule,
            "prediction_type": prediction_type,
            "timestep_spacing": "trailing",
            "rescale_betas_zero_snr": zero_terminal_snr,
        }
        self._alphas: Tensor = DDIMScheduler(**self._options).alphas_cumprod

    def levels(self, unit: Tensor) -> Tensor:
        """Uniform over the steps, int64."""
        count = len(self._alphas)
        return (unit * count).long().clamp(max=count - 1)

    def _scales(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        squared = self._alphas.to(levels.device)[levels][:, None, None, None, None]
        return squared.sqrt(), (1 - squared).sqrt()

    def pair(self, clean: Tensor, noise: Tensor, levels: Tensor) -> TrainingPair:
        """``x = a x0 + s e``; target ``v = a e - s x0``, or x0."""
        signal, spread = self._scales(levels)
        inputs, v = signal * clean + spread * noise, self.prediction_type == "v_prediction"
        snr = (signal / spread).flatten().square()
        if self.snr_gamma is not None:  # min(snr, gamma) on x0; squared errors of v are snr + 1 times as large
            weight = snr.clamp(max=self.snr_gamma) / (snr + 1 if v else 1)
        else:
            weight = torch.ones_like(snr) if v else (snr + 1).clamp(max=_LARGEST_WEIGHT)
        return TrainingPair(inputs, levels, signal * noise - spread * clean if v else clean, weight)

    def clean(self, raw: Tensor, inputs: Tensor, levels: Tensor) -> Tensor:
        """``x0 = a x - s v``, or what it is."""
        if self.prediction_type == "sample":
            return raw
        signal, spread = self._scales(levels)
        return signal * inputs - spread * raw

    def scheduler(self, solver: str) -> SchedulerMixin:
        """DDIM, Euler or DPM-Solver++ (2M)."""
        if solver not in self.solvers:
            raise self._refuse(solver)
        if solver == "ddim":
            return DDIMScheduler(**self._options, clip_sample=False, set_alpha_to_one=True)
        kind = EulerDiscreteScheduler if solver == "euler" else DPMSolverMultistepScheduler
        return kind(**self._options)


class ElucidatedDiffusion(DiffusionProcess):
    """EDM's noise levels with v-prediction, as Stable Video Diffusion (arXiv 2206.00364, 2311.15127).

    ``x = x0 + sigma e``, read as ``x / sqrt(sigma^2 + 1)`` with ``t = ln(sigma) / 4``. Equal weights on v are EDM's
    weights for data of unit variance.

    Args:
        mean: Of ``ln(sigma)``, which is normal in training.
        spread: Its standard deviation.
        largest: Sigma that solvers start from (the release: 700).
        prediction_type: ``v_prediction``, or ``sample``, as `VariancePreserving`.
    """

    solvers = ("euler",)

    def __init__(
        self,
        mean: float = 0.7,
        spread: float = 1.6,
        largest: float = 700.0,
        prediction_type: PredictionType = "v_prediction",
    ) -> None:
        self.mean, self.spread, self.largest, self.prediction_type = mean, spread, largest, prediction_type

    def levels(self, unit: Tensor) -> Tensor:
        """Sigmas, float32."""
        normal = torch.special.ndtri(unit.double().clamp(2**-25, 1 - 2**-25))
        return (self.mean + self.spread * normal).exp().float()

    def pair(self, clean: Tensor, noise: Tensor, levels: Tensor) -> TrainingPair:
        """Target ``v = (e - sigma x0) / sqrt(sigma^2 + 1)``, or x0."""
        sigma = levels[:, None, None, None, None]
        scale = (sigma.square() + 1).rsqrt()
        inputs = (clean + sigma * noise) * scale
        if self.prediction_type == "sample":
            weight = (levels.square().reciprocal() + 1).clamp(max=_LARGEST_WEIGHT)
            return TrainingPair(inputs, levels.log() / 4, clean, weight)
        return TrainingPair(inputs, levels.log() / 4, (noise - sigma * clean) * scale, torch.ones_like(levels))

    def clean(self, raw: Tensor, inputs: Tensor, levels: Tensor) -> Tensor:
        """``x0 = (x - sigma v) / sqrt(sigma^2 + 1)``, x the scaled input; or what it is."""
        if self.prediction_type == "sample":
            return raw
        sigma = levels[:, None, None, None, None]
        return (inputs - sigma * raw) * (sigma.square() + 1).rsqrt()

    def scheduler(self, solver: str) -> SchedulerMixin:
        """Euler, down to sigma .002 spaced as in EDM, as the release is configured."""
        if solver not in self.solvers:
            raise self._refuse(solver)
        return _ContinuousEuler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type=self.prediction_type,
            timestep_type="continuous",
            timestep_spacing="leading",
            steps_offset=1,
            use_karras_sigmas=True,
            sigma_min=0.002,
            sigma_max=self.largest,
        )


class FlowMatching(DiffusionProcess):
    """Straight paths from data to noise, ``x = (1 - s) x0 + s e`` with s in [0, 1] (arXiv 2209.03003, 2403.03206; Wan).

    Levels are logit-normal, then shifted towards noise as the larger latents of videos want it.

    Args:
        shift: ``s -> shift s / (1 + (shift - 1) s)``, of training levels and solvers alike; Wan 2.1 has 3 at 480 pixels
            and 5 at 720.
    """

    solvers = ("unipc", "euler")

    def __init__(self, shift: float = 3.0) -> None:
        self.shift = shift

    def levels(self, unit: Tensor) -> Tensor:
        """Shifted logistic function of normal numbers, in (0, 1)."""
        normal = torch.special.ndtri(unit.double().clamp(1e-6, 1 - 1e-6))
        level = torch.sigmoid(normal).to(torch.float32)
        return self.shift * level / (1 + (self.shift - 1) * level)

    def pair(self, clean: Tensor, noise: Tensor, levels: Tensor) -> TrainingPair:
        """Target: the velocity ``e - x0``."""
        spread = levels[:, None, None, None, None]
        inputs = (1 - spread) * clean + spread * noise
        return TrainingPair(inputs, levels * 1000, noise - clean, torch.ones_like(levels))

    def clean(self, raw: Tensor, inputs: Tensor, levels: Tensor) -> Tensor:
        """``x0 = x - s v``."""
        return inputs - levels[:, None, None, None, None] * raw

    def scheduler(self, solver: str) -> SchedulerMixin:
        """UniPC (Wan's own) or Euler steps."""
        if solver not in self.solvers:
            raise self._refuse(solver)
        if solver == "euler":
            return _FlowEuler(shift=self.shift)
        return UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=self.shift, num_train_timesteps=1000
        )


class _ContinuousEuler(EulerDiscreteScheduler):
    """With ``ln(sigma) / 4`` as times whatever is predicted; diffusers has them for v-prediction alone."""

    timesteps: Tensor

    def set_timesteps(self, *args: Any, **kwargs: Any) -> None:
        super().set_timesteps(*args, **kwargs)
        self.timesteps = (self.sigmas[:-1].log() / 4).to(self.timesteps.device)


class _FlowEuler(FlowMatchEulerDiscreteScheduler):
    """With what the other schedulers of diffusers have: its inputs and its first noise are not scaled."""

    init_noise_sigma = 1.0

    def scale_model_input(self, sample: Tensor, timestep: Tensor) -> Tensor:
        return sample
