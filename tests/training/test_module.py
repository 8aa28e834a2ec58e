"""Training runs of a tiny model: it learns, follows its schedules, and resumes on them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from tests.trainers import quiet_trainer
from vfusion3d.callbacks import CameraNoise, ExportModel, LearningRateRestart, NovelViewSheets, ResolutionSchedule
from vfusion3d.data import ProceduralDataModule
from vfusion3d.errors import UsageError
from vfusion3d.models import TriplaneReconstructor
from vfusion3d.training import LossWeights, PatchSettings, ReconstructorTraining


def module(**changes) -> ReconstructorTraining:
    torch.manual_seed(0)
    arguments: dict[str, Any] = {
        "architecture": "tiny",
        "losses": LossWeights(perceptual=0.0, l2=1.0, opacity=0.1),
        "patches": PatchSettings(size=8, foreground=0.5),
        **changes,
    }
    return ReconstructorTraining(**arguments)


def data(**changes) -> ProceduralDataModule:
    return ProceduralDataModule(
        **{"samples_per_epoch": 8, "batch_size": 4, "resolution": 24, "val_samples": 2, **changes}
    )


class Trace(Callback):
    """What the schedules did in each step."""

    def __init__(self) -> None:
        self.steps: list[tuple[Any, ...]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self.steps.append(
            (pl_module.render_resolution, round(rate, 9), batch["sample"].tolist(), float(outputs["loss"]))
        )


def trainer(tmp_path, trace, epochs=4, **changes) -> Trainer:
    schedules = [
        ResolutionSchedule([8, 16, 24], [1, 1.5, 1.5]),
        LearningRateRestart(1e-3, [2, 2], warmup_steps=1),
        CameraNoise(targets="both"),
    ]
    callbacks = [*schedules, trace, *changes.pop("callbacks", [])]
    return quiet_trainer(tmp_path, max_epochs=epochs, callbacks=callbacks, **changes)


def batch_of(dm: ProceduralDataModule):
    return dm.on_after_batch_transfer(next(iter(dm.train_dataloader())), 0)


def test_it_learns():
    model, batch = module(), batch_of(data(batch_size=2))
    model.render_resolution = 8
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        loss = sum(value * weight for value, weight in model.loss_terms(batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.65 * losses[0]


def test_schedules_and_files(tmp_path):
    trace = Trace()
    run = trainer(
        tmp_path, trace, callbacks=[ExportModel(str(tmp_path / "model")), NovelViewSheets(str(tmp_path / "views"))]
    )
    model = module()
    run.fit(model, data())
    assert [step[0] for step in trace.steps] == [8, 8, 16, 16, 16, 24, 24, 24]
    rates = [step[1] for step in trace.steps]
    assert rates[0] < 1e-3 and rates[4] == pytest.approx(1e-3) and max(rates[1:4]) > rates[3]
    assert model.samples_seen == 32 and model.camera_noise is None
    loaded = TriplaneReconstructor.from_pretrained(tmp_path / "model")
    assert torch.equal(loaded.decoder.positions, model.model.decoder.positions)
    from PIL import Image

    sheets = sorted((tmp_path / "views").iterdir())
    assert len(sheets) == 4 and Image.open(sheets[0]).size == (4 * 24, 2 * 4 * 24 + 2)


def test_evaluation_verbs(tmp_path):
    run = trainer(tmp_path, Trace(), callbacks=[NovelViewSheets(str(tmp_path / "views"))])
    model = module()
    [validated] = run.validate(model, data(), verbose=False)
    [tested] = run.test(model, data(), verbose=False)
    assert tested["test/psnr"] == pytest.approx(validated["val/psnr"]) and 1 < tested["test/psnr"] < 60
    predictions = run.predict(model, data())
    assert predictions[0].rgb.shape == (2, 4, 3, 24, 24)
    names = {path.name for path in (tmp_path / "views").iterdir()}
    assert names == {"novel_views_0000000.png", "test_views.png", "predicted_views.png"}


def test_resume_equals_an_uninterrupted_run(tmp_path):
    whole = Trace()
    straight = module()
    trainer(tmp_path / "a", whole).fit(straight, data())
    first, second = Trace(), Trace()
    saving = ModelCheckpoint(tmp_path, "stop", every_n_train_steps=3, save_top_k=-1)
    trainer(tmp_path / "b", first, max_steps=3, callbacks=[saving]).fit(module(), data())
    resumed = module()
    trainer(tmp_path / "c", second).fit(resumed, data(), ckpt_path=tmp_path / "stop.ckpt", weights_only=True)
    joined = first.steps + second.steps
    assert [step[:3] for step in joined] == [step[:3] for step in whole.steps]
    assert [s[3] for s in joined] == pytest.approx([s[3] for s in whole.steps], rel=1e-4)
    torch.testing.assert_close(resumed.model.decoder.positions, straight.model.decoder.positions, atol=1e-5, rtol=1e-4)


def test_checkpoint_is_safe_and_holds_no_loss_network(tmp_path):
    model = module(
        losses=LossWeights(perceptual=1.0, trunk="squeeze", trunk_weights="random"), patches=PatchSettings(size=32)
    )
    run = trainer(tmp_path, Trace(), max_steps=1, limit_val_batches=0)
    run.callbacks = [c for c in run.callbacks if not isinstance(c, ResolutionSchedule)]
    model.render_resolution = 32
    run.fit(model, data(resolution=32))
    run.save_checkpoint(tmp_path / "x.ckpt")
    loaded = torch.load(tmp_path / "x.ckpt", weights_only=True)
    assert all(key.startswith("model.") for key in loaded["state_dict"])
    again = ReconstructorTraining.load_from_checkpoint(tmp_path / "x.ckpt", weights_only=True)
    assert again.model.config.name == "tiny" and again.losses == model.losses and again.inputs == model.inputs


def test_supervision_is_exact_for_a_perfect_model():
    """Targets and cameras fit: a ball rendered by the ray-caster's rule has the patches the module cuts."""
    model, batch = module(), batch_of(data(batch_size=2))
    model.render_resolution = 16
    target, _, jitter = model._targets(batch)
    assert target.shape == (2, 4, 4, 8, 8) and jitter.shape == (2, 4, 64, 2)
    from vfusion3d.data.resize import area_resize

    resized = area_resize(batch["images"], 16, 16)
    full = torch.nn.functional.unfold(resized.flatten(0, 1), 8).unflatten(1, (4, 64)).permute(0, 3, 1, 2)
    flat = target.flatten(0, 1).flatten(2)
    distance = (full - flat[:, None]).abs().amax((-1, -2)).amin(-1)
    assert float(distance.max()) < 1e-6  # every patch is a window of the resized picture


