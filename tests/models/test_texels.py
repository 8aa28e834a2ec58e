from __future__ import annotations

import torch
import torch.nn.functional as F

from vfusion3d.models.texels import TexelSum


def test_texel_sums_have_the_gradients_of_embedding_bag():
    table = torch.randn(50, 6, requires_grad=True)
    weights = torch.rand(300, 8, requires_grad=True)
    rows = torch.randint(0, 40, (300, 8), dtype=torch.int32)  # some texels are never read
    seed = torch.randn(300, 6)
    ours = TexelSum.apply(table, rows, weights)
    theirs = F.embedding_bag(rows.long(), table, mode="sum", per_sample_weights=weights)
    assert torch.equal(ours, theirs)
    wanted = torch.autograd.grad(theirs, [table, weights], seed)
    for a, b in zip(torch.autograd.grad(ours, [table, weights], seed), wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    double = table.detach().double().requires_grad_()
    few = weights[:5].detach().double().requires_grad_()
    assert torch.autograd.gradcheck(lambda t, w: TexelSum.apply(t, rows[:5], w), (double, few))
