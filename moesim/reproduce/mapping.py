"""Pieces of work, done in this process or in several."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from typing import Any

from moesim.sweep.local import deaf_to_ctrl_c, die_with_parent

Progress = Callable[[int, int], None]
Work = Callable[[], Any]
"""A piece of work; picklable."""
Mapped = Callable[[Sequence[Work]], list[Any]]


@contextmanager
def mapping(jobs: int, total: int, progress: Progress | None) -> Iterator[Mapped]:
    """A function that does pieces of work, in this process or in ``jobs`` of its own."""
    count = 0

    def finished() -> None:
        nonlocal count
        count += 1
        if progress is not None:
            progress(count, total)

    if progress is not None:
        progress(0, total)
    if jobs == 1:
        yield lambda works: [_counted(work, finished) for work in works]
        return
    spawn, others = get_context("spawn"), set(active_children())
    with ProcessPoolExecutor(jobs, mp_context=spawn, initializer=follow_parent) as pool:
        try:
            yield lambda works: _shared(pool, works, finished)
        except BaseException:
            for process in set(active_children()) - others:
                process.kill()  # else leaving waits until their work is done
            pool.shutdown(cancel_futures=True)
            raise


def _counted(work: Work, finished: Callable[[], None]) -> Any:
    result = done(work)
    finished()
    return result


def _shared(
    pool: ProcessPoolExecutor, works: Iterable[Work], finished: Callable[[], None]
) -> list[Any]:
    with deaf_to_ctrl_c():  # the pool starts its processes as work comes
        futures = [pool.submit(done, work) for work in works]
    left = set(futures)
    while left:
        ended, left = wait(left, return_when=FIRST_COMPLETED)
        for future in ended:
            future.result()
            finished()
    return [future.result() for future in futures]


def follow_parent() -> None:
    """In a process of the pool: leave as soon as its parent is gone."""
    threading.Thread(target=die_with_parent, daemon=True).start()


def done(work: Work) -> Any:
    """What ``work`` gives; a function, so that another process can be told of it."""
    return work()
