"""Commands that make one folder of results for each picture: one bad picture does not stop the others."""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vfusion3d.errors import VFusion3DError


def each_picture(args: Any, load_seconds: float, make: Callable[[str, Path], dict[str, Any]]) -> int:
    """Make the results of all pictures and say what came of them.

    Args:
        args: Options ``images``, ``output`` and ``json`` of the command.
        load_seconds: How long loading the model took.
        make: Writes a picture's folder, all or nothing, and returns its report with at least ``files``, ``seconds`` and
            ``warnings``.

    Returns:
        0, or 2 if a picture failed (the others are there).

    Raises:
        OutputError: if nothing can be written.
    """
    from vfusion3d.outputs import make_folder, say

    was_there = Path(args.output).exists()
    output = make_folder(args.output)
    reports: list[dict[str, Any]] = []
    failures: list[dict[str, str]] = []
    try:
        for picture, name in zip(args.images, folder_names(args.images), strict=True):
            try:
                report = make(picture, output / name)
            except VFusion3DError as error:
                sentence = str(error) if str(picture) in str(error) else f"Picture '{picture}': {error}"
                failures.append({"picture": str(picture), "error": sentence})
                continue
            reports.append(report)
            for warning in report["warnings"]:
                print(warning, file=sys.stderr)
            if not args.json:
                say(f"{output / name}: {' '.join(report['files'])} ({sum(report['seconds'].values()):.1f} s)")
    finally:
        if not reports and not was_there:
            with suppress(OSError):  # not empty after all
                output.rmdir()
    if args.json:
        document = {"load_seconds": round(load_seconds, 3), "results": reports, "failures": failures}
        say(json.dumps(document, indent=2))
    for failure in failures:
        print(failure["error"], file=sys.stderr)
    return 2 if failures else 0


def folder_names(pictures: Sequence[str]) -> list[str]:
    """A folder name per picture: its stem, numbered where stems repeat (also on disks that ignore case)."""
    names: list[str] = []
    taken: set[str] = set()
    for picture in pictures:
        stem = Path(picture).stem.lstrip(".") or "picture"
        name, number = stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


@contextmanager
def timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    """Write down how many seconds a step took."""
    started = time.perf_counter()
    yield
    seconds[step] = round(time.perf_counter() - started, 3)


@contextmanager
def progress_bar(title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar with the time left on standard error, as a progress callback."""
    from tqdm import tqdm

    with tqdm(desc=title, unit=unit, leave=False, file=sys.stderr) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress


def versions() -> dict[str, str]:
    """Of what a result depends on, for its report."""
    import numpy
    import torch

    from vfusion3d import __version__

    return {
        "vfusion3d": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }
