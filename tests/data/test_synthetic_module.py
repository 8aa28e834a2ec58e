from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from vfusion3d.data import MixedDataModule, RenderedDataModule, ShardSet, SyntheticDataModule, batch_cameras, loading
from vfusion3d.data.resize import area_resize
from vfusion3d.errors import ShardError, UsageError
from vfusion3d.training.resuming import finish_epoch


def module(root: Any, **options: Any) -> SyntheticDataModule:
    root = root if isinstance(root, dict) else str(root)
    return SyntheticDataModule(root, **{"batch_size": 2, "views": 3, "resolution": 24, **options})


def test_batches_are_frames_with_the_rigs_cameras(orbit_set: Path, fit: Callable[..., Any]) -> None:
    opened = ShardSet(str(orbit_set))
    batches = fit(module(orbit_set)).batches
    assert len(batches) == 3
    seen = set()
    for batch in batches:
        assert {key: (value.dtype, tuple(value.shape)) for key, value in batch.items()} == {
            "images": (torch.float32, (2, 3, 4, 24, 24)),
            "poses": (torch.float32, (2, 3, 3, 4)),
            "intrinsics": (torch.float32, (2, 3, 4)),
            "sample": (torch.int64, (2,)),
            "epoch": (torch.int64, (2,)),
        }
        batch_cameras(batch).validate()
        for row, sample in enumerate(batch["sample"].tolist()):
            seen.add(sample)
            cameras = opened.cameras(sample)
            frames = (cameras.poses[None] - batch["poses"][row][:, None]).abs().flatten(2).amax(2).argmin(1).tolist()
            assert len(set(frames)) == 3
            expected = torch.stack([torch.from_numpy(p) for p in opened.pixels(sample, frames)]).permute(0, 3, 1, 2)
            torch.testing.assert_close(batch["images"][row], expected / 255)
    assert seen == set(range(6))


@pytest.mark.parametrize("cache", [0.0, 1.0])
def test_other_resolutions_are_resized_by_area(orbit_set: Path, fit: Callable[..., Any], cache: float) -> None:
    small = fit(module(orbit_set, resolution=12, cache_gib=cache)).batches
    large = fit(module(orbit_set, cache_gib=cache)).batches
    for one, other in zip(small, large, strict=True):
        torch.testing.assert_close(one["images"], area_resize(other["images"], 12, 12), atol=0.51 / 255, rtol=0)


def test_rows_are_chosen(orbit_set: Path, fit: Callable[..., Any]) -> None:
    data = module(orbit_set, query="elevation > 0.1 and seed < 5", order_by="elevation", limit=3)
    model = fit(data, epochs=2)
    elevations = sorted(pq.read_table(orbit_set / "items.parquet")["elevation"].to_pylist()[:5])[-3:]
    used = {round(float(batch_cameras(batch).elevations[k, 0]), 4) for batch in model.batches for k in range(2)}
    assert used <= {round(elevation, 4) for elevation in elevations} and data.samples_per_epoch == 3


def test_locations_are_mixed_by_weight(
    orbit_set: Path, render_set: Path, fit: Callable[..., Any], same: Callable[..., None]
) -> None:
    roots = {str(orbit_set): 3.0, str(render_set): 1.0}
    options = {"samples_per_epoch": 24, "mirror": True, "hue": 0.2}
    batches = fit(module(roots, **options), epochs=2).batches
    samples = torch.stack([batch["sample"] for batch in batches])
    assert (samples[:12] % 2).sum() == (samples[12:] % 2).sum() == 6
    same(batches, fit(module(roots, num_workers=2, **options), epochs=2).batches)
    rendered = RenderedDataModule({str(render_set): 1.0}, views=6, resolution=24, batch_size=2)
    assert len(fit(rendered).batches) == 2
    held = fit(module(roots, val_fraction=0.3, samples_per_epoch=4)).validation
    assert sum(len(batch["sample"]) for batch in held) == 4  # two of six and two of five


def test_shard_sets_of_renders_equal_scene_folders(
    scene_root: Path, render_set: Path, fit: Callable[..., Any], same: Callable[..., None]
) -> None:
    def run(root: Path, **options: Any) -> Any:
        given = {"batch_size": 1, "resolution": 24, "hue": 0.3, "points": 20, "val_fraction": 0.3, **options}
        model = fit(RenderedDataModule(str(root), **given))
        return model.batches + model.validation

    for options in ({}, {"limit": 3}, {"exclude": ["object_1"], "cache_gib": 0.0}, {"view_pool": 4}):
        same(run(scene_root, **options), run(render_set, **options))


def test_only_the_pool_of_views_is_used(scene_root: Path, fit: Callable[..., Any]) -> None:
    data = RenderedDataModule(str(scene_root), batch_size=1, views=2, resolution=24, view_pool=3, mirror=False)
    used = set()
    batches = fit(data, epochs=6).batches
    scenes = data.split()[0][0]
    for batch in batches:
        poses = scenes.cameras(int(batch["sample"])).poses
        used |= set((poses[None] - batch["poses"][0][:, None]).abs().flatten(2).amax(2).argmin(1).tolist())
    assert used == {0, 1, 2}
    with pytest.raises(UsageError, match=r"`view_pool` must be at least `views` \(4\), but got 3"):
        RenderedDataModule(str(scene_root), view_pool=3)


