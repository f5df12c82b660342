"""Points on a cluster of dask workers, which see the sweep's folder under the same path."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from moesim.config.errors import InputError, Problem
from moesim.results.provenance import code_digest
from moesim.sweep.point import Batch, Point, Work, failure, reason_of
from moesim.sweep.queue import Queue

TIMEOUT_S = 20
DIED = "its dask worker died each time that it was tried: memory that did not suffice, or a crash"


@dataclass(frozen=True)
class DaskCluster:
    """An executor on the cluster whose scheduler is at ``address``; None: ``jobs`` workers on this
    machine, for as long as the sweep runs, which take work from this process alone.

    Raises an InputError where no scheduler answers, no worker is there, or one has another moesim.
    """

    address: str | None
    jobs: int = 1

    def __call__(self, points: Sequence[Point], work: Work) -> Generator[Batch]:
        """Do ``work`` on ``points`` and yield those that are finished."""
        with self._client() as client:
            threads = self._threads(client)
            # no more than run: a batch that only waits would be blamed for its worker's death
            yield from _drain(client, Queue(points, threads), work, threads)

    @contextmanager
    def _client(self) -> Iterator[Any]:
        try:
            from distributed import Client, LocalCluster
        except ImportError as error:
            what = "needs the package 'distributed'; install moesim[dask]"
            raise InputError([Problem("--executor dask", "", what)]) from error
        if self.address is None:
            security = _own_credential()
            with without_ctrl_c():
                local = LocalCluster(
                    protocol="tls://",
                    security=security,
                    n_workers=self.jobs,
                    threads_per_worker=1,
                    dashboard_address=None,
                    silence_logs=logging.CRITICAL,
                )
            with local, Client(local, set_as_default=False) as client:
                yield client
            return
        try:
            client = Client(self.address, timeout=TIMEOUT_S, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            what = (
                f"no scheduler answers at '{self.address}' ({error}); name one as tcp://HOST:PORT"
            )
            raise InputError([Problem("--dask-address", "", what)]) from error
        with client:
            yield client

    def _threads(self, client: Any) -> int:
        """The threads of the cluster; workers elsewhere must have this moesim."""
        threads: dict[str, int] = client.nthreads()
        if self.address is None:
            return sum(threads.values())
        if not threads:
            what = f"the scheduler at '{self.address}' has no workers; start some first"
            raise InputError([Problem("--dask-address", "", what)])
        digests: dict[str, Any] = client.run(code_digest, on_error="return")
        for worker, digest in digests.items():
            if digest != code_digest():
                has = "no" if isinstance(digest, ImportError) else "another"
                what = f"the worker at {worker} has {has} moesim, or other packages below it"
                raise InputError([Problem("--dask-address", "", f"{what}; install the same")])
        return sum(threads.values())


def _own_credential() -> Any:
    """What only this process and the workers that it starts know: a dask scheduler runs whatever
    it is sent, and every user of the machine reaches its port.
    """
    from distributed import Security

    try:
        return Security.temporary()
    except ImportError as error:
        what = "needs the package 'cryptography'; install moesim[dask]"
        raise InputError([Problem("--executor dask", "", what)]) from error


@contextmanager
def without_ctrl_c() -> Iterator[None]:
    """Processes that start inside do not hear ctrl-C: this one ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _drain(client: Any, queue: Queue, work: Work, most: int) -> Generator[Batch]:
    """Keep ``most`` batches of ``queue`` on the cluster until all are done."""
    from distributed import as_completed

    given: dict[Any, tuple[Point, ...]] = {}
    completed = as_completed(loop=client.loop)
    try:
        while queue or given:
            while queue and len(given) < most:
                points = queue.take()
                future = client.submit(work, points, pure=False)
                given[future] = points
                completed.add(future)
            future = next(completed)
            yield from _batch(future, given.pop(future), queue)
    finally:
        client.cancel(list(given))


def _batch(future: Any, points: tuple[Point, ...], queue: Queue) -> Iterator[Batch]:
    """What ``future`` gave; several points whose worker died are tried again alone."""
    error = future.exception()
    if error is None:
        batch: Batch = future.result()
        queue.learn(batch)
        yield batch
    elif isinstance(error, InputError):
        raise error
    elif len(points) > 1:
        queue.suspect(points)
    else:
        from distributed import KilledWorker

        reason = DIED if isinstance(error, KilledWorker) else reason_of(error)
        yield Batch([failure(points[0].number, reason)], 0.0)
