"""Points in processes of this machine: each imports once, keeps its trace, dies with its parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path

from moesim.sweep.lock import hold_shared
from moesim.sweep.point import Evaluate, Point, evaluate_point, write_failure

STARTED = "started"
NOT_STARTED = (
    "a process of the sweep ended while it started; its message stands above "
    "(in a script, call run_sweep under `if __name__ == '__main__':`)"
)


@dataclass
class Worker:
    """One process, the pipe to it, and the point that it is busy with."""

    process: SpawnProcess
    pipe: Connection
    point: Point | None = None
    started: bool = False

    def give(self, point: Point) -> None:
        """Let the process begin with ``point``; one that has died is noticed by ``wait``."""
        self.point = point
        try:
            self.pipe.send(point)
        except OSError:
            return

    def stop(self) -> None:
        """End the process at once, whatever it does: an unfinished point leaves nothing."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


@dataclass(frozen=True)
class LocalProcesses:
    """An executor of ``jobs`` spawned processes (no fork: numba and BLAS have threads).

    The parent only hands out the next point. A process that dies (the kernel's out-of-memory
    killer, a crash) fails the point that it was busy with and is replaced.
    """

    jobs: int
    lock: Path

    def __call__(self, points: Sequence[Point], evaluate: Evaluate) -> Generator[Point]:
        """Evaluate ``points`` and yield each that is finished."""
        waiting = list(reversed(points))
        workers: list[Worker] = []
        try:
            workers += [self._start(evaluate) for _ in range(min(self.jobs, len(points)))]
            for worker in workers:
                worker.give(waiting.pop())
            while busy := [worker for worker in workers if worker.point]:
                pipes = wait([worker.pipe for worker in busy])
                for worker in [worker for worker in busy if worker.pipe in pipes]:
                    point = self._listen(worker, evaluate)
                    if point is None:
                        continue
                    if waiting:
                        worker.give(waiting.pop())
                    yield point
        finally:
            for worker in workers:
                worker.stop()

    def _start(self, evaluate: Evaluate) -> Worker:
        context: SpawnContext = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, evaluate, self.lock), daemon=True)
        process.start()
        theirs.close()
        return Worker(process, ours)

    def _listen(self, worker: Worker, evaluate: Evaluate) -> Point | None:
        """The point that ``worker`` has finished or died with; None where it has just started."""
        point = worker.point
        assert point is not None
        try:
            if worker.pipe.recv() == STARTED:
                worker.started = True
                return None
            worker.point = None
        except (EOFError, OSError):
            worker.stop()
            if not worker.started:
                raise RuntimeError(NOT_STARTED) from None
            if not point.finished:
                write_failure(point, died(worker.process.exitcode))
            fresh = self._start(evaluate)
            worker.process, worker.pipe, worker.started = fresh.process, fresh.pipe, False
            worker.point = None
        return point


def died(exitcode: int | None) -> str:
    """Why a point has no result whose process has ended with ``exitcode``."""
    if exitcode == -signal.SIGKILL:
        return "its process was killed (signal 9): most likely the machine's memory did not suffice"
    return f"its process ended without a result (exit code {exitcode})"


def serve(pipe: Connection, evaluate: Evaluate, lock: Path) -> None:
    """A process's work: evaluate the points that come through ``pipe`` until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=die_with_parent, daemon=True).start()
    with hold_shared(lock):
        pipe.send(STARTED)
        while True:
            try:
                point = pipe.recv()
            except EOFError:
                return
            evaluate_point(point, evaluate)
            pipe.send(point.number)


def die_with_parent() -> None:
    """Leave as soon as the parent is gone, however it ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
