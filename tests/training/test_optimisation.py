from __future__ import annotations

import copy
import sys

import pytest
import torch

from vfusion3d import TriplaneReconstructor
from vfusion3d.errors import MissingExtraError
from vfusion3d.training import OptimizerSettings
from vfusion3d.training.optimisation import build_optimizer, muon_groups, parameter_groups


def test_adamw_has_every_parameter_once():
    model = TriplaneReconstructor("tiny")
    optimizer = build_optimizer(model, OptimizerSettings(learning_rate=1e-3, beta2=0.9))
    assert type(optimizer) is torch.optim.AdamW
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())
    assert {group["betas"] for group in optimizer.param_groups} == {(0.9, 0.9)}


def test_muon_takes_the_matrices_of_the_transformers():
    model = TriplaneReconstructor("tiny")
    names = {id(p): name for name, p in model.named_parameters()}
    matrices, others, plain = muon_groups(model, parameter_groups(model, 0.05))
    assert matrices["weight_decay"] == others["weight_decay"] == 0.05 and plain["weight_decay"] == 0
    assert "use_fallback" not in matrices and others["use_fallback"] and plain["use_fallback"]
    taken = {names[id(p)] for p in matrices["params"]}
    assert "decoder.layers.0.self_attention.query.weight" in taken
    assert not any(name.startswith(("field", "camera_embedding")) or "positions" in name for name in taken)
    held = [id(p) for group in (matrices, others, plain) for p in group["params"]]
    assert sorted(held) == sorted(names)


def test_muon_learns_and_resumes():
    pytest.importorskip("timm")
    torch.manual_seed(0)
    model = TriplaneReconstructor("tiny")
    optimizer = build_optimizer(model, OptimizerSettings(learning_rate=1e-3, kind="muon"))
    target = torch.randn(1, 16, 24)

    def step(optimizer):
        loss = (model.encoder(torch.full((1, 4, 32, 32), 0.5)).tokens - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss)

    losses = [step(optimizer) for _ in range(10)]
    assert losses[-1] < losses[0]
    saved, weights = copy.deepcopy(optimizer.state_dict()), {k: v.clone() for k, v in model.state_dict().items()}
    step(optimizer)
    wanted = {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(weights)
    again = build_optimizer(model, OptimizerSettings(learning_rate=1e-3, kind="muon"))
    again.load_state_dict(saved)
    step(again)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, wanted[key])


def test_refusals(monkeypatch):
    with pytest.raises(ValueError, match=r"`kind` must be one of \('adamw', 'muon'\), but got 'sgd'"):
        OptimizerSettings(kind="sgd")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "timm.optim", None)
    with pytest.raises(MissingExtraError, match=r"needs timm: pip install 'vfusion3d\[muon\]'"):
        build_optimizer(TriplaneReconstructor("tiny"), OptimizerSettings(kind="muon"))
