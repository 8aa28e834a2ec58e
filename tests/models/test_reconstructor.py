from __future__ import annotations

import pytest
import torch

from vfusion3d import ReconstructorConfig, TriplaneReconstructor, orbit, random_sphere
from vfusion3d.models import PRESETS, Triplanes


def make(count: int = 2, **changes):
    torch.manual_seed(0)
    model = TriplaneReconstructor(ReconstructorConfig.preset("tiny", **changes)).eval()
    images = torch.rand(count, 4, 32, 32)
    images[:, :3] *= images[:, 3:]
    cameras = random_sphere(count, generator=torch.Generator().manual_seed(1))
    return model, images, cameras


@torch.no_grad()
def test_batch_equals_single():
    model, images, cameras = make()
    views = random_sphere(4, generator=torch.Generator().manual_seed(2)).reshape(2, 2)
    together = model(images, cameras).render(views, 8, 8)
    for k in range(2):
        alone = model(images[k : k + 1], cameras[k : k + 1]).render(views[k : k + 1], 8, 8)
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a[k : k + 1], b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("preset", ["tiny", "nano"])
def test_objects_evaluated_together_are_those_evaluated_one_by_one(preset, recompute, monkeypatch):
    """Accelerators take the rays of all objects at once; chunks then end in the middle of an object."""
    torch.manual_seed(0)
    model = TriplaneReconstructor(ReconstructorConfig.preset(preset)).eval()
    size = model.config.image_size
    cameras = random_sphere(3, generator=torch.Generator().manual_seed(1))
    views = random_sphere(6, generator=torch.Generator().manual_seed(2)).reshape(3, 2)
    pictures, jitter, points = torch.rand(3, 4, size, size), torch.rand(3, 2, 25, 2), torch.randn(3, 40, 3) * 0.6
    answers = []
    for together in (False, True):
        monkeypatch.setattr(Triplanes, "_together", property(lambda _, together=together: together))
        model.zero_grad()
        triplanes = model(pictures, cameras)
        rendered = triplanes.render(views, 5, 5, 0.5, 6, 4, jitter, chunk=170, recompute=recompute)
        density = triplanes.density(points, chunk=33)
        sum([*(part.square().sum() for part in rendered), density.sum()]).backward()
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        answers.append([*rendered, density, *gradients])
    assert len(answers[0]) == len(answers[1]) > 10
    for alone, at_once in zip(*answers, strict=True):
        torch.testing.assert_close(at_once, alone, atol=2e-4, rtol=2e-4)


@torch.no_grad()
def test_turning_the_world_turns_the_answer():
    """`upright_azimuth`: the model never learns where the source stood, only its elevation."""
    model, images, cameras = make(1)
    angle = torch.tensor(0.7)
    turn = torch.eye(4)
    turn[0, 0] = turn[1, 1] = angle.cos()
    turn[1, 0], turn[0, 1] = angle.sin(), -angle.sin()
    views = orbit(3).unsqueeze(0)
    first = model(images, cameras).render(views, 8, 8)
    second = model(images, cameras.transform(turn)).render(views.transform(turn), 8, 8)
    torch.testing.assert_close(first.rgb, second.rgb, atol=1e-4, rtol=1e-4)
    assert first.rgb.std() > 1e-3


@torch.no_grad()
def test_query_agrees_with_density_and_is_empty_outside():
    model, images, cameras = make(1)
    triplanes = model(images, cameras)
    points = torch.rand(1, 50, 3) * 3 - 1.5
    density, colour = triplanes.query(points)
    torch.testing.assert_close(density, triplanes.density(points))
    turned = (points[0] @ triplanes.to_model[0, :3, :3].T + triplanes.to_model[0, :3, 3])[None]
    outside = (turned.abs() > 1.01).any(-1)  # the field's cube stands in the model's frame
    assert outside.any() and (density[outside] == 0).all() and (density[~outside] > 0).any()
    assert colour.shape == (1, 50, 3) and (colour >= -0.001).all() and (colour <= 1.001).all()


def test_every_parameter_learns():
    model, images, cameras = make(1)
    rendered = model.train()(images, cameras).render(orbit(2).unsqueeze(0), 8, 8)
    (rendered.rgb.square().mean() + rendered.opacity.mean()).backward()
    missing = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    # The last layers before a bias-free ReLU may be dead at this size, whole tensors may not.
    assert missing == []


def test_planes_may_be_optimised_themselves():
    model, images, cameras = make(1)
    made = model(images, cameras)
    planes = torch.nn.Parameter(made.planes.detach())
    features = made.source_features.detach()
    triplanes = Triplanes(model.field, planes, made.to_model.detach(), features, made.source_cameras)
    optimizer = torch.optim.SGD([planes], 1.0)
    points, losses = torch.rand(1, 50, 3) - 0.5, []
    with torch.no_grad():
        triplanes.density(points)
    for _ in range(3):
        loss = triplanes.density(points).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[2] < losses[1] < losses[0]


