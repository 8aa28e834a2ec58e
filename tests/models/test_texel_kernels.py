"""The Triton kernels, which only GPUs run, in Triton's interpreter: a process of its own, as that is chosen first."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from vfusion3d.models import texel_kernels

PROGRAM = """
import torch
from vfusion3d.models.texel_kernels import gather, scatter

torch.manual_seed(0)
for count, width, texels in ((100, 64, 50), (33, 12, 7), (0, 8, 3)):
    table, gradient = torch.randn(texels, width), torch.randn(count, width)
    rows, weights = torch.randint(0, texels, (count, 16), dtype=torch.int32), torch.rand(count, 16)
    wanted = (table[rows.long()] * weights[..., None]).sum(1)
    torch.testing.assert_close(gather(table, rows, weights), wanted, atol=1e-4, rtol=1e-4)
    shares = (weights[..., None] * gradient[:, None]).reshape(-1, width)
    wanted = torch.zeros(texels, width).index_add_(0, rows.flatten().long(), shares)
    torch.testing.assert_close(scatter(gradient, rows, weights, texels), wanted, atol=1e-4, rtol=1e-4)
print("all the same")
"""


@pytest.mark.skipif(texel_kernels.triton is None, reason="needs triton")
def test_kernels_sum_and_hand_back() -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True
    )
    assert run.stdout == "all the same\n", run.stderr


def test_processors_do_without() -> None:
    assert not texel_kernels.has_kernels(torch.zeros(1))
