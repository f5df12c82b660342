"""Static batching: the next batch starts when the longest request of this one has ended."""

from __future__ import annotations

from typing import Literal

import numpy as np

from moesim.workload.batching.base import Batching
from moesim.workload.requests import Requests
from moesim.workload.schedule import Seats


class Static(Batching):
    """Batches of consecutive requests, each run until its longest request has ended."""

    kind: Literal["static"] = "static"

    def seats(self, requests: Requests) -> Seats:
        """Request i sits on slot i modulo the batch size; a batch begins where the last ended."""
        index = np.arange(requests.count)
        batch = index // self.batch_size
        longest = np.zeros(batch[-1] + 1, np.int64)
        np.maximum.at(longest, batch, requests.decode_tokens)
        begins = np.cumsum(longest) - longest
        return Seats(slot=index % self.batch_size, step=begins[batch], admission=batch)
