"""Work that may hang or crash, spread over a Ray cluster."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable
from typing import Any

from vfusion3d.meshes.workers import Outcome, call_within, check_limits
from vfusion3d.ray_session import import_ray, ray_session


class RayPool:
    """Maps a function over items as Ray tasks; used like `WorkerPool`.

    Each task hands its item to a child process of its Ray worker, where the same time limit holds as on one machine;
    Ray repeats the tasks of nodes that are lost. The nodes need this library and must see the same files. A running
    cluster is used where Ray finds one (``RAY_ADDRESS``, or ``ray start`` on this machine), else this machine.

    Args:
        function: Called as ``function(item)``; it, the items and the results are pickled.
        workers: Largest number of tasks at a time, or None for one per processor core of the cluster.
        timeout: Seconds an item may take.

    Raises:
        MissingExtraError: if Ray is not installed.
        UsageError: naming the argument.
    """

    def __init__(self, function: Callable[[Any], Any], workers: int | None, timeout: float) -> None:
        check_limits(workers, timeout)
        import_ray()
        self.function = function
        self.workers = workers
        self.timeout = timeout

    def map_unordered(self, items: Iterable[Any]) -> Generator[Outcome, None, None]:
        """Yield an `Outcome` per item, in the order they finish; closing the iterator cancels the others.

        Raises:
            UsageError: if Ray does not start.
        """
        with ray_session() as ray:
            limit = self.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
            task = ray.remote(num_cpus=1, max_retries=2)(call_within)
            waiting = iter(items)
            running: dict[Any, Any] = {}
            try:
                while True:
                    for item in itertools.islice(waiting, limit - len(running)):
                        running[task.remote(self.function, item, self.timeout)] = item
                    if not running:
                        return
                    (done,), _ = ray.wait(list(running), num_returns=1)
                    item = running.pop(done)
                    try:
                        yield ray.get(done)
                    except ray.exceptions.RayError as error:
                        reason = " ".join(str(error).split())
                        yield Outcome(
                            item, error=f"{item}: Ray could not finish the task ({type(error).__name__}: {reason})."
                        )
            finally:
                for reference in running:
                    ray.cancel(reference, force=True)
