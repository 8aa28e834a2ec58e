"""Image tokens to planes: the camera-modulated triplane decoder (paper section 3.3; LRM, arXiv 2311.04400)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vfusion3d.models.config import ReconstructorConfig


class CameraEmbedding(nn.Module):
    """Source vector ``[B, 16]`` -> embedding ``[B, camera_dim]``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(16, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, vectors: Tensor) -> Tensor:
        """Embeddings ``[B, camera_dim]`` of source vectors ``[B, 16]``."""
        return self.layers(vectors)


class ModulatedNorm(nn.Module):
    """LayerNorm whose output is shifted and scaled by the camera, the same for all tokens."""

    def __init__(self, dim: int, camera_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.modulation = nn.Linear(camera_dim, 2 * dim)

    def forward(self, x: Tensor, camera: Tensor) -> Tensor:
        """Tokens ``[B, N, dim]`` normalised and modulated by camera embeddings ``[B, camera_dim]``."""
        shift, scale = self.modulation(F.silu(camera))[:, None].chunk(2, dim=-1)
        return self.norm(x) * (1 + scale) + shift


class Attention(nn.Module):
    """Multi-head attention without biases from tokens ``[B, N, dim]`` to context ``[B, M, context_dim]``."""

    def __init__(self, dim: int, heads: int, context_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(context_dim, dim, bias=False)
        self.value = nn.Linear(context_dim, dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """What tokens ``[B, N, dim]`` gather from context ``[B, M, context_dim]``, ``[B, N, dim]``."""
        query, key, value = (
            projection(source).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection, source in ((self.query, x), (self.key, context), (self.value, context))
        )
        return self.out(attend(query, key, value).transpose(1, 2).flatten(2))


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled dot-product attention of ``[B, heads, N, d]``.

    On a CPU in bfloat16 torch's fused kernel is slower than plain products over blocks of queries and heads
    (1.6 times, forward and backward at N = 432), so those are used there.
    """
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(query, key, value)
    scale = query.shape[-1] ** -0.5
    result = []
    for q, k, v in zip(*(part.split(4, dim=1) for part in (query * scale, key.transpose(-1, -2), value)), strict=True):
        k = k.contiguous()  # or every product copies it
        result.append(torch.cat([torch.softmax(rows @ k, -1) @ v for rows in q.split(256, dim=2)], dim=2))
    return torch.cat(result, dim=1)


class DecoderLayer(nn.Module):
    """Cross-attention to the picture, self-attention among the planes, MLP; pre-norm, each norm modulated."""

    def __init__(self, config: ReconstructorConfig) -> None:
        super().__init__()
        dim, heads = config.transformer_dim, config.transformer_heads
        self.norm1 = ModulatedNorm(dim, config.camera_dim)
        self.cross_attention = Attention(dim, heads, config.encoder_dim)
        self.norm2 = ModulatedNorm(dim, config.camera_dim)
        self.self_attention = Attention(dim, heads, dim)
        self.norm3 = ModulatedNorm(dim, config.camera_dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor, image: Tensor, camera: Tensor) -> Tensor:
        """Next tokens ``[B, N, dim]`` from image tokens ``[B, T, encoder_dim]`` and camera ``[B, camera_dim]``."""
        x = x + self.cross_attention(self.norm1(x, camera), image)
        y = self.norm2(x, camera)
        x = x + self.self_attention(y, y)
        return x + self.mlp(self.norm3(x, camera))


class TriplaneDecoder(nn.Module):
    """Image tokens and camera embedding -> planes ``[B, 3, C, R, R]`` (row, column).

    Learned tokens are ordered plane, row, column. A transposed convolution shared by the planes turns each
    token into a block of texels.
    """

    def __init__(self, config: ReconstructorConfig) -> None:
        super().__init__()
        self.side = config.triplane_low
        dim = config.transformer_dim
        self.positions = nn.Parameter(torch.randn(1, 3 * self.side**2, dim) / dim**0.5)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.transformer_layers))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        factor = config.triplane_high // config.triplane_low
        self.upsample = nn.ConvTranspose2d(dim, config.triplane_channels, factor, stride=factor)
        self.gradient_checkpointing = False

    def forward(self, image: Tensor, camera: Tensor) -> Tensor:
        """Planes ``[B, 3, C, R, R]`` from image tokens ``[B, T, encoder_dim]`` and camera ``[B, camera_dim]``."""
        x = self.positions.expand(len(image), -1, -1)
        for layer in self.layers:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = checkpoint(layer, x, image, camera, use_reentrant=False)
            else:
                x = layer(x, image, camera)
        grid = self.norm(x).view(len(x) * 3, self.side, self.side, -1).permute(0, 3, 1, 2)
        planes = self.upsample(grid)
        return planes.view(len(x), 3, *planes.shape[1:])
