from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from vfusion3d.data import ProceduralDataModule, batch_cameras
from vfusion3d.errors import UsageError


def module(**options: Any) -> ProceduralDataModule:
    return ProceduralDataModule(**{"samples_per_epoch": 6, "batch_size": 2, "views": 3, "resolution": 16, **options})


def test_batches_are_as_promised(fit: Callable[..., Any]) -> None:
    batches = fit(module()).batches
    assert len(batches) == 3
    for batch in batches:
        assert {key: (value.dtype, tuple(value.shape)) for key, value in batch.items()} == {
            "images": (torch.float32, (2, 3, 4, 16, 16)),
            "poses": (torch.float32, (2, 3, 3, 4)),
            "intrinsics": (torch.float32, (2, 3, 4)),
            "sample": (torch.int64, (2,)),
            "epoch": (torch.int64, (2,)),
        }
        cameras = batch_cameras(batch)  # type: ignore[arg-type]
        cameras.validate()
        assert float(cameras.centers.norm(dim=-1).min()) > 1
        assert bool((cameras.intrinsics[:, :1] == cameras.intrinsics).all())  # the views of an object share a lens
        for one, other in ((0, 1), (0, 2), (1, 2)):
            assert bool((batch["poses"][:, one] != batch["poses"][:, other]).flatten(1).any(1).all())
        assert float(batch["images"][:, :, 3].amax((-1, -2)).min()) == 1


def test_epochs_are_new_and_reproducible(fit: Callable[..., Any], same: Callable[..., None]) -> None:
    first, again = fit(module(), epochs=2).batches, fit(module(), epochs=2).batches
    same(first, again)
    images = torch.cat([batch["images"] for batch in first])
    assert len(torch.unique(images.flatten(1), dim=0)) == 12
    assert not torch.equal(fit(module(seed=1)).batches[0]["images"], first[0]["images"])


def test_two_workers_equal_none(fit: Callable[..., Any], same: Callable[..., None]) -> None:
    same(fit(module(), epochs=2).batches, fit(module(num_workers=2), epochs=2).batches)


def test_a_resumed_run_sees_the_rest(fit: Callable[..., Any], same: Callable[..., None], tmp_path: Path) -> None:
    saving = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    full = fit(module(), epochs=2, enable_checkpointing=True, callbacks=[saving]).batches
    for step in (1, 3, 4):
        same(fit(module(), epochs=2, checkpoint=tmp_path / f"step={step}.ckpt").batches, full[step:])


def test_validation_objects_are_others_and_stay(fit: Callable[..., Any], same: Callable[..., None]) -> None:
    model = fit(module(val_samples=2), epochs=2)
    same(model.validation[:1], model.validation[1:])
    train = torch.cat([batch["poses"] for batch in model.batches])
    assert bool((model.validation[0]["poses"][:, None] != train).flatten(2).any(-1).all())


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(UsageError, match="`batch_size` must be at least 1, but got 0"):
        module(batch_size=0)
