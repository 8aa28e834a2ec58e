"""Attention kernels agree, and those that cannot be used are refused in a sentence."""

import pytest
import torch

from vfusion3d.errors import MissingExtraError, UsageError
from vfusion3d.video import Conditioning, create_backbone, set_attention
from vfusion3d.video.backbone import VideoBackbone


@pytest.fixture(scope="module")
def emu() -> VideoBackbone:
    torch.manual_seed(0)
    return create_backbone("emu", "tiny", frames=2).eval()


def run(backbone: VideoBackbone) -> torch.Tensor:
    torch.manual_seed(1)
    shape = (1, 2, backbone.codec.channels, 2, 2)
    conditioning = Conditioning(torch.rand(1, *shape[2:]), torch.rand(1, 2, 32), image_kept=torch.ones(1))
    with torch.no_grad():
        return backbone(torch.randn(shape), torch.tensor([500]), conditioning)


def test_fused_and_plain_attention_agree(emu, monkeypatch):
    calls = []
    fused = torch.nn.functional.scaled_dot_product_attention

    def counted(*args, **kwargs):
        calls.append(1)
        return fused(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    results, used = {}, {}
    for kind in ("auto", "math", "sdpa"):
        set_attention(emu, kind)
        calls.clear()
        results[kind], used[kind] = run(emu), len(calls)
    assert used["math"] == 0 and used["sdpa"] > 0
    torch.testing.assert_close(results["sdpa"], results["math"], rtol=1e-4, atol=1e-5)
    assert torch.equal(results["auto"], results["sdpa"])


def test_what_cannot_be_used_is_refused(emu, monkeypatch):
    with pytest.raises(UsageError, match="must be one of auto, sdpa, math, xformers, flash, but got 'best'"):
        set_attention(emu, "best")
    with pytest.raises(UsageError, match="U-Net of emu cannot use the flash-attn package"):
        set_attention(emu, "flash")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="`xformers` need a CUDA device and there is none; choose `sdpa`"):
        set_attention(emu, "xformers")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("vfusion3d.video.attention.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vfusion3d\[xformers\]'"):
        set_attention(emu, "xformers")
    monkeypatch.setattr(emu, "denoiser", torch.nn.Linear(1, 1))
    with pytest.raises(UsageError, match="cannot be chosen"):
        set_attention(emu, "sdpa")