# -- order and resume --------------------------------------------------------------------------------------------
def test_a_run_killed_anywhere_resumes_exactly(
    orbit_set: Path, render_set: Path, fit: Callable[..., Any], same: Callable[..., None], tmp_path: Path
) -> None:
    """With two persistent workers, in later epochs, at the last batch and at an epoch's end; no sample is lost."""

    def data() -> SyntheticDataModule:
        roots = {str(orbit_set): 2.0, str(render_set): 1.0}
        return module(roots, samples_per_epoch=8, num_workers=2, mirror=True)

    saving = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    full = fit(data(), epochs=3, enable_checkpointing=True, callbacks=[saving]).batches
    for epoch in range(3):
        samples = torch.cat([batch["sample"] for batch in full[4 * epoch : 4 * epoch + 4]])
        assert len(samples.unique()) == 8
    for step in (1, 3, 4, 6, 11):
        again = fit(data(), epochs=3, checkpoint=tmp_path / f"step={step}.ckpt").batches
        same(again, full[step:])


def _train_until_killed(root: str, folder: str, after: int) -> None:
    """Run in a process of its own: checkpoint every step, and die at once after some of them."""
    import lightning.pytorch as pl

    class Fatal(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
            trainer.save_checkpoint(f"{folder}/last.ckpt")
            if trainer.global_step == after:
                os.kill(os.getpid(), signal.SIGKILL)

    class Model(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            with open(f"{folder}/seen.txt", "a") as file:
                file.write(json.dumps([batch["sample"].tolist(), batch["epoch"].tolist()]) + "\n")
            return self.weight * batch["images"].mean()

        def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            finish_epoch(checkpoint["loops"]["fit_loop"])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    torch.set_num_threads(1)
    trainer = pl.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=[Fatal()],
    )
    last = Path(folder, "last.ckpt")
    trainer.fit(Model(), datamodule=module(root, num_workers=2), ckpt_path=last if last.exists() else None)


def test_kill_9_loses_nothing_and_shows_nothing_twice(orbit_set: Path, tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")  # a new interpreter would import Lightning again
    for after in (2, 3, 5, -1):  # mid-epoch, at an epoch's end, at a later epoch's last but one step, never
        process = fork.Process(target=_train_until_killed, args=(str(orbit_set), str(tmp_path), after))
        process.start()
        process.join()
        assert process.exitcode == (0 if after < 0 else -signal.SIGKILL)
    rows = [json.loads(line) for line in (tmp_path / "seen.txt").read_text().splitlines()]
    assert len(rows) == 9
    for epoch in range(3):
        part = rows[3 * epoch : 3 * epoch + 3]
        assert sorted(sample for samples, _ in part for sample in samples) == list(range(6))
        assert {number for _, epochs in part for number in epochs} == {epoch}


def test_mixtures_with_a_shorter_module_resume_exactly(
    orbit_set: Path, scene_root: Path, fit: Callable[..., Any], same: Callable[..., None], tmp_path: Path
) -> None:
    """The shorter one (4 of 6 steps) has begun again when the longer one ends."""

    def data() -> MixedDataModule:
        rendered = RenderedDataModule(str(scene_root), batch_size=1, views=3, resolution=24, samples_per_epoch=4)
        return MixedDataModule([module(orbit_set, batch_size=1, samples_per_epoch=6), rendered])

    saving = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    full = fit(data(), epochs=2, enable_checkpointing=True, callbacks=[saving]).batches
    assert len(full) == 12
    for step in (3, 4, 5, 6, 11):
        same(fit(data(), epochs=2, checkpoint=tmp_path / f"step={step}.ckpt").batches, full[step:])


def test_two_processes_share_one_shard(orbit_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are read at random, so there may be fewer shards than processes."""
    whole = ShardSet(str(orbit_set))
    limit = int((whole.places.shard == whole.places.shard[0]).sum())
    assert limit >= 2
    seen = []
    for rank in range(limit):
        monkeypatch.setattr(loading, "_world", lambda rank=rank: (limit, rank))
        data = module(orbit_set, query=f"seed < {limit}", batch_size=1)
        data.setup("fit")
        seen += [int(sample) for batch in data.train_dataloader() for sample in batch["sample"]]
    assert sorted(seen) == list(range(limit))


# -- mistakes ----------------------------------------------------------------------------------------------------
def test_mistakes_are_one_sentence(orbit_set: Path, render_set: Path, scene_root: Path, tmp_path: Path) -> None:
    cases: list[tuple[Any, type[Exception], str]] = [
        (module(orbit_set, query="elevation > 9"), UsageError, "chooses none of the 6 rows"),
        (module(orbit_set, limit=9), UsageError, "asks for 9 items"),
        (module(scene_root), ShardError, "is no shard set: it has no items.parquet"),
        (module(tmp_path / "nowhere"), ShardError, "does not exist"),
        (module(orbit_set, views=9), Exception, "has 8 pictures, but 9 views are asked for"),
        (RenderedDataModule(str(orbit_set)), UsageError, "read it with vfusion3d.SyntheticDataModule"),
        (RenderedDataModule(str(scene_root), query="seed > 1"), UsageError, "`vfusion3d data pack"),
        (RenderedDataModule(str(scene_root), order_by="seed"), UsageError, "`vfusion3d data pack"),
        (RenderedDataModule(str(scene_root), limit=9), UsageError, "from 1 to the 5 scenes"),
    ]
    for data, kind, words in cases:
        with pytest.raises(kind) as caught:
            data.setup("fit")
        assert words in str(caught.value) and str(caught.value).endswith("."), caught.value
    for root in ({}, {"a": 0.0}, {"a": -1.0}):
        with pytest.raises(UsageError, match="`root` must map locations to positive shares"):
            module(root)
    table = pa.table({"key": ["procedural_00000000"], "quality": ["high"]})
    pq.write_table(table, orbit_set / "labels-x.parquet")
    try:
        with pytest.raises(UsageError, match="does not fit the columns"):
            module(orbit_set, query="quality > 0.5").setup("fit")
    finally:
        (orbit_set / "labels-x.parquet").unlink()
