"""Randomness as a function of (seed, sample index, epoch), the same in every process and on every device.

That is what makes two processes equal one, two workers equal none, and a resumed run equal an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15  # splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014
_MIX1 = 0xBF58476D1CE4E5B9
_MIX2 = 0x94D049BB133111EB
_MASK = (1 << 64) - 1


def _signed(number: int) -> int:
    """The 64-bit pattern of a number as torch's int64 holds it."""
    number &= _MASK
    return number - (1 << 64) if number >> 63 else number


def _mix_number(number: int) -> int:
    """splitmix64's finaliser on an unsigned Python integer."""
    number = (number ^ (number >> 30)) * _MIX1 & _MASK
    number = (number ^ (number >> 27)) * _MIX2 & _MASK
    return number ^ (number >> 31)


def _mix(bits: Tensor) -> Tensor:
    """splitmix64's finaliser on int64 bit patterns (torch's products wrap, its right shift keeps the sign)."""
    bits = (bits ^ ((bits >> 30) & ((1 << 34) - 1))) * _signed(_MIX1)
    bits = (bits ^ ((bits >> 27) & ((1 << 37) - 1))) * _signed(_MIX2)
    return bits ^ ((bits >> 31) & ((1 << 33) - 1))


def sample_seed(seed: int, sample: int, epoch: int, stream: int = 0) -> int:
    """A 63-bit seed for one sample in one epoch.

    Args:
        seed: The run's seed.
        sample: Index of the sample.
        epoch: Number of the epoch.
        stream: What the randomness is for; different streams are independent.
    """
    state = 0
    for word in (seed, sample, epoch, stream):
        state = _mix_number((state + word + _GOLDEN) & _MASK)
    return state >> 1


def sample_generator(seed: int, sample: int, epoch: int, stream: int = 0) -> torch.Generator:
    """A CPU generator for one sample in one epoch (arguments as `sample_seed`).

    Example:
        >>> first = torch.rand((), generator=sample_generator(seed=0, sample=5, epoch=1))
        >>> again = torch.rand((), generator=sample_generator(seed=0, sample=5, epoch=1))
        >>> bool(first == again)
        True
    """
    return torch.Generator().manual_seed(sample_seed(seed, sample, epoch, stream))


def unit_noise(seed: int, samples: Tensor, epochs: Tensor, count: int, stream: int = 0) -> Tensor:
    """Uniform numbers in [0, 1) from a counter-based hash, identical on every device and batch size.

    Args:
        seed: The run's seed.
        samples: Sample indices, int64, ``[B]``.
        epochs: Epoch numbers, int64, ``[B]``.
        count: Numbers per sample.
        stream: What the randomness is for; different streams are independent.

    Returns:
        ``[B, count]`` float32 on the samples' device, multiples of 2^-24.

    Example:
        >>> noise = unit_noise(0, torch.tensor([3, 4]), torch.tensor([0, 0]), count=2)
        >>> bool((noise[1:] == unit_noise(0, torch.tensor([4]), torch.tensor([0]), count=2)).all())
        True
    """
    golden = _signed(_GOLDEN)
    state = _mix(_signed(_mix_number((seed + _GOLDEN) & _MASK)) + samples.long() + golden)
    state = _mix(state + epochs.to(samples.device).long() + golden)
    state = _mix(state + stream + golden)
    counter = torch.arange(1, count + 1, device=samples.device, dtype=torch.int64)
    bits = _mix(state[:, None] + counter * golden)
    return ((bits >> 40) & ((1 << 24) - 1)).to(torch.float32) * 2.0**-24


def hash_order(names: Iterable[object], seed: int = 0) -> np.ndarray:
    """Positions of names in a random order in which each name's place depends on that name alone.

    So, of some names, the first N are among the first M > N; and of a part of the names, those that come first are
    the same ones as far as they are in it.

    Args:
        names: Anything whose ``str`` is a name.
        seed: Which order.

    Example:
        >>> names = ["mug", "car", "owl"]
        >>> again = [names[k] for k in hash_order(reversed(names))]
        >>> sorted(again) == sorted(names)
        True
    """
    salt = seed.to_bytes(8, "little", signed=True)
    hashes = (blake2b(str(name).encode(), digest_size=8, salt=salt).digest() for name in names)
    numbers = np.fromiter((int.from_bytes(digest, "little") for digest in hashes), np.uint64)  # no list of millions
    return np.argsort(numbers, kind="stable")
