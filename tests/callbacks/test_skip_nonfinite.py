"""A step that is not finite changes nothing, whatever it is made of; too many end the run."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader

from tests.trainers import quiet_trainer
from vfusion3d.callbacks import SkipNonFinite
from vfusion3d.errors import TrainingError
from vfusion3d.training import OptimizerSettings, build_optimizer


class Tiny(LightningModule):
    """Learns from numbers; ``bad`` says what happens to the loss or the gradients of a batch."""

    def __init__(self, bad=None, kind="adamw"):
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.ModuleDict({"encoder": nn.Linear(4, 4), "head": nn.Linear(4, 1)})
        self.bad, self.kind = bad or {}, kind
        self.before = []

    def configure_optimizers(self):
        return build_optimizer(self.model, OptimizerSettings(learning_rate=0.1, kind=self.kind))

    def state(self):
        moments = [v for s in self.optimizers().state.values() for v in s.values() if isinstance(v, torch.Tensor)]
        return copy.deepcopy([*self.parameters(), *moments])

    def training_step(self, batch, batch_idx):
        self.before.append(self.state())
        value = self.model["head"](self.model["encoder"](batch).relu()).square().mean()
        bad = self.bad.get(batch_idx)
        if bad == "infinite loss with finite gradients":
            return value + torch.inf
        if bad == "nan gradients of a finite loss":
            zero = self.model["head"].weight.sum() * 0
            return value + torch.where(zero > 1, zero, (zero * 0).sqrt().nan_to_num())  # sqrt has no slope at 0
        return value * {"nan": torch.nan, "inf": torch.inf}.get(bad, 1.0)


def fit(tmp_path, model, skip, steps=6, callbacks=(), **options):
    data = DataLoader(torch.randn(2 * steps, 4, generator=torch.Generator().manual_seed(0)), batch_size=2)
    trainer = quiet_trainer(tmp_path, callbacks=[skip, *callbacks], **options)
    trainer.fit(model, data)
    return trainer


BAD = ["nan", "inf", "infinite loss with finite gradients", "nan gradients of a finite loss"]


@pytest.mark.parametrize("kind", ["adamw", "muon"])
@pytest.mark.parametrize("bad", BAD)
def test_a_bad_step_changes_nothing(tmp_path, bad, kind):
    if kind == "muon":
        pytest.importorskip("timm")
    model, skip = Tiny({2: bad}, kind), SkipNonFinite()
    with pytest.warns(UserWarning, match=r"step 3 were not finite: skipped \(1 in a row, 1 in all\)"):
        fit(tmp_path, model, skip, gradient_clip_val=1.0, enable_checkpointing=False)
    assert (skip.skipped, skip.in_a_row) == (1, 0)
    for a, b in zip(model.before[2], model.before[3], strict=True):
        assert torch.equal(a, b)
    assert not any(torch.equal(a, b) for a, b in zip(model.before[3][:2], model.before[4][:2], strict=True))
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_without_it_the_weights_are_lost(tmp_path):
    model = Tiny({2: "nan"})
    fit(tmp_path, model, ModelCheckpoint(tmp_path), steps=3)
    assert not all(bool(p.isfinite().all()) for p in model.parameters())


def test_accumulated_batches_share_their_fate(tmp_path):
    model, skip = Tiny({2: "nan"}), SkipNonFinite()  # batches 2 and 3 are one step, whose last batch is fine
    fit(tmp_path, model, skip, accumulate_grad_batches=2, enable_checkpointing=False)
    assert skip.skipped == 1
    for a, b in zip(model.before[2], model.before[4], strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(model.before[4][0], model.state()[0])


def test_weight_averages_stay_finite(tmp_path):
    model = Tiny({1: "nan", 4: "inf"})
    fit(tmp_path, model, SkipNonFinite(), callbacks=[EMAWeightAveraging(decay=0.5)], enable_checkpointing=False)
    assert all(bool(p.isfinite().all()) for p in model.parameters())  # the average, since training has ended


def test_the_limit_ends_training_and_names_the_last_good_checkpoint(tmp_path):
    model, skip = Tiny(dict.fromkeys(range(3, 20), "nan")), SkipNonFinite(limit=2)
    saving = ModelCheckpoint(tmp_path / "kept", "{step}", every_n_train_steps=1)
    with pytest.raises(TrainingError, match=r"step 6: .* of 3 steps .* good checkpoint is .*step=5\.ckpt \(--ckpt_"):
        fit(tmp_path, model, skip, steps=20, callbacks=[saving])
    kept = torch.load(tmp_path / "kept" / "step=5.ckpt", weights_only=True)
    assert all(bool(value.isfinite().all()) for value in kept["state_dict"].values())
    assert kept["callbacks"]["SkipNonFinite"] == {"skipped": 2, "in_a_row": 2}
    with pytest.raises(TrainingError, match="no checkpoint had been written yet"):
        fit(tmp_path, Tiny({0: "nan"}), SkipNonFinite(limit=0), enable_checkpointing=False)


def test_counts_go_on(tmp_path):
    skip = SkipNonFinite()
    skip.load_state_dict({"skipped": 3, "in_a_row": 1})
    fit(tmp_path, Tiny({0: "nan"}), skip, enable_checkpointing=False)
    assert skip.state_dict() == {"skipped": 4, "in_a_row": 0}


def test_one_process_decides_for_all(tmp_path):
    """Another process met something: this one skips too, though all it has is finite."""
    model, skip = Tiny(), SkipNonFinite()
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    asked = []
    strategy = SimpleNamespace(reduce_boolean_decision=lambda decision: asked.append(decision) or False)
    skip.on_before_optimizer_step(SimpleNamespace(strategy=strategy, global_step=0), model, optimizer)
    assert asked == [True] and all(parameter.grad is None for parameter in model.parameters())


def test_bad_arguments():
    with pytest.raises(ValueError, match="`limit` must not be negative, but got -1"):
        SkipNonFinite(limit=-1)
