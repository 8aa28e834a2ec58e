"""Work that may hang or crash, done in long-lived child processes that are replaced when it does."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from vfusion3d.errors import UsageError, VFusion3DError

_START_SECONDS = 300.0  # a worker that has not imported its libraries after this time never will


@dataclass(frozen=True)
class Outcome:
    """What became of one item.

    Args:
        item: The item.
        value: What the function returned, or None after a failure.
        error: One sentence about the failure, or None.
        seconds: Wall-clock seconds it took.
        exception: The library's exception behind ``error``, or None for crashes, time limits and bugs.
    """

    item: Any
    value: Any = None
    error: str | None = None
    seconds: float = 0.0
    exception: VFusion3DError | None = None


class WorkerPool:
    """Maps a function over items in child processes, one item at a time in each.

    A worker that crashes or exceeds the time limit is killed and replaced, and its item reported as failed;
    the other items go on.

    Args:
        function: Called as ``function(item)``; it, the items and the results are pickled.
        workers: Largest number of child processes.
        timeout: Seconds an item may take.

    Raises:
        UsageError: naming the argument.
    """

    def __init__(self, function: Callable[[Any], Any], workers: int, timeout: float) -> None:
        check_limits(workers, timeout)
        self.function = function
        self.workers = workers
        self.timeout = timeout

    def map_unordered(self, items: Iterable[Any]) -> Generator[Outcome, None, None]:
        """Yield an `Outcome` per item, in the order they finish; closing the iterator ends the workers.

        Raises:
            RuntimeError: if a worker cannot even start.
        """
        waiting = deque(items)
        workers: list[_Worker] = []
        try:
            while waiting or any(worker.busy for worker in workers):
                for _ in range(min(self.workers - len(workers), len(waiting) - sum(not w.busy for w in workers))):
                    workers.append(_Worker(self.function))
                for worker in workers:
                    if worker.idle and waiting:
                        worker.give(waiting.popleft())
                yield from _listen(workers, self.timeout)
                workers = [worker for worker in workers if not worker.dead]
        finally:
            for worker in workers:
                worker.kill()


def check_limits(workers: int | None, timeout: float) -> None:
    """Check the arguments that all pools have; None leaves the number of workers to the pool.

    Raises:
        UsageError: naming the argument.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"Argument `workers` must be at least 1, but got {workers}.")
    if not timeout > 0:
        raise UsageError(f"Argument `timeout` must be positive, but got {timeout}.")


_kept: dict[Callable[[Any], Any], _Worker] = {}


def call_within(function: Callable[[Any], Any], item: Any, timeout: float) -> Outcome:
    """Call a function in a child process of this one, which is kept for the next call unless it crashes or hangs.

    Args:
        function: Called as ``function(item)``; all is pickled.
        item: The item.
        timeout: Seconds it may take.

    Raises:
        RuntimeError: if the child process cannot even start.
    """
    worker = _kept.pop(function, None) or _Worker(function)
    outcomes: list[Outcome] = []
    while not outcomes:
        if worker.dead:
            worker = _Worker(function)
        if worker.idle:
            worker.give(item)
        outcomes = list(_listen([worker], timeout))
    if not worker.dead:
        _kept[function] = worker
    return outcomes[0]


def _listen(workers: list[_Worker], timeout: float) -> Iterator[Outcome]:
    """Wait until a worker says something or is late; yields the outcomes and leaves late workers dead."""
    limits = {worker: timeout if worker.busy else _START_SECONDS for worker in workers}
    deadline = min(worker.since + limit for worker, limit in limits.items() if not worker.idle)
    heard = wait([worker.pipe for worker in workers], timeout=max(0.0, deadline - time.monotonic()))
    for worker, limit in limits.items():
        if worker.pipe in heard:
            outcome = worker.receive()
        elif not worker.idle and time.monotonic() > worker.since + limit:
            outcome = worker.fail(f"it took longer than {limit:g} seconds")
        else:
            continue
        if outcome is not None:
            yield outcome


class _Worker:
    """One child process: starting (neither idle nor busy), idle, busy or dead."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        # A forked child would inherit threads and graphics contexts in whatever state they are.
        context = multiprocessing.get_context("spawn")
        self.pipe, child = context.Pipe()
        self.process = context.Process(target=_serve, args=(function, child), daemon=True)
        self.process.start()
        child.close()
        self.since = time.monotonic()
        self.idle = self.busy = self.dead = False
        self.item: Any = None

    def give(self, item: Any) -> None:
        self.item, self.busy, self.idle, self.since = item, True, False, time.monotonic()
        with contextlib.suppress(OSError):  # it died since: receive() will find out
            self.pipe.send(item)

    def receive(self) -> Outcome | None:
        """Read one message; a closed pipe means that the process died."""
        try:
            kind, content = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(5.0)
            return self.fail(f"the worker process crashed (exit code {self.process.exitcode})")
        if kind == "ready":
            self.idle = True
            return None
        self.idle, self.busy = True, False
        seconds = time.monotonic() - self.since
        if kind == "failed":
            return Outcome(self.item, error=str(content), seconds=seconds, exception=content)
        if kind == "bug":
            return Outcome(self.item, error=content, seconds=seconds)
        return Outcome(self.item, value=content, seconds=seconds)

    def fail(self, reason: str) -> Outcome | None:
        """Kill the process and blame its item."""
        self.kill()
        if self.busy:
            self.busy = False
            return Outcome(self.item, error=f"{self.item}: {reason}.", seconds=time.monotonic() - self.since)
        if self.idle:  # nothing was lost; a new worker takes its place
            return None
        raise RuntimeError(f"A worker process could not start: {reason}.")

    def kill(self) -> None:
        self.dead = True
        assert self.process.pid  # it was started; 0 would mean this process's own group
        try:
            os.killpg(self.process.pid, signal.SIGKILL)  # with what it started, such as Blender
        except (AttributeError, OSError):  # Windows, or it has no group of its own yet
            self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(function: Callable[[Any], Any], pipe: Connection) -> None:
    """The child's loop: answer every item until the parent closes the pipe."""
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business; it kills the workers
    os.dup2(2, 1)  # standard output belongs to the parent's result
    pipe.send(("ready", None))
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        try:
            answer = ("done", function(item))
        except VFusion3DError as error:
            answer = ("failed", error)
        except Exception as error:  # one broken item must not stop the others
            answer = ("bug", f"{item}: {type(error).__name__}: {error}")
        with contextlib.suppress(BrokenPipeError):  # the parent is gone, and recv() will say so
            pipe.send(answer)
