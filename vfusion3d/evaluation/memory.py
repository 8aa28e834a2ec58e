"""Too little memory is this machine's fault and no failure of a method on an object: it ends the run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vfusion3d.errors import UsageError

_SAID_BY_TORCH = ("can't allocate memory", "not enough memory", "out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python or torch says that memory ran out; torch has no type for that of a processor."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _SAID_BY_TORCH)


@contextmanager
def memory_errors(device: object) -> Iterator[None]:
    """Say in a sentence that memory ran out.

    Args:
        device: Where it did.

    Raises:
        UsageError: instead of the error that said so.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        said = " ".join(str(error).split()) or "MemoryError"
        raise UsageError(f"The memory of {device} is too small for this run ({said}).") from error
