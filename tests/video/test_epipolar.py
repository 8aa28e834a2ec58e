"""Epipolar masks keep true correspondences; attention among views starts without effect and stays behind the mask."""

import copy
from dataclasses import replace

import pytest
import torch

from tests.video.test_backbones import FRAMES, denoise
from vfusion3d.cameras import Cameras, orbit
from vfusion3d.errors import UsageError
from vfusion3d.video import add_joint_attention, choose_trainable, create_backbone, epipolar_mask, trainable_state
from vfusion3d.video.epipolar import JOINT, JointViewAttention

SIDE, VIEWS = 8, 16


def test_the_mask_keeps_true_correspondences_and_little_else():
    cameras = orbit(views=VIEWS, elevation=0.4, fov=40.0, offset_noise=0.05, generator=torch.Generator().manual_seed(0))
    mask = epipolar_mask(cameras, SIDE, SIDE)
    assert mask.shape == (VIEWS * SIDE**2,) * 2
    points = torch.randn(3000, 3, generator=torch.Generator().manual_seed(1))
    points = points / points.norm(dim=-1, keepdim=True) * torch.rand(3000, 1) ** (1 / 3)
    uv, _ = cameras.project(points.expand(VIEWS, -1, 3))
    column, row = (uv * SIDE).floor().long().clamp(0, SIDE - 1).unbind(-1)
    cells = row * SIDE + column + torch.arange(VIEWS)[:, None] * SIDE**2  # of each point in each view
    assert mask[cells[:, None], cells[None]].float().mean() > 0.999
    by_view = mask.view(VIEWS, SIDE**2, VIEWS, SIDE**2)
    assert all(bool(by_view[view, :, view].all()) for view in range(VIEWS))
    assert by_view[0, :, 5].float().mean() < 0.45  # of a quarter turn and more


def test_lines_are_where_points_of_a_ray_appear():
    """Exactly: the cells that a ray crosses are kept by a band of half a diagonal, and far ones are not."""
    cameras = orbit(views=2, elevation=0.2, fov=40.0, radius=3.0)[:2]
    turned = Cameras.stack([cameras[0], orbit(views=7, elevation=0.9, fov=30.0, radius=3.0)[2]])
    mask = epipolar_mask(turned, 6, SIDE, band=0.5**0.5 + 1e-3).view(2, 6 * SIDE, 2, 6 * SIDE)
    origins, directions = turned[0].rays(6, SIDE)
    depths = torch.linspace(2.0, 4.0, 200)
    points = origins[..., None, :] + depths[:, None] * directions[..., None, :]  # [6, 8, 200, 3]
    uv, depth = turned[1].project(points.flatten(0, 2))
    inside = ((uv >= 0) & (uv < 1)).all(-1) & (depth > 0)
    cells = (uv[:, 1] * 6).floor().long() * SIDE + (uv[:, 0] * SIDE).floor().long()
    source = torch.arange(6 * SIDE).repeat_interleave(200)
    assert inside.sum() > 1000
    assert bool(mask[0, source[inside], 1, cells[inside]].all())
    assert mask[0, :, 1].float().mean() < 0.35


def test_attention_stays_behind_the_mask():
    torch.manual_seed(0)
    joint = JointViewAttention(16, groups=4)
    joint.norm = torch.nn.Identity()  # it would mix the cells of a view
    joint.norm.weight = torch.zeros(1)
    torch.nn.init.normal_(joint.to_out.weight)
    cameras = orbit(views=3, elevation=0.3)
    features = torch.randn(6, 16, 4, 4, requires_grad=True)
    out = joint(features, Cameras.stack([cameras, cameras]))
    assert out.shape == features.shape
    view, row, column = 1, 2, 3
    out[view, :, row, column].sum().backward()
    reached = features.grad.abs().sum(1).flatten() > 0
    allowed = epipolar_mask(cameras, 4, 4)[view * 16 + row * 4 + column]
    assert torch.equal(reached[: 3 * 16], allowed) and not reached[3 * 16 :].any()  # nor any of the other item


@pytest.mark.parametrize("name", ["emu", "i2vgen", "svd"])
def test_views_attend_to_each_other_after_training_alone(name):
    torch.manual_seed(0)
    plain = create_backbone(name, "tiny", frames=FRAMES)
    backbone = copy.deepcopy(plain)
    add_joint_attention(backbone)
    conditioning = plain.condition(torch.rand(1, 3, 16, 16))
    told = replace(conditioning, cameras=orbit(views=FRAMES, elevation=0.2).vectors[None])
    with torch.no_grad():
        assert torch.equal(denoise(backbone, told), denoise(plain, conditioning))
    choose_trainable(backbone, "temporal")
    names = [key for key in trainable_state(backbone) if JOINT in key]
    assert len(names) == 5
    with torch.no_grad():
        torch.nn.init.normal_(backbone.denoiser.get_submodule(JOINT).to_out.weight)
    changed = denoise(backbone, told)
    assert (changed - denoise(plain, conditioning)).abs().max() > 1e-4
    changed.square().mean().backward()
    parameters = dict(backbone.named_parameters())
    assert all(parameters[key].grad is not None for key in names)


def test_transformers_are_refused():
    with pytest.raises(UsageError, match="or this is no U-Net; leave `joint_attention` out"):
        create_backbone("wan", "tiny", joint_attention=True)
