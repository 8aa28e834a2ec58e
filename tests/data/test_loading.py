from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
import torch

from vfusion3d.data import loading
from vfusion3d.data.loading import EpochSampler, FixedEpochSampler, ResumableLoader, shares
from vfusion3d.errors import UsageError


class Pairs(torch.utils.data.Dataset):
    def __getitem__(self, index: tuple[int, int]) -> tuple[int, int]:
        return index


def on_rank(monkeypatch: pytest.MonkeyPatch, world: int, rank: int, **options: Any) -> EpochSampler:
    monkeypatch.setattr(loading, "_world", lambda: (world, rank))
    return EpochSampler(**{"samples": 22, "items": [5], "batch_size": 4, "seed": 0, "shuffle": True, **options})  # type: ignore[arg-type]


def test_two_processes_equal_one(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(on_rank(monkeypatch, 1, 0, batch_size=4))
    halves = [list(on_rank(monkeypatch, 2, rank, batch_size=2)) for rank in (0, 1)]
    assert len(whole) == 20  # cut to whole global batches
    for step in range(5):
        together = {pair for half in halves for pair in half[2 * step : 2 * step + 2]}
        assert together == set(whole[4 * step : 4 * step + 4])


def test_every_item_comes_once_before_one_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = on_rank(monkeypatch, 1, 0, samples=15, batch_size=3)
    samples = [sample for _, sample in sampler]
    for turn in range(3):
        assert sorted(samples[5 * turn : 5 * turn + 5]) == list(range(5 * turn, 5 * turn + 5))
    sampler.set_epoch(1)
    again = list(sampler)
    assert [epoch for epoch, _ in again] == [1] * 15
    assert [sample for _, sample in again] != samples


def test_sources_are_mixed_evenly_with_exact_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = on_rank(monkeypatch, 1, 0, samples=100, items=[7, 30, 3], batch_size=10, weights=[1.0, 2.0, 0.7])
    samples = torch.tensor([sample for _, sample in sampler])
    counts = torch.bincount(samples % 3).tolist()
    assert counts == [27, 54, 19] == shares(100, [1.0, 2.0, 0.7])
    assert len(samples.unique()) == 100
    for length in range(10, 100, 10):  # every part of the epoch has these shares
        for source, count in enumerate(torch.bincount(samples[:length] % 3, minlength=3).tolist()):
            assert abs(count - counts[source] * length / 100) <= 1
    for source, items in enumerate((7, 30, 3)):
        turns = samples[samples % 3 == source] // 3
        for turn in range(counts[source] // items):
            assert sorted((turns[turn * items : (turn + 1) * items] % items).tolist()) == list(range(items))
    halves = [
        list(on_rank(monkeypatch, 2, rank, samples=100, items=[7, 30, 3], batch_size=5, weights=[1.0, 2.0, 0.7]))
        for rank in (0, 1)
    ]
    assert [sample for pair in zip(*halves, strict=True) for _, sample in pair] == samples.tolist()


def test_shares_add_up() -> None:
    assert shares(10, [1, 1, 1]) == [4, 3, 3]
    assert shares(3, [1e9, 1.0]) == [3, 0]
    assert shares(7, [0.1, 0.2, 0.3, 0.4]) == [1, 1, 2, 3]


def test_an_order_of_millions_is_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = on_rank(monkeypatch, 8, 3, samples=2_700_000, items=[2_000_000, 700_000], batch_size=128)
    tracemalloc.start()
    iterator = iter(sampler)
    first = [next(iterator) for _ in range(4)]
    assert tracemalloc.get_traced_memory()[1] < 2**20  # tensors, not millions of Python objects
    tracemalloc.stop()
    assert all(epoch == 0 and isinstance(sample, int) for epoch, sample in first)


def test_state_resumes_in_the_middle_at_the_last_batch_and_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def loader() -> ResumableLoader:
        sampler = on_rank(monkeypatch, 1, 0)
        return ResumableLoader(Pairs(), sampler, 4)

    def batches(source: ResumableLoader) -> list[list[int]]:
        return [batch[1].tolist() for batch in source]

    reference = loader()
    full = []
    for epoch in (0, 1):
        reference.sampler.set_epoch(epoch)
        full += batches(reference)
    for stop in range(1, 6):
        first = loader()
        iterator = iter(first)
        seen = [next(iterator)[1].tolist() for _ in range(stop)]
        state = first.state_dict()
        assert state == ({"epoch": 1, "samples": 0} if stop == 5 else {"epoch": 0, "samples": 4 * stop})
        second = loader()
        second.load_state_dict(state)
        second.sampler.set_epoch(state["epoch"])
        rest = batches(second)
        second.sampler.set_epoch(state["epoch"] + 1)
        assert (seen + rest + batches(second))[:10] == full


def test_a_new_epoch_forgets_where_an_old_one_was_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = on_rank(monkeypatch, 1, 0)
    loader = ResumableLoader(Pairs(), sampler, 4)
    loader.load_state_dict({"epoch": 0, "samples": 8})  # saved with limit_train_batches=2
    sampler.set_epoch(1)
    assert len(list(loader)) == 5


def test_validation_never_changes_and_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = FixedEpochSampler([3])
    sampler.set_epoch(3)
    assert list(sampler) == [(0, 0), (0, 1), (0, 2)]
    monkeypatch.setattr(loading, "_world", lambda: (2, 1))
    assert list(FixedEpochSampler([3])) == [(0, 1), (0, 0)]


def test_an_epoch_shorter_than_a_batch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="An epoch has 7 samples but a training step takes 8"):
        on_rank(monkeypatch, 2, 1, samples=7)
