"""Processes that measure a collective together, one a GPU."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import lru_cache
from queue import Empty
from time import perf_counter_ns
from typing import Any

from moesim.calibrate.collect.device import torch_library

TIMEOUT_S = 120
NS_PER_MS = 1e6
SILENT = f"the processes of the collective did not answer within {TIMEOUT_S} s"


class Ranks:
    """``world`` processes joined by ``backend`` (nccl; gloo on CPUs) that wait for work."""

    def __init__(self, backend: str, world: int) -> None:
        torch_library()
        from torch import multiprocessing

        context = multiprocessing.get_context("spawn")
        self.silent = False
        self.requests = [context.Queue() for _ in range(world)]
        self.answers = context.Queue()
        port = _free_port()
        for rank in range(world):
            arguments = (backend, rank, world, port, self.requests[rank], self.answers)
            context.Process(target=_serve, args=arguments, daemon=True).start()

    def times(self, op: str, size: int, count: int) -> list[float]:
        """Nanoseconds of ``count`` calls of ``op`` with ``size`` bytes a rank, from rank 0."""
        if self.silent:
            raise RuntimeError(SILENT)
        for queue in self.requests:
            queue.put((op, size, count))
        try:
            answer = self.answers.get(timeout=TIMEOUT_S)
        except Empty:
            self.silent = True
            raise RuntimeError(SILENT) from None
        if isinstance(answer, str):
            raise RuntimeError(answer)  # noqa: TRY004 - a worker's own error
        return [float(time) for time in answer]


@lru_cache
def ranks_of(backend: str, world: int) -> Ranks:
    """The processes for that many GPUs; started once."""
    return Ranks(backend, world)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _serve(backend: str, rank: int, world: int, port: int, requests: Any, answers: Any) -> None:
    import torch
    from torch import distributed

    address = f"tcp://127.0.0.1:{port}"
    if backend == "nccl":
        torch.cuda.set_device(rank)
    distributed.init_process_group(backend, init_method=address, rank=rank, world_size=world)
    while True:
        op, size, count = requests.get()
        try:
            times = _timed(backend, rank, _call(op, size, world, backend, rank), count)
        except RuntimeError as error:
            times = str(error)
        if rank == 0:
            answers.put(times)


def _call(op: str, size: int, world: int, backend: str, rank: int) -> Callable[[], object]:
    """One collective on fp16 numbers; an all-to-all sends every rank its share of ``size``."""
    import torch
    from torch import distributed

    device = f"cuda:{rank}" if backend == "nccl" else "cpu"
    data = torch.zeros(max(size // 2 // world, 1) * world, dtype=torch.float16, device=device)
    if op == "all_reduce":
        return lambda: distributed.all_reduce(data)
    received = torch.empty_like(data)
    return lambda: distributed.all_to_all_single(received, data)


def _timed(backend: str, rank: int, call: Callable[[], object], count: int) -> Any:
    import torch
    from torch import distributed

    call()
    times = []
    for _ in range(count):
        distributed.barrier()
        if backend != "nccl":
            start = perf_counter_ns()
            call()
            times.append(perf_counter_ns() - start)
            continue
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        call()
        last.record()
        torch.cuda.synchronize(rank)
        times.append(first.elapsed_time(last) * NS_PER_MS)
    return times
