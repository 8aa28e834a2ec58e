from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from tests.video.diffusers_folders import stirred, write_model
from vfusion3d.cameras import orbit
from vfusion3d.errors import UsageError
from vfusion3d.video import SvdBackbone, create_backbone


@torch.no_grad()
def test_the_picture_is_not_scaled_and_is_on_every_frame(tmp_path):
    """And CLIP's vector, zeroed if dropped, is one token; frames per second are told less one."""
    backbone = create_backbone("svd", str(write_model(tmp_path / "svd", "svd")), frames=2)
    images = torch.rand(1, 3, 16, 16)
    conditioning = backbone.condition(images)
    vae = backbone.codec.vae
    torch.testing.assert_close(conditioning.image, vae.encode(images * 2 - 1).latent_dist.mode(), rtol=1e-4, atol=1e-5)
    inputs, times = torch.randn(1, 2, 4, 8, 8), torch.tensor([0.3])
    repeated = conditioning.image[:, None].expand(-1, 2, -1, -1, -1)
    told = torch.tensor([[6.0, 127.0, 0.0]])
    token = conditioning.embedding.view(1, 1, 32)
    expected = backbone.denoiser(torch.cat([inputs, repeated], 2), times, token, told).sample
    torch.testing.assert_close(backbone(inputs, times, conditioning), expected)
    yes = torch.tensor([True])
    dropped = backbone.dropped(conditioning, yes, yes)
    assert dropped.image.eq(0).all() and dropped.embedding.eq(0).all()


@pytest.fixture
def told():
    """Two tiny models of the same weights, one of which is told each frame's camera."""
    torch.manual_seed(0)
    plain = SvdBackbone.from_preset("tiny", frames=3)
    with_cameras = SvdBackbone.from_preset("tiny", frames=3, camera_per_frame=True)
    with_cameras.denoiser.load_state_dict(plain.denoiser.state_dict(), strict=False)
    return plain, with_cameras


@torch.no_grad()
def test_cameras_start_as_nothing_and_then_tell_frames_apart(told):
    plain, backbone = told
    inputs, times = torch.randn(2, 3, 12, 8, 8), torch.tensor([0.3, -0.2])
    conditioning = backbone.condition(torch.rand(2, 3, 16, 16))
    cameras = orbit(3).vectors.expand(2, 3, 16).clone()
    seeing = replace(conditioning, cameras=cameras)
    torch.testing.assert_close(backbone(inputs, times, seeing), plain(inputs, times, conditioning))
    stirred(backbone.denoiser.camera_embedding)
    raw = backbone(inputs, times, seeing)
    turned = replace(seeing, cameras=orbit(3, start=2.0).vectors.expand(2, 3, 16))  # the world has no front
    torch.testing.assert_close(backbone(inputs, times, turned), raw, rtol=1e-3, atol=1e-4)
    moved = cameras.clone()
    moved[1, 2] = orbit(3, elevation=0.5).vectors[2]  # the last frame of the second video, from above
    change = (backbone(inputs, times, replace(seeing, cameras=moved)) - backbone(inputs, times, seeing)).abs()
    assert change[0].max() == 0 and change[1, 2].max() > 1e-3
    copied = deepcopy(backbone)  # as for an average of weights: it reads its own cameras
    torch.nn.init.zeros_(backbone.denoiser.camera_embedding.network.linear_2.weight)
    assert (copied(inputs, times, seeing) - backbone(inputs, times, seeing)).abs().max() > 1e-3


def test_the_camera_layers_are_trained(told):
    plain, backbone = told
    new = set(backbone.temporal_parameters()) - set(plain.temporal_parameters())
    assert len(new) == 4 and all(name.startswith("camera_embedding.") for name in new)
    conditioning = replace(backbone.condition(torch.rand(1, 3, 16, 16)), cameras=orbit(3).vectors[None])
    backbone(torch.randn(1, 3, 12, 8, 8), torch.tensor([0.3]), conditioning).square().mean().backward()
    last = backbone.denoiser.camera_embedding.network.linear_2.weight
    assert last.grad.abs().max() > 0


@pytest.mark.parametrize("cameras", [None, torch.rand(1, 2, 16), torch.rand(1, 3, 2)])
def test_cameras_that_do_not_fit(told, cameras):
    backbone = told[1]
    conditioning = replace(backbone.condition(torch.rand(1, 3, 16, 16)), cameras=cameras)
    with pytest.raises(UsageError, match=r"`Conditioning.cameras` must be \[1, 3, 16\]"):
        backbone(torch.randn(1, 3, 12, 8, 8), torch.tensor([0.3]), conditioning)
