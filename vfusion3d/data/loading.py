"""Loaders whose order is a function of (seed, epoch), whatever the processes and workers, and that resume exactly."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import torch
import torch.distributed
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from vfusion3d.data.randomness import sample_generator
from vfusion3d.errors import UsageError

_ORDER_STREAM = 7


def _world() -> tuple[int, int]:
    """Number of processes and this one's rank."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size(), torch.distributed.get_rank()
    return 1, 0


class EpochSampler(DistributedSampler[tuple[int, int]]):
    """Yields ``(epoch, sample)`` pairs of this process, cut to whole training steps.

    A dataset is told the epoch with each index, so persistent workers need not be told when one ends. It is a
    `DistributedSampler` because Lightning would shard any other sampler a second time.

    Samples come from one or more sources: sample ``s`` of K sources shows, of source ``s % K`` with N items, item
    ``s // K % N``. Each source's items all come once before one comes again, and sources are evenly interleaved, each
    with its exact share of the epoch.

    Args:
        samples: Samples per epoch, over all processes.
        items: Number of things in each source.
        batch_size: Samples per step and process, those of accumulated batches together.
        seed: The run's seed.
        shuffle: Whether the order is random.
        weights: Share of each source in the samples, in any unit; by default its share of the items.

    Raises:
        UsageError: if an epoch is shorter than one batch of all processes.
    """

    def __init__(
        self,
        samples: int,
        items: Sequence[int],
        batch_size: int,
        seed: int,
        shuffle: bool,
        weights: Sequence[float] | None = None,
    ) -> None:
        self.num_replicas, self.rank = _world()
        step = batch_size * self.num_replicas
        if samples < step:
            raise UsageError(
                f"An epoch has {samples} samples but a training step takes {step} "
                f"({batch_size} on each of {self.num_replicas} processes); lower `batch_size` or add samples."
            )
        self.samples, self.items, self.seed, self.shuffle = samples // step * step, tuple(items), seed, shuffle
        self.shares = shares(samples, items if weights is None else weights)
        self.epoch = 0
        self.skip = 0  # samples over all processes that a resumed epoch has seen

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch; a new epoch starts at its beginning."""
        if epoch != self.epoch:
            self.epoch, self.skip = epoch, 0

    def order(self) -> torch.Tensor:
        """The samples of the epoch over all processes, int64."""
        sources = [self._order_of(source) for source in range(len(self.items))]
        if len(sources) == 1:
            return sources[0][: self.samples]
        # Sample j of a source's n belongs at (j + 1/2) / n of the epoch.
        places = [(torch.arange(n, dtype=torch.float64) + 0.5) / n for n in self.shares if n]
        return torch.cat(sources)[torch.cat(places).argsort(stable=True)][: self.samples]

    def _order_of(self, source: int) -> torch.Tensor:
        """A source's samples in their order."""
        count, samples, sources = self.items[source], self.shares[source], len(self.items)
        if not self.shuffle:
            return torch.arange(samples) * sources + source
        order = torch.empty(samples, dtype=torch.int64)
        for turn, start in enumerate(range(0, samples, count)):
            generator = sample_generator(self.seed, turn * sources + source, self.epoch, _ORDER_STREAM)
            turns = torch.randperm(count, generator=generator)[: samples - start] + start
            order[start : start + count] = turns * sources + source
        return order

    def __iter__(self) -> Iterator[tuple[int, int]]:  # type: ignore[override]
        epoch, mine = self.epoch, self.order()[self.skip + self.rank :: self.num_replicas].numpy()
        return ((epoch, int(sample)) for sample in mine)

    def __len__(self) -> int:
        return self.samples // self.num_replicas


class FixedEpochSampler(EpochSampler):
    """Yields ``(0, sample)`` pairs in order, in every epoch: for validation.

    Nothing is cut off; with several processes some samples come twice, so that all take as many steps.

    Args:
        items: Number of things in each source; each comes once.
    """

    def __init__(self, items: Sequence[int]) -> None:
        self.num_replicas, self.rank = _world()
        self.items, self.samples = tuple(items), -(-sum(items) // self.num_replicas) * self.num_replicas
        self.epoch = self.skip = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning announces epochs; validation data do not change."""

    def order(self) -> torch.Tensor:
        """The samples over all processes, int64."""
        sources = [torch.arange(n) * len(self.items) + source for source, n in enumerate(self.items)]
        return torch.cat(sources)[torch.arange(self.samples) % sum(self.items)]


def shares(total: int, weights: Sequence[float]) -> list[int]:
    """Whole numbers in given proportions that add up to a total, by the method of largest remainders.

    Example:
        >>> shares(10, [2.0, 1.0, 1.0])
        [5, 3, 2]
    """
    exact = [total * Fraction(weight) / sum(map(Fraction, weights)) for weight in weights]
    whole = [math.floor(number) for number in exact]
    by_remainder = sorted(range(len(exact)), key=lambda k: (whole[k] - exact[k], k))
    for k in by_remainder[: total - sum(whole)]:
        whole[k] += 1
    return whole


def _outlive_sigterm(worker: int) -> None:
    """A signal to the whole process group ends training after a step, which needs the workers until then."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class ResumableLoader(DataLoader[Any]):
    """A `DataLoader` over an `EpochSampler` that knows how far into which epoch it is.

    Lightning saves ``state_dict`` with a checkpoint and gives it back before the first batch. Samples are counted
    over all processes, so a run may resume on another number of them.
    """

    sampler: EpochSampler

    def __init__(self, dataset: Dataset[Any], sampler: EpochSampler, batch_size: int, num_workers: int = 0) -> None:
        super().__init__(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            drop_last=True,
            worker_init_fn=_outlive_sigterm,
        )
        self._received = 0

    def __iter__(self) -> Any:
        self._received = self.sampler.skip
        step = (self.batch_size or 1) * self.sampler.num_replicas
        for batch in super().__iter__():
            self._received += step
            self.sampler.skip = 0
            yield batch

    def state_dict(self) -> dict[str, int]:
        """The epoch and how many of its samples have been received; a finished epoch is the start of the next."""
        if self._received >= self.sampler.samples:
            return {"epoch": self.sampler.epoch + 1, "samples": 0}
        return {"epoch": self.sampler.epoch, "samples": self._received}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Start where ``state`` was taken."""
        self.sampler.epoch = state["epoch"]
        self.sampler.skip = state["samples"]
