from __future__ import annotations

import platform

import pytest
import torch
import torch.nn.functional as F

from vfusion3d.models import linear


@pytest.mark.parametrize("kernel", [linear.KERNEL, None], ids=["onednn", "torch"])
@pytest.mark.parametrize("rows", [0, 1, 3, 100])
def test_is_the_linear_layer_with_and_without_relu(kernel, rows, monkeypatch):
    monkeypatch.setattr(linear, "KERNEL", kernel)
    x, weight, bias = torch.randn(7, 2 * rows).T[::2], torch.randn(5, 7), torch.randn(5)  # no contiguous rows
    wanted = F.linear(x, weight, bias)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        plain = linear.linear_without_gradients(x, weight, bias)
        bent = linear.linear_without_gradients(x, weight, bias, relu=True)
    torch.testing.assert_close(plain, wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(bent, wanted.relu(), atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors may do without")
def test_torch_has_the_kernel():
    assert (linear.KERNEL is not None) == torch.backends.mkldnn.is_available()
