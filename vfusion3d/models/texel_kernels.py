"""Sums of table rows and their gradient on CUDA devices, in Triton.

``embedding_bag`` walks a bag one row after another, and in the backward pass, where a bag holds all samples that read a
texel, thousands of them. Here each block of samples adds to the texels it read, atomically and in any order.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:  # processors, and torch for other devices
    triton = None

BLOCK = 32
"""Samples of a program."""


def has_kernels(tensor: Tensor) -> bool:
    """Whether sums over a table on this tensor's device are made here."""
    return triton is not None and tensor.is_cuda and not torch.are_deterministic_algorithms_enabled()


if triton is not None:

    @triton.jit
    def _gather(table, rows, weights, out, count, width, K: tl.constexpr, W: tl.constexpr, B: tl.constexpr):  # type: ignore[no-untyped-def]
        sample = tl.program_id(0) * B + tl.arange(0, B)
        column = tl.arange(0, W)
        present = sample < count
        mask = present[:, None] & (column < width)[None, :]
        total = tl.zeros((B, W), tl.float32)
        for k in range(K):
            row = tl.load(rows + sample * K + k, mask=present, other=0).to(tl.int64)
            share = tl.load(weights + sample * K + k, mask=present, other=0.0)
            total += share[:, None] * tl.load(table + row[:, None] * width + column[None, :], mask=mask, other=0.0)
        place = sample.to(tl.int64)[:, None] * width + column[None, :]
        tl.store(out + place, total, mask=mask)

    @triton.jit
    def _scatter(gradient, rows, weights, out, count, width, K: tl.constexpr, W: tl.constexpr, B: tl.constexpr):  # type: ignore[no-untyped-def]
        sample = tl.program_id(0) * B + tl.arange(0, B)
        column = tl.arange(0, W)
        present = sample < count
        mask = present[:, None] & (column < width)[None, :]
        place = sample.to(tl.int64)[:, None] * width + column[None, :]
        part = tl.load(gradient + place, mask=mask, other=0.0)
        for k in range(K):
            row = tl.load(rows + sample * K + k, mask=present, other=0).to(tl.int64)
            share = tl.load(weights + sample * K + k, mask=present, other=0.0)
            tl.atomic_add(out + row[:, None] * width + column[None, :], share[:, None] * part, mask=mask, sem="relaxed")


def gather(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of rows: table ``[T, D]``, rows int32 ``[N, K]``, weights ``[N, K]`` -> ``[N, D]``, float32."""
    count, width = len(rows), table.shape[1]
    out = table.new_empty(count, width)
    _launch(_gather, count, width, table.contiguous(), rows, weights, out)
    return out


def scatter(gradient: Tensor, rows: Tensor, weights: Tensor, texels: int) -> Tensor:
    """What `gather` hands back to a table of ``texels`` rows: ``[N, D]`` -> ``[T, D]``; sums in any order."""
    count, width = gradient.shape
    out = gradient.new_zeros(texels, width)
    _launch(_scatter, count, width, gradient.contiguous(), rows, weights, out)
    return out


def _launch(kernel: Any, count: int, width: int, source: Tensor, rows: Tensor, weights: Tensor, out: Tensor) -> None:
    if not count:
        return
    grid = (triton.cdiv(count, BLOCK),)
    wide = triton.next_power_of_2(width)
    kernel[grid](
        source,
        rows.contiguous(),
        weights.contiguous(),
        out,
        count,
        width,
        K=rows.shape[1],
        W=wide,
        B=BLOCK,
        num_warps=4,
    )
