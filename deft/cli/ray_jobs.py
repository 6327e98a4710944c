"""The work of a conversion in processes of a Ray cluster."""

import contextlib
import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

from deft.errors import DeftError, StoreError, need


@contextlib.contextmanager
def cluster(workers: int) -> Generator[Any]:
    """Ray, connected to `$RAY_ADDRESS` or to a cluster of this machine that ends with us.

    Raises:
        MissingPackageError: Ray is not installed.
    """
    ray = need("ray", "ray")
    is_ours = not ray.is_initialized()
    if is_ours:
        settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if not os.environ.get("RAY_ADDRESS"):
            settings |= {"num_cpus": workers, "include_dashboard": False}
        ray.init(**settings)
    try:
        yield ray
    finally:
        if is_ours:
            ray.shutdown()


@dataclass(frozen=True)
class RayEngine:
    """Satisfies `store.Engine`; every task is one episode."""

    ray: Any
    text: str
    """Of the conversion."""
    workers: int

    def __call__(
        self, _one: Callable[[int], tuple[int, int]], numbers: Sequence[int], /
    ) -> Generator[tuple[int, "tuple[int, int] | DeftError"]]:
        from deft.cli import convert_sink

        ray = self.ray
        # A task that died with its process is tried again; its episode was never kept.
        task = ray.remote(num_cpus=1, max_retries=3)(convert_sink.work)
        text = ray.put(self.text)
        waiting = iter(numbers)
        running: dict[Any, int] = {}
        try:
            while True:
                for number in waiting:
                    running[task.remote(text, number)] = number
                    if len(running) >= 2 * self.workers:
                        break
                if not running:
                    return
                done, _ = ray.wait(list(running))
                for reference in done:
                    yield running.pop(reference), _outcome(ray, reference)
        finally:
            for reference in running:
                ray.cancel(reference)


def _outcome(ray: Any, reference: Any) -> "tuple[int, int] | DeftError":
    try:
        found = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        raise (cause if isinstance(cause, DeftError) else error) from error
    except ray.exceptions.RayError as error:
        raise StoreError(
            f"A process of the cluster was lost.\nFound: {type(error).__name__}: {error}.\n"
            "Fix: look at the cluster's logs, then run the same command again; it goes on from "
            "here."
        ) from error
    return StoreError(found) if isinstance(found, str) else found
