"""What a training step costs, before there is a model: bytes and floating-point operations, on the meta device.

The model and the perceptual network run without weights, at the recipe's sizes, while what autograd keeps and what
products cost is counted; the renderer, whose samples depend on the picture, is counted on a few real rays and scaled.
All of it is an estimate of what the operations need; allocators, fragmentation and communication come on top.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from vfusion3d.cameras import orbit
from vfusion3d.models import ReconstructorConfig, TriplaneReconstructor, Triplanes
from vfusion3d.models.field import TriplaneField
from vfusion3d.rendering.volume import CHUNK
from vfusion3d.training.losses import LossWeights, PerceptualLoss

_HALF = (F.linear, F.conv1d, F.conv2d, F.conv3d, F.conv_transpose2d, torch.conv2d, torch.conv3d, torch.conv_transpose2d)
_WHOLE = (F.layer_norm, F.group_norm, F.softmax, torch.softmax, torch.layer_norm)


@dataclass(frozen=True)
class StepCost:
    """One training step of one device, of the weights and of each sample."""

    parameters: int
    """Trainable weights of the model."""
    fixed_bytes: int
    """Kept from the forward to the backward pass whatever the batch: weights in half precision, frozen networks."""
    sample_bytes: int
    """Kept per sample."""
    peak_bytes: int
    """Made and dropped again per sample while the backward pass recomputes: the largest layer."""
    sample_flops: float
    """Floating-point operations per sample, forward and backward, with what is recomputed."""
    frozen_bytes: int = 0
    """Weights that are not trained, where they lie beside the trained ones."""
    chunk_bytes: int = 0
    """Made and dropped again, whatever the batch, while the renderer recomputes a chunk of points."""


@lru_cache
def step_cost(
    config: ReconstructorConfig,
    losses: LossWeights = LossWeights(),
    views: int = 4,
    patch: int = 128,
    coarse: int | None = None,
    fine: int | None = None,
    recompute: bool = True,
    checkpointing: bool = True,
    half: bool = True,
) -> StepCost:
    """Estimate a training step.

    Args:
        config: The architecture.
        losses: Which terms there are.
        views: Supervised views per sample.
        patch: Side of a supervised patch in pixels.
        coarse: Samples per ray in equal intervals; the model's by default.
        fine: Samples per ray placed by importance; the model's by default.
        recompute: Whether the renderer recomputes its chunks in the backward pass.
        checkpointing: Whether the transformers recompute their layers in the backward pass.
        half: Whether products are taken in bfloat16 or float16.

    Returns:
        Bytes and operations.
    """
    coarse, fine = coarse or config.coarse_samples, config.fine_samples if fine is None else fine
    with torch.device("meta"):
        model = TriplaneReconstructor(config)
    model.to("meta")  # buffers that are real elsewhere
    model.gradient_checkpointing_enable(checkpointing)

    def transformers(count: int) -> Callable[[], Any]:
        images = torch.empty(count, 4 if config.image_alpha else 3, *[config.image_size] * 2, device="meta")
        camera = torch.empty(count, config.camera_dim, device="meta")
        return lambda: model.decoder(model.encoder(images).tokens, camera)

    one, two = (kept_by(transformers(count), model, half) for count in (1, 2))
    tokens = torch.empty(1, 3 * config.triplane_low**2, config.transformer_dim, device="meta", requires_grad=True)
    picture = torch.empty(1, _tokens(config), config.encoder_dim, device="meta")
    camera = torch.empty(1, config.camera_dim, device="meta")
    layer = model.decoder.layers[0]
    largest = kept_by(lambda: layer(tokens, picture, camera), layer, half).bytes if checkpointing else 0
    rays = views * patch**2
    point = _point_cost(config, coarse, fine, half)
    points = rays * (coarse + fine)
    kept = points * point.bytes
    render_peak = 0
    if recompute:
        render_peak, kept = min(CHUNK, points) * point.bytes, rays * 40  # a chunk's rays: two points, depths, colours
    sample, fixed = two.bytes - one.bytes + kept, max(0, 2 * one.bytes - two.bytes)
    flops = one.flops * (4 if checkpointing else 3)
    flops += point.flops * points * ((4 if recompute else 3) + coarse / (coarse + fine))
    if losses.perceptual:
        network = _perceptual_cost(losses, views, patch, half)
        sample, fixed, flops = sample + network.bytes, fixed + network.fixed, flops + network.flops
    # Triplanes and their projected tables, with gradients, in float32; pictures and patches.
    plane = 3 * config.triplane_high**2 * 4
    sample += 2 * plane * (config.triplane_channels + config.field_dim) + rays * 4 * 4 * 6
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return StepCost(trained, fixed, sample, largest, flops, chunk_bytes=render_peak)


@dataclass(frozen=True)
class Kept:
    """What a forward pass leaves for the backward pass."""

    bytes: int
    """So many."""
    flops: float
    """Operations of the forward pass."""
    fixed: int = 0
    """Of frozen weights."""


def _tokens(config: ReconstructorConfig) -> int:
    """Picture tokens that the decoder attends to."""
    return (config.image_size // config.patch_size) ** 2 + (config.encoder != "vit")


def kept_by(call: Callable[[], Any], module: nn.Module, half: bool) -> Kept:
    """Run forward; count what autograd keeps besides the module's own weights, and the products."""
    own = {parameter.untyped_storage()._cdata for parameter in module.parameters()}
    seen: dict[int, Any] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            seen[storage._cdata] = storage  # held, so that no other storage gets its number
        return tensor

    counter = FlopCounterMode(display=False)
    with saved_tensors_hooks(pack, lambda tensor: tensor), counter, MixedPrecision(half), torch.enable_grad():
        result = call()
    del result
    return Kept(sum(storage.nbytes() for storage in seen.values()), counter.get_total_flops())


