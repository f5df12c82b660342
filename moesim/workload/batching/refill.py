"""Refill batching: a request that ends is replaced at once by the next in the file."""

from __future__ import annotations

import heapq
from typing import Literal

import numpy as np

from moesim.workload.batching.base import Batching
from moesim.workload.requests import Requests
from moesim.workload.schedule import Seats


class Refill(Batching):
    """Every slot takes the next request of the file as soon as its own has ended."""

    kind: Literal["refill"] = "refill"

    def seats(self, requests: Requests) -> Seats:
        """Slots that end at one step are filled in ascending order.

        Requests admitted at one time make one prompt pass together. One without decode tokens
        leaves after it, and its slot is filled again before the next decode step: a later round of
        that step.
        """
        if not requests.decode_tokens.any():
            return self._prompts_only(requests)
        free = [(0, 0, slot) for slot in range(self.batch_size)]
        slots, steps, admissions = (np.zeros(requests.count, np.int64) for _ in range(3))
        admitted: dict[tuple[int, int], int] = {}
        for request, length in enumerate(requests.decode_tokens.tolist()):
            step, round_, slot = heapq.heappop(free)
            slots[request], steps[request] = slot, step
            admissions[request] = admitted.setdefault((step, round_), len(admitted))
            heapq.heappush(free, (step + length, 0 if length else round_ + 1, slot))
        return Seats(slot=slots, step=steps, admission=admissions)

    def _prompts_only(self, requests: Requests) -> Seats:
        index = np.arange(requests.count)
        return Seats(
            slot=index % self.batch_size,
            step=np.zeros(requests.count, np.int64),
            admission=index // self.batch_size,
        )
