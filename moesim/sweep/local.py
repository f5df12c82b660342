"""Points in processes of this machine: each imports once, keeps its trace, dies with its parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path

from moesim.config.errors import InputError
from moesim.experiment.loading.once import read_once
from moesim.runtime.garbage import collect_seldom
from moesim.sweep.lock import hold_shared
from moesim.sweep.point import Batch, Point, Work, failure
from moesim.sweep.queue import Queue

STARTED = "started"
NOT_STARTED = (
    "a process of the sweep ended while it started; its message stands above "
    "(in a script, call moesim under `if __name__ == '__main__':`, or with jobs=1)"
)


@dataclass
class Worker:
    """One process, the pipe to it, and the points that it is busy with."""

    process: SpawnProcess
    pipe: Connection
    points: tuple[Point, ...] = ()
    started: bool = False

    def give(self, points: tuple[Point, ...]) -> None:
        """Let the process begin with ``points``; one that has died is noticed by ``wait``."""
        self.points = points
        try:
            self.pipe.send(points)
        except OSError:
            return

    def stop(self) -> None:
        """End the process at once, whatever it does: an unfinished point counts for nothing."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


@dataclass(frozen=True)
class LocalProcesses:
    """An executor of ``jobs`` spawned processes (no fork: numba and BLAS have threads).

    The parent only hands out points and takes lines of the log. A process that dies (the kernel's
    out-of-memory killer, a crash) fails the point that it was busy with and is replaced.
    """

    jobs: int
    lock: Path

    def __call__(self, points: Sequence[Point], work: Work) -> Generator[Batch]:
        """Do ``work`` on ``points`` and yield those that are finished."""
        workers: list[Worker] = []
        try:
            workers += [self._start(work) for _ in range(min(self.jobs, len(points)))]
            queue = Queue(points, len(workers))
            for worker in workers:
                worker.give(queue.take())
            while busy := [worker for worker in workers if worker.points]:
                pipes = wait([worker.pipe for worker in busy])
                for worker in [worker for worker in busy if worker.pipe in pipes]:
                    batch = self._listen(worker, queue, work)
                    if queue and not worker.points:
                        worker.give(queue.take())
                    if batch is not None:
                        yield batch
        finally:
            for worker in workers:
                worker.stop()

    def _start(self, work: Work) -> Worker:
        context: SpawnContext = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, work, self.lock), daemon=True)
        with deaf_to_ctrl_c():
            process.start()
        theirs.close()
        return Worker(process, ours)

    def _listen(self, worker: Worker, queue: Queue, work: Work) -> Batch | None:
        """What ``worker`` has finished or died of; None where it has just started, or died of one
        point among several.
        """
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            return self._replace(worker, queue, work)
        if message == STARTED:
            worker.started = True
            return None
        worker.points = ()
        if isinstance(message, InputError):
            raise message
        batch: Batch = message
        queue.learn(batch)
        return batch

    def _replace(self, worker: Worker, queue: Queue, work: Work) -> Batch | None:
        worker.stop()
        if not worker.started:
            raise RuntimeError(NOT_STARTED) from None
        points, exitcode = worker.points, worker.process.exitcode
        fresh = self._start(work)
        worker.process, worker.pipe, worker.started = fresh.process, fresh.pipe, False
        worker.points = ()
        if len(points) > 1:
            queue.suspect(points)
            return None
        return Batch([failure(points[0].number, died(exitcode))], 0.0)


@contextmanager
def deaf_to_ctrl_c() -> Iterator[None]:
    """Processes that start inside never hear ctrl-C, this one hears it at the end: it ends them."""
    resource_tracker.ensure_running()  # its own start lets ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def died(exitcode: int | None) -> str:
    """Why a point has no result whose process has ended with ``exitcode``."""
    if exitcode == -signal.SIGKILL:
        return "its process was killed (signal 9): most likely the machine's memory did not suffice"
    return f"its process ended without a result (exit code {exitcode})"


def serve(pipe: Connection, work: Work, lock: Path) -> None:
    """A process's life: ``work`` on the points that come through ``pipe`` until it closes."""
    collect_seldom()
    threading.Thread(target=die_with_parent, daemon=True).start()
    with read_once(), hold_shared(lock), suppress(EOFError, ConnectionError):
        pipe.send(STARTED)
        while True:
            points = pipe.recv()
            try:
                message: Batch | InputError = work(points)
            except InputError as error:
                message = error
            pipe.send(message)


def die_with_parent() -> None:
    """Leave as soon as the parent is gone, however it ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
