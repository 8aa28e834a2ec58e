from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from vfusion3d.data import MixedDataModule, ProceduralDataModule, RenderedDataModule
from vfusion3d.errors import UsageError


def modules(root: Path, workers: int = 0, **options: Any) -> list[Any]:
    rendered = RenderedDataModule(str(root), batch_size=1, resolution=24, num_workers=workers, **options)
    procedural = ProceduralDataModule(samples_per_epoch=12, batch_size=2, resolution=16, num_workers=workers)
    return [rendered, procedural]


def test_batches_are_joined_at_the_largest_resolution(scene_root: Path, fit: Callable[..., Any]) -> None:
    data = MixedDataModule(modules(scene_root, val_fraction=0.2))
    assert (data.batch_size, data.samples_per_epoch) == (3, 18)
    model = fit(data)
    assert len(model.batches) == 6
    for batch in model.batches:
        assert batch["images"].shape == (3, 4, 4, 24, 24)
        assert batch["poses"].shape == (3, 4, 3, 4) and batch["sample"].shape == batch["epoch"].shape == (3,)
        assert bool((batch["images"][:, :, :3] <= batch["images"][:, :, 3:] + 1e-5).all())
    samples = torch.cat([batch["sample"] for batch in model.batches])
    assert len(samples.unique()) == 18
    assert model.validation[0]["images"].shape == (1, 4, 4, 24, 24)


def test_parts_are_what_the_modules_alone_deliver(
    scene_root: Path, fit: Callable[..., Any], same: Callable[..., None]
) -> None:
    mixed = fit(MixedDataModule(modules(scene_root))).batches
    alone = fit(modules(scene_root)[1]).batches
    for one, other in zip(mixed, alone, strict=True):
        assert torch.equal(one["poses"][1:], other["poses"])
        assert torch.equal(one["sample"][1:], other["sample"] * 2 + 1)
    stretched = fit(modules(scene_root, samples_per_epoch=6)[0]).batches
    same([{"images": batch["images"][:1]} for batch in mixed], [{"images": batch["images"]} for batch in stretched])


def test_a_shorter_module_starts_again(scene_root: Path, fit: Callable[..., Any]) -> None:
    batches = fit(MixedDataModule(modules(scene_root, samples_per_epoch=3))).batches
    samples = [int(batch["sample"][0]) for batch in batches]
    assert len(samples) == 6 and samples[:3] == samples[3:]


def test_workers_and_a_resumed_run(
    scene_root: Path, fit: Callable[..., Any], same: Callable[..., None], tmp_path: Path
) -> None:
    saving = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    full = fit(MixedDataModule(modules(scene_root)), epochs=2, enable_checkpointing=True, callbacks=[saving]).batches
    for step in (2, 6, 7):
        again = fit(MixedDataModule(modules(scene_root)), epochs=2, checkpoint=tmp_path / f"step={step}.ckpt")
        same(again.batches, full[step:])
    same(fit(MixedDataModule(modules(scene_root, workers=1)), epochs=2).batches, full)


def test_no_modules_are_refused() -> None:
    with pytest.raises(UsageError, match="at least one"):
        MixedDataModule([])
