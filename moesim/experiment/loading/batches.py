"""Which tokens of a trace share a forward pass, where that is known before the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.workload.batching.base import AnyBatching, seats_by
from moesim.workload.requests import PhaseChoice, Requests
from moesim.workload.schedule import Schedule

if TYPE_CHECKING:
    from moesim.experiment.schema.experiment import Experiment
    from moesim.trace import RoutingTrace


class Batches(NamedTuple):
    """Which tokens share a forward pass: by ``batching``, of the ``first`` requests with a token in
    ``phase``, in prefill passes of at most ``chunk`` tokens of each of ``gpus``.
    """

    batching: AnyBatching
    phase: PhaseChoice
    first: int | None
    chunk: int | None
    gpus: int

    @classmethod
    def of(cls, experiment: Experiment) -> Batches | None:
        """Those of ``experiment``; None where its routing does not ask, or where which passes there
        are depends on the clock or on drafts.
        """
        workload = experiment.workload
        batching, drafts = workload.batching, workload.speculative
        asked = any(one.by_pass for one in experiment.routing)
        if not asked or batching.reads_clock or batching.serves or drafts is not None:
            return None
        rest = workload.requests, workload.prefill.chunk, experiment.parallelism.expert
        return cls(batching, workload.phase, *rest)

    def passes(self, trace: RoutingTrace) -> NDArray[np.int64]:
        """The pass int64[T] of each token of ``trace``, -1 without one."""
        requests = Requests.of(trace, self.phase, self.first)
        seats = seats_by(self.batching, requests)
        schedule = Schedule.of(requests, seats, trace, self.gpus, self.chunk)
        passes = np.full(len(trace.phase), -1)
        passes[schedule.rows] = schedule.pass_of_token()
        return passes