PLAIN = {"image_alpha": False, "pixel_aligned_channels": 0, "patch_size": 14, "image_size": 56, "encoder_layers": 2}
ENCODERS = [{"encoder_layers": 2}, {"encoder": "dinov2", **PLAIN}, {"encoder": "dinov2_registers", **PLAIN}]


def gradients(model: TriplaneReconstructor, recompute: bool = False) -> list[torch.Tensor]:
    torch.manual_seed(1)
    model.train().zero_grad()
    images = torch.rand(1, 4, model.config.image_size, model.config.image_size)
    model(images, orbit(1)).render(orbit(1).unsqueeze(0), 8, 8, recompute=recompute).rgb.square().mean().backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("changes", ENCODERS, ids=["vit", "dinov2", "dinov2_registers"])
def test_gradient_checkpointing_changes_nothing_but_what_is_kept(changes):
    model, _, _ = make(1, **changes)
    grads, calls = [], []
    for block in model.blocks:
        norm = next(part for part in block.modules() if isinstance(part, torch.nn.LayerNorm))
        norm.register_forward_hook(lambda *_: calls.append(1))
    for enabled in (False, True):
        calls.clear()
        model.gradient_checkpointing_enable(enabled)
        grads.append(gradients(model, recompute=enabled))
        assert len(calls) == len(model.blocks) * (2 if enabled else 1)  # every layer is computed again
    for plain, recomputed in zip(*grads, strict=True):
        torch.testing.assert_close(plain, recomputed)


@pytest.mark.parametrize("changes", ENCODERS[:2], ids=["vit", "dinov2"])
@pytest.mark.parametrize("recompute", [False, True])
def test_compiled_blocks_learn_the_same_and_share_their_code(changes, recompute):
    from torch._dynamo.utils import counters

    model, _, _ = make(1, **changes)
    model.gradient_checkpointing_enable(recompute)
    plain, keys = gradients(model), list(model.state_dict())
    torch._dynamo.reset()
    counters.clear()
    model.compile_blocks(backend="aot_eager")  # what is compiled matters here, not how fast it is
    assert list(model.state_dict()) == keys
    for first, second in zip(plain, gradients(model), strict=True):
        torch.testing.assert_close(first, second)
    graphs = counters["stats"]["unique_graphs"]
    assert 2 <= graphs <= 4 < len(model.blocks) * 2 + 1
    gradients(model)
    assert counters["stats"]["unique_graphs"] == graphs  # nothing is compiled again


@pytest.mark.parametrize(
    ("images", "views", "message"),
    [
        (torch.zeros(1, 4, 16, 32), 1, r"Argument `images` must have shape \[B, 3 or 4, 32, 32\]"),
        (torch.zeros(1, 3, 32, 32), 1, "premultiplied RGBA"),
        (torch.zeros(2, 4, 32, 32), 1, r"Argument `cameras` must have shape \[2\]"),
    ],
)
def test_bad_shapes(images, views, message):
    model, _, _ = make(1)
    with pytest.raises(ValueError, match=message):
        model(images, orbit(views))


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_build_on_meta(name):
    with torch.device("meta"):
        model = TriplaneReconstructor(name)
    published = {"vfusion3d": 452.1, "openlrm-small": 111.4, "openlrm-base": 260.2, "openlrm-large": 452.1}
    if name in published:
        # OpenLRM's public count leaves out DINOv2's unused mask token.
        assert abs(model.parameter_count() / 1e6 - published[name]) < 0.1
    if name == "nano":
        assert model.parameter_count() * 2 < 15 * 2**20


@torch.no_grad()
@pytest.mark.parametrize("kind", ["dinov2", "dinov2_registers"])
def test_dinov2_encoders(kind):
    model, _, cameras = make(1, encoder=kind, image_alpha=False, pixel_aligned_channels=0, patch_size=14, image_size=56)
    triplanes = model(torch.rand(1, 3, 56, 56), cameras)
    features = model.encoder(torch.rand(2, 3, 56, 56)).tokens
    assert features.shape == (2, 1 + 16, 24)
    assert torch.isfinite(triplanes.planes).all()


@torch.no_grad()
def test_fixed_frame_ignores_the_source_vector():
    model, images, _ = make(1, source_frame="fixed")
    near, far = orbit(1, elevation=0.0, radius=2.0), orbit(1, elevation=0.5, radius=3.0)
    assert torch.equal(model(images, near).planes, model(images, far).planes)
    points = torch.rand(1, 20, 3) - 0.5
    upright = model(images, near).density(points)
    assert not torch.allclose(upright, model(images, far).density(points))


def test_config_round_trip_and_errors():
    config = ReconstructorConfig.preset("nano")
    assert ReconstructorConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ValueError, match="Unknown key"):
        ReconstructorConfig.from_dict({"colour": 1})
    with pytest.raises(ValueError, match="must be one of"):
        ReconstructorConfig.preset("giant")
    with pytest.raises(ValueError, match="multiple of `triplane_low`"):
        ReconstructorConfig.preset("tiny", triplane_high=9)
    with pytest.raises(ValueError, match="`plane_padding` must be one of"):
        ReconstructorConfig.preset("tiny", plane_padding="mirror")
