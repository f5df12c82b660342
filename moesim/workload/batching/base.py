"""Which requests share a forward pass."""

from __future__ import annotations

from pydantic import Field

from moesim.config.params import Params
from moesim.workload.requests import Requests
from moesim.workload.schedule import Seats

LARGEST_BATCH = 1 << 20


class Batching(Params):
    """A rule that seats requests in batches; ``batch_size`` counts the whole group of GPUs.

    A batching that does not read the clock answers for the whole run at once, which is what
    policies that look ahead (``min``) need.
    """

    batch_size: int = Field(
        default=1, ge=1, le=LARGEST_BATCH, description="Requests in flight, over all GPUs."
    )

    def seats(self, requests: Requests) -> Seats:
        """Slot, turn and admission of every request of ``requests``."""
        raise NotImplementedError
