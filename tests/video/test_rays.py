"""Plücker rays, and the channels that read them."""

from dataclasses import replace

import pytest
import torch

from tests.video.test_backbones import FRAMES, denoise
from vfusion3d.cameras import Cameras, orbit
from vfusion3d.errors import UsageError
from vfusion3d.video import choose_trainable, create_backbone, load_trainable_state, pluecker_rays, trainable_state
from vfusion3d.video.rays import RAYS, add_ray_channels


def test_rays_are_the_pixels_lines():
    cameras = orbit(views=3, elevation=0.3, radius=2.0, fov=40.0)
    rays = pluecker_rays(cameras, 4, 6)
    assert rays.shape == (3, 6, 4, 6)
    moment, direction = rays.movedim(-3, -1).split(3, -1)
    torch.testing.assert_close(direction.norm(dim=-1), torch.ones(3, 4, 6))
    origins, _ = cameras.rays(4, 6)
    further = origins + 1.7 * direction  # any other point of the line has the same moment
    torch.testing.assert_close(torch.linalg.cross(further, direction), moment, rtol=1e-4, atol=1e-5)
    uv, _ = cameras.project(further.flatten(1, 2))
    wanted = torch.stack(torch.meshgrid((torch.arange(6) + 0.5) / 6, (torch.arange(4) + 0.5) / 4, indexing="xy"), -1)
    torch.testing.assert_close(uv, wanted.flatten(0, 1).expand(3, -1, 2), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["emu", "svd", "wan"])
def test_a_model_with_ray_channels_starts_as_it_was_and_learns_to_read_them(name):
    torch.manual_seed(0)
    plain = create_backbone(name, "tiny", frames=FRAMES)
    torch.manual_seed(0)
    backbone = create_backbone(name, "tiny", frames=FRAMES, ray_channels=True)
    assert backbone.reads_cameras
    pictures = torch.rand(1, 3, 16, 16)
    conditioning = plain.condition(pictures)
    vectors = [orbit(views=FRAMES, elevation=elevation).vectors for elevation in (0.0, 0.5)]
    told = [replace(conditioning, cameras=cameras[None]) for cameras in vectors]
    with torch.no_grad():
        assert torch.equal(denoise(backbone, told[0]), denoise(plain, conditioning))
        assert torch.equal(denoise(backbone, told[0]), denoise(backbone, told[1]))

    report = choose_trainable(backbone, "lora" if name == "wan" else "temporal", rank=2)
    assert f"denoiser.{RAYS}.convolution.weight" in trainable_state(backbone)
    assert report.tensors == choose_trainable(plain, report.train, rank=2).tensors + 1
    with torch.no_grad():
        backbone.denoiser.get_submodule(RAYS).convolution.weight.normal_()
    different = [denoise(backbone, cameras) for cameras in told]
    assert (different[0] - different[1]).abs().max() > 1e-4
    different[0].square().mean().backward()
    assert backbone.denoiser.get_submodule(RAYS).convolution.weight.grad.any()

    torch.manual_seed(0)
    other = create_backbone(name, "tiny", frames=FRAMES, ray_channels=True)
    choose_trainable(other, report.train, rank=2)
    load_trainable_state(other, trainable_state(backbone))
    with torch.no_grad():
        torch.testing.assert_close(denoise(other, told[1]), different[1].detach(), rtol=1e-4, atol=1e-5)


def test_models_without_cameras_are_refused():
    backbone = create_backbone("emu", "tiny", frames=FRAMES, ray_channels=True)
    conditioning = backbone.condition(torch.rand(1, 3, 16, 16))
    with pytest.raises(UsageError, match=r"must be \[1, 4, 16\] \(`Cameras.vectors`\), but got nothing"):
        denoise(backbone, conditioning)
    short = Cameras.stack([orbit(views=3)]).vectors
    with pytest.raises(UsageError, match=r"but got the shape \[1, 3, 16\]"):
        denoise(backbone, replace(conditioning, cameras=short))
    with pytest.raises(UsageError, match="has them already or has no first convolution"):
        add_ray_channels(backbone)