def test_uniform_resolution_keeps_the_order_of_samples():
    model, batch = module(), batch_of(data(batch_size=4))
    model.render_resolution = (8, 24)
    together, _, _ = model._targets(batch)
    for k in range(4):
        alone, _, _ = model._targets({key: value[k : k + 1] for key, value in batch.items()})
        torch.testing.assert_close(together[k : k + 1], alone)


def test_geometry_and_compositing_stay_in_full_precision_under_bf16():
    """DESIGN semantics 12: autocast may round the network, not rays, projections, targets or compositing."""
    model, batch = module(), batch_of(data(batch_size=2))
    model.render_resolution = 16
    model.camera_noise = CameraNoise()
    exact = model._targets(batch)
    rigid = exact[1].transform(torch.eye(4))
    points = torch.rand(2, 4, 5, 3) - 0.5
    field = model.reconstruct(batch)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model._targets(batch)
        torch.testing.assert_close(rounded[0], exact[0], atol=0, rtol=0)
        torch.testing.assert_close(rounded[1].poses, exact[1].poses, atol=1e-6, rtol=0)
        torch.testing.assert_close(rounded[1].transform(torch.eye(4)).poses, rigid.poses, atol=1e-6, rtol=0)
        for a, b in zip(rounded[1].project(points), exact[1].project(points), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
        under = model.reconstruct(batch)
        torch.testing.assert_close(under.to_model, field.to_model, atol=1e-6, rtol=0)
        views = under.render(rounded[1], 8, 8, background=0.0)
    assert views.rgb.dtype == views.opacity.dtype == torch.float32


def test_labelled_points_teach_the_density():
    model = module(losses=LossWeights(perceptual=0.0, opacity=0.0, inside=1.0))
    batch = batch_of(data(batch_size=2, points=400))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        terms = model.loss_terms(batch)
        assert list(terms) == ["inside"]
        optimizer.zero_grad()
        terms["inside"][0].backward()
        optimizer.step()
        losses.append(float(terms["inside"][0]))
    assert losses[-1] < 0.6 * losses[0]
    with torch.no_grad():
        density = model.reconstruct(batch).density(batch["points"])
    assert float(density[batch["inside"] > 0].mean()) > 3 * float(density[batch["inside"] < 1].mean())
    with pytest.raises(UsageError, match="`inside` needs labelled points: set `points` of the data module"):
        model.loss_terms(batch_of(data()))


def test_pictures_are_never_enlarged(tmp_path):
    with pytest.raises(UsageError, match=r"asks for 24 pixels .* but the data's pictures have 16"):
        trainer(tmp_path, Trace()).fit(module(), data(resolution=16))
    model, batch = module(), batch_of(data(batch_size=2))
    assert model._targets(batch)[0].shape[-1] == 8  # without a schedule patches come from the pictures as they are
    for resolution in (32, (8, 32)):
        model.render_resolution = resolution
        with pytest.raises(UsageError, match=r"asks for 32 pixels .* but the data's pictures have 24"):
            model.loss_terms(batch)
    model, batch = module(patches=PatchSettings(size=32)), batch_of(data(batch_size=2))
    with pytest.raises(UsageError, match="asks for 32 pixels"):
        model.loss_terms(batch)


def test_one_view_is_scored_on_itself(tmp_path):
    run = trainer(tmp_path, Trace())
    [metrics] = run.validate(module(), data(views=1), verbose=False)
    assert 0 < metrics["val/psnr"] < 60


def test_precisions_that_round_cameras_are_refused(tmp_path):
    run = trainer(tmp_path, Trace(), precision="bf16-true")
    with pytest.raises(UsageError, match="bf16-true would round cameras and rays; use bf16-mixed"):
        run.fit(module(), data())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_step_on_cuda():
    model = module().cuda()
    model.render_resolution = 16
    batch = {key: value.cuda() for key, value in batch_of(data()).items()}
    with torch.autocast("cuda", torch.bfloat16):
        terms = model.loss_terms(batch)
    sum(value * weight for value, weight in terms.values()).backward()
    assert torch.isfinite(model.model.decoder.positions.grad).all()