def _point_cost(config: ReconstructorConfig, coarse: int, fine: int, half: bool) -> Kept:
    """Of one sample of a ray: bytes kept with gradients, and operations of evaluating it once."""
    field = TriplaneField(config)
    planes = torch.zeros(1, 3, config.triplane_channels, *[config.triplane_high] * 2, requires_grad=True)
    channels = config.pixel_aligned_channels
    features = torch.zeros(1, channels, 8, 8, requires_grad=True) if channels else None
    narrow = orbit(1, radius=3.0, fov=10.0)  # every ray meets the cube
    triplanes = Triplanes(field, planes, torch.eye(4)[None], features, narrow, coarse, fine)

    def rendered(side: int) -> Callable[[], Any]:
        return lambda: triplanes.render(narrow[None], side, side, recompute=False)

    few, many = (kept_by(rendered(side), field, half).bytes for side in (4, 8))
    width = config.field_dim
    flops = 2.0 * width * (4 * (3 + bool(channels)) + width * (config.field_layers - 2) + 4)
    return Kept(round((many - few) / ((64 - 16) * (coarse + fine))), flops)


def _perceptual_cost(losses: LossWeights, views: int, patch: int, half: bool) -> Kept:
    """Of a sample's patches in the perceptual network."""
    with torch.device("meta"):
        loss = PerceptualLoss(losses.trunk, "random")
    network = loss.distance.network.to("meta")
    prediction = torch.empty(views, 3, patch, patch, device="meta", requires_grad=True)
    target = torch.empty(views, 3, patch, patch, device="meta")
    kept = kept_by(lambda: loss(prediction, target), network, half)
    fixed = sum(4 * parameter.numel() for parameter in network.parameters())
    return Kept(kept.bytes, kept.flops * 1.5, fixed)  # both pictures forward; backward to one, not to the weights


class MixedPrecision(TorchFunctionMode):
    """What autocast does to the operations of this library, on any device; and attention that keeps no weights.

    Autocast does not know the meta device, and attention falls back there on products that a GPU never stores.
    """

    def __init__(self, half: bool) -> None:
        super().__init__()
        self.half = half

    def __torch_function__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        """Cast, then run."""
        keywords = keywords or {}
        if function is F.scaled_dot_product_attention:
            dtype = torch.bfloat16 if self.half else torch.float32
            named = [keywords[name] for name in ("query", "key", "value") if name in keywords]
            return _FusedAttention.apply(*(part.to(dtype) for part in (*arguments[:3], *named)))
        if self.half and (function in _HALF or function in _WHOLE):
            dtype = torch.bfloat16 if function in _HALF else torch.float32
            arguments = tuple(_cast(argument, dtype) for argument in arguments)
            keywords = {key: _cast(value, dtype) for key, value in keywords.items()}
        return function(*arguments, **keywords)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


class _FusedAttention(torch.autograd.Function):
    """Keeps query, key, value, the answer and a number per query, as the fused kernels do."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """``[B, heads, N, d]`` each, or the keys' and values' ``[B, heads, M, d]``."""
        weights = query.flatten(0, 1) @ key.flatten(0, 1).transpose(1, 2)
        answer = (weights @ value.flatten(0, 1)).view(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, answer, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return answer

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None]:
        """Nobody asks."""
        raise NotImplementedError("only the forward pass is counted")
