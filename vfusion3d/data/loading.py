"""Loaders whose order is a function of (seed, epoch), whatever the processes and workers, and that resume exactly."""

from __future__ import annotations

from collections.abc import Iterator
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

    Args:
        samples: Samples per epoch, over all processes.
        items: Things the samples are drawn from; sample ``s`` shows item ``s % items``, and an order visits each
            item once before it visits one again.
        batch_size: Samples per step and process, those of accumulated batches together.
        seed: The run's seed.
        shuffle: Whether the order is random.

    Raises:
        UsageError: if an epoch is shorter than one batch of all processes.
    """

    def __init__(self, samples: int, items: int, batch_size: int, seed: int, shuffle: bool) -> None:
        self.num_replicas, self.rank = _world()
        step = batch_size * self.num_replicas
        if samples < step:
            raise UsageError(
                f"An epoch has {samples} samples but a training step takes {step} "
                f"({batch_size} on each of {self.num_replicas} processes); lower `batch_size` or add samples."
            )
        self.samples, self.items, self.seed, self.shuffle = samples // step * step, items, seed, shuffle
        self.epoch = 0
        self.skip = 0  # samples over all processes that a resumed epoch has seen

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch; a new epoch starts at its beginning."""
        if epoch != self.epoch:
            self.epoch, self.skip = epoch, 0

    def order(self) -> torch.Tensor:
        """The samples of the epoch over all processes, int64."""
        if not self.shuffle:
            return torch.arange(self.samples)
        passes = [
            torch.randperm(self.items, generator=sample_generator(self.seed, k, self.epoch, _ORDER_STREAM))
            + k * self.items
            for k in range(-(-self.samples // self.items))
        ]
        return torch.cat(passes)[: self.samples]

    def __iter__(self) -> Iterator[tuple[int, int]]:  # type: ignore[override]
        mine = self.order()[self.skip + self.rank :: self.num_replicas]
        return iter([(self.epoch, sample) for sample in mine.tolist()])

    def __len__(self) -> int:
        return self.samples // self.num_replicas


class FixedEpochSampler(EpochSampler):
    """Yields ``(0, sample)`` pairs in order, in every epoch: for validation.

    Nothing is cut off; with several processes some samples come twice, so that all take as many steps.

    Args:
        samples: Number of samples.
    """

    def __init__(self, samples: int) -> None:
        self.num_replicas, self.rank = _world()
        self.items, self.samples = samples, -(-samples // self.num_replicas) * self.num_replicas
        self.epoch = self.skip = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning announces epochs; validation data do not change."""

    def order(self) -> torch.Tensor:
        """The samples over all processes, int64."""
        return torch.arange(self.samples) % self.items


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
