"""The host as it computes experts, whose weights come from memory that copies read too."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

import simpy

from moesim.engine.des.links import FairLinks


@dataclass(frozen=True)
class HostCompute:
    """Experts of one GPU's share of the host, one after the other over shared ``links``, first the
    share's own.
    """

    env: simpy.Environment
    fair: FairLinks
    links: tuple[str, ...]

    def run(
        self, ready: int, down_ns: int, experts: Sequence[tuple[int, int]]
    ) -> Generator[simpy.Event, None, list[tuple[int, int]]]:
        """Rows go down from ``ready`` on and ``experts`` (bytes and price in ns) are computed;
        returns the span of each of these.

        What a price is beyond its bytes over the share's own link is waited for first.
        """
        yield self.env.timeout(ready + down_ns - int(self.env.now))
        ends = [int(self.env.now)]
        for amount, price_ns in experts:
            alone = ceil(amount / self.fair.capacity[self.links[0]])
            yield self.env.timeout(max(price_ns - alone, 0))
            yield self.fair.transfer(amount, self.links)
            ends.append(int(self.env.now))
        return list(pairwise([ready, *ends]))
