"""What the reconstructor is trained on: picture, opacity and smoothness terms (paper section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from vfusion3d.metrics.perceptual import LpipsNetwork, Trunk

OpacityForm = Literal["bce", "mse"]


@dataclass(frozen=True)
class LossWeights:
    """Weights of the loss terms; 0 switches a term off.

    The paper gives none: pre-training uses LPIPS and opacity, fine-tuning adds L2; these numbers are ours.
    """

    perceptual: float = 1.0
    """LPIPS, or the random-feature loss with ``trunk_weights: random``."""
    l2: float = 0.0
    """Mean squared colour error."""
    opacity: float = 1.0
    """Accumulated opacity against the soft foreground mask."""
    total_variation: float = 0.0
    """Mean squared difference of neighbouring texels (OpenLRM: 5e-4)."""
    opacity_form: OpacityForm = "bce"
    """``bce`` or ``mse``."""
    inside: float = 0.0
    """Direct supervision of the density at labelled points (ours; `inside_loss`); needs `points` of the data."""
    trunk: Trunk = "vgg"
    """Network of the perceptual loss."""
    trunk_weights: str = "pretrained"
    """``pretrained`` (torch hub), a local ``.pth`` file of the trunk, or ``random``: seeded random features
    under uniform weights, called random-feature loss and never LPIPS."""

    def __post_init__(self) -> None:
        for name in ("perceptual", "l2", "opacity", "total_variation", "inside"):
            if getattr(self, name) < 0:
                raise ValueError(f"Loss weight `{name}` must not be negative, but got {getattr(self, name)}.")
        for name, allowed in (("opacity_form", get_args(OpacityForm)), ("trunk", get_args(Trunk))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"Loss setting `{name}` must be one of {allowed}, but got {getattr(self, name)!r}.")


class PerceptualLoss:
    """Mean of LPIPS, or of random features' distance, over pictures; not a module, so never saved.

    Args:
        trunk: ``vgg``, ``alex`` or ``squeeze``.
        weights: As `LossWeights.trunk_weights`.

    Raises:
        CheckpointError: if the trunk's weights are not to be had or cannot be read.
    """

    def __init__(self, trunk: Trunk, weights: str) -> None:
        self.distance = LpipsNetwork(trunk, None if weights == "pretrained" else weights)

    @property
    def is_lpips(self) -> bool:
        """Whether the trunk was trained."""
        return self.distance.is_lpips

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Mean distance of pictures ``[N, 3, H, W]`` in [0, 1], as a scalar."""
        return self.distance(prediction, target).mean()


def opacity_loss(opacity: Tensor, mask: Tensor, form: OpacityForm = "bce") -> Tensor:
    """Accumulated opacity against the soft mask on the same pixels, fp32 (paper: "opacity loss"; form is ours).

    Args:
        opacity: In [0, 1], any shape.
        mask: In [0, 1], same shape.
        form: ``bce`` (opacity clamped to [1e-4, 1 - 1e-4]) or ``mse``.

    Example:
        >>> import torch
        >>> round(float(opacity_loss(torch.tensor([0.5]), torch.tensor([1.0]))), 4)
        0.6931
    """
    opacity, mask = opacity.float(), mask.float()
    if form == "mse":
        return F.mse_loss(opacity, mask)
    clamped = opacity.clamp(1e-4, 1 - 1e-4)
    return -(mask * clamped.log() + (1 - mask) * torch.log1p(-clamped)).mean()


def inside_loss(density: Tensor, inside: Tensor, length: float = 0.1) -> Tensor:
    """Opacity of a short piece of a ray at a point against whether the point lies in the object (ours).

    Binary cross-entropy of ``1 - exp(-density * length)``: the same opacity that the renderer composites, so that a
    field which fits the labels renders as a solid.

    Args:
        density: Per world unit, any shape.
        inside: Labels in [0, 1], same shape.
        length: Of the piece, world units.

    Example:
        >>> import torch
        >>> round(float(inside_loss(torch.tensor([0.0, 50.0]), torch.tensor([0.0, 1.0]))), 4)
        0.0034
    """
    transmitted = density.float() * length + 1e-4  # as an exponent; never 0, so that what is wrongly empty can learn
    filled = -torch.log(-torch.expm1(-transmitted))
    return (inside * filled + (1 - inside) * transmitted).mean()


def total_variation(planes: Tensor) -> Tensor:
    """Mean squared difference along rows plus that along columns of ``[..., R, R]``.

    Example:
        >>> import torch
        >>> float(total_variation(torch.tensor([[0.0, 1.0], [0.0, 1.0]])))
        1.0
    """
    return planes.diff(dim=-1).square().mean() + planes.diff(dim=-2).square().mean()
