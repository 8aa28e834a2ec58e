"""Ray, where it is installed: the cluster that runs, or one started on this machine."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vfusion3d.errors import MissingExtraError, UsageError


def import_ray(module: str = "ray") -> Any:
    """A module of Ray.

    Raises:
        MissingExtraError: if Ray, or a package that the module needs, is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f'The executor ray needs the package `{error.name or "ray"}`; install it by: pip install "vfusion3d[ray]".'
        ) from error


@contextmanager
def ray_session() -> Iterator[Any]:
    """Ray, connected; disconnected at the end unless it was connected before.

    A running cluster is used where Ray finds one (``RAY_ADDRESS``, or ``ray start`` on this machine), else this
    machine.

    Raises:
        MissingExtraError: if Ray is not installed.
        UsageError: if it does not start.
    """
    ray = import_ray()
    ours = not ray.is_initialized()
    if ours:
        try:
            ray.init(log_to_driver=False, logging_level=logging.WARNING, include_dashboard=False)
        except Exception as error:  # Ray raises plain exceptions too
            reason = " ".join(str(error).split()).rstrip(".")
            raise UsageError(
                f"Ray did not start ({reason}); start it by `ray start --head` first, or check RAY_ADDRESS."
            ) from error
    try:
        yield ray
    finally:
        if ours:
            ray.shutdown()
