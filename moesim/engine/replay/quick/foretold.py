"""Passes of a row each on one GPU under LRU whose experts are prefetched one layer ahead by
predictions that are always right. A prefetch takes the slot that its layer would give it, so that
slots are as without; whether it is there in time is told by the clock.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.pricing.provenance import Provenance
from moesim.engine.replay.clock.foretold import Foretold, play_foretold
from moesim.engine.replay.clock.one_gpu import Launched
from moesim.engine.replay.quick.activations import ACCESS_HITS, COUNTED_HERE, HITS, MARKED_FROM
from moesim.engine.replay.quick.launch_prices import LaunchPrices
from moesim.engine.replay.quick.made import Made
from moesim.engine.replay.quick.one_row import OneRow
from moesim.engine.replay.quick.predicted import PredictedRows, is_predicted
from moesim.engine.replay.quick.reuse import Reuse
from moesim.engine.replay.quick.sweeps import Swept
from moesim.memory.prefetch.history import History
from moesim.memory.prefetch.oracle import Oracle

AHEAD = ("late", "prefetched", "prefetches_used", "prefetches_promoted")


def rows_ahead_of(case: Case) -> type[OneRow] | None:
    """What makes the runs of ``case``, which prefetches, where they are decided at once. Under LRU
    what a layer needed last is still in its slots: to predict that copies nothing.
    """
    if not is_predicted(case):
        return None
    if type(case.prefetch) is History:
        return OneRow
    right, oracle = False, case.prefetch
    if isinstance(oracle, Oracle):
        right = bool(np.all(np.array([*np.ravel(oracle.recall), *np.ravel(oracle.precision)]) == 1))
    return ForetoldRows if right else PredictedRows


class ForetoldRows(OneRow):
    """Makes the runs of a case that ``is_predicted``, by an oracle that is always right."""

    clock: ClassVar[Any] = staticmethod(play_foretold)

    def __init__(self, reuse: Reuse, launches: LaunchPrices, provenance: Provenance) -> None:
        super().__init__(reuse, launches, provenance)
        (form,) = reuse.case.forms
        self.counted = (*COUNTED_HERE, form.counted, *AHEAD)
        self._asked = np.full(reuse.finder.layers, -1)

    def made(self, first: int, last: int) -> Made:
        """As ``Maker`` says."""
        one = super().made(first, last)
        assert isinstance(one.works, Launched), "layers are one launch"
        works: Foretold = one.works.works
        if last < self.reuse.case.schedule.passes:
            works.misses[-1, 0] = self._first_of(last)
        return one._replace(told=partial(self._tell, works, one.counts))

    def _first_of(self, step: int) -> int:
        """What the first layer of a pass misses, which is the next one."""
        ids, rows, _, _ = self.reuse.finder.tokens(step, step + 1)
        stacks = self._held
        ranks = stacks.lines[0].reshape(-1)[stacks.home[0, ids[rows[0], 0]]]
        return int((ranks >= stacks.slots[0, 0]).sum())

    def _launched(self, swept: Swept) -> Launched:
        """See ``OneRow``."""
        one, misses = super()._launched(swept), swept.misses
        late, taken, demanded = np.zeros((3, *misses.shape), np.uint16)
        with_next = np.concatenate((misses, np.zeros_like(misses[:1])))
        kernel_ns = one.works.kernel_ns.ravel()
        works = Foretold(with_next, kernel_ns, self._asked, late, taken, demanded)
        return Launched(self.clock, works, one.copies)

    def _tell(self, works: Foretold, counts: Ints) -> None:
        """Fill in the ``counts`` that the clock tells."""
        apart = counts.shape[2] > 1
        misses, late, taken, demanded = (
            one.astype(np.int64)[..., None] if apart else one.sum(axis=1, dtype=int)[:, None, None]
            for one in (works.misses[:-1], works.late, works.taken, works.demanded)
        )
        counts[HITS] += misses - late - demanded
        counts[ACCESS_HITS] = counts[HITS]
        ahead = misses - demanded
        counts[MARKED_FROM:] = demanded, late, ahead, ahead, taken
