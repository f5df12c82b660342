"""What experts of several formats read from storage: each read has bytes and a time of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.memory.host.host_cache import HostCache, Reads
from moesim.memory.variants import Variants


@dataclass(frozen=True, eq=False)
class StoredVariants:
    """Of which variants loading in each form brings what is stored, ``wanted`` bool[forms,
    variants]. What is stored of one has ``size`` bytes int64[MoE layers, variants], and its read is
    ``busy`` and ``after`` likewise, as ``ReadTimes`` has it; where it is the last one of a load,
    that may begin so long before, ``lead`` int64[MoE layers, forms, variants].
    """

    wanted: NDArray[np.bool_]
    size: Ints
    busy: Ints
    after: Ints
    lead: Ints

    @classmethod
    def of(cls, case: Case, variants: Variants, cache: HostCache) -> StoredVariants:
        """Those of ``case``."""

        def price(*, queued: bool) -> Ints:
            prices = [
                int(case.prices.price("storage_read", size, cache.requests, cache.mapped, queued))
                for size in variants.stored.ravel().tolist()
            ]
            return np.array(prices, np.int64).reshape(variants.stored.shape)

        busy = price(queued=True)
        copies = [
            [case.expert_copy_ns(of_layers[layer]) if of_layers else 0
             for of_layers in variants.copied] for layer in range(len(busy))
        ]  # fmt: skip
        chunks = -(-variants.stored // cache.chunk) if cache.chunk else np.ones_like(busy)
        both = np.minimum(busy[:, None], np.array(copies, np.int64)[..., None])
        lead = both * (chunks - 1)[:, None] // np.maximum(chunks, 1)[:, None]
        after = price(queued=False) - busy
        return cls(variants.wanted, variants.stored, busy, after, np.maximum(lead, 0))

    def wants(self, forms: Ints) -> tuple[Ints, Ints]:
        """What copies in such ``forms`` want: which copy each, and of which variant."""
        copy, variant = np.nonzero(self.wanted[forms])
        return copy, variant

    def timed(self, reads: Reads, layer: int, read: Ints, forms: Ints, passes: Ints) -> Reads:
        """``reads`` of a MoE layer with their times: of which variant each ``read`` is, in which of
        ``forms`` each copy comes, and in which of its ``passes``.
        """
        kept = np.concatenate(([0], np.cumsum(self.busy[layer, read])))
        held = np.concatenate(([0], np.cumsum(self.size[layer, read])))
        first = np.repeat(kept[reads.steps[:-1]], np.diff(reads.steps))
        some, lead = reads.copy >= 0, np.zeros(len(forms), np.int64)
        last = read[reads.steps[passes[some]] + reads.copy[some]]
        lead[some] = self.lead[layer, forms[some], last]
        return reads._replace(
            ends=kept[1:] - first,
            after=self.after[layer, read],
            lead=lead,
            bytes=np.diff(held[reads.steps]),
        )


def busy_ns(reads: Reads) -> Ints:
    """How long ``reads`` that have times keep the drive, int64[passes]."""
    busy = np.zeros(len(reads.steps) - 1, np.int64)
    some = np.diff(reads.steps) > 0
    busy[some] = reads.ends[reads.steps[1:][some] - 1]
    return busy
