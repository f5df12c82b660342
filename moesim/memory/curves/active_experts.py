"""What each MoE layer needs, step by step, from a trace and its forward passes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.memory.activations import ActiveExperts
from moesim.memory.policy import WEIGHT_UNIT
from moesim.runtime.compiled import njit
from moesim.trace.routing import NO_EXPERT, RoutingTrace
from moesim.workload.schedule import Schedule

Ints = NDArray[np.int64]


@njit(
    "int64(uint16[:,:,::1], int64, int64[::1], int64[::1], int64[::1], int64[::1], int64[::1])",
    cache=True,
)  # fmt: skip
def _fill(
    ids: Any, layer: int, rows: Any, passes: Any, last_pass: Any, offsets: Any, experts: Any
) -> Any:
    end = 0
    for one in range(len(passes) - 1):
        begin = end
        for token in range(passes[one], passes[one + 1]):
            for choice in range(ids.shape[2]):
                e = ids[rows[token], layer, choice]
                if e == NO_EXPERT or last_pass[e] == one:
                    continue
                last_pass[e] = one
                at = end
                while at > begin and experts[at - 1] > e:
                    experts[at] = experts[at - 1]
                    at -= 1
                experts[at] = e
                end += 1
        offsets[one + 1] = end
    return end


def layer_active_experts(trace: RoutingTrace, schedule: Schedule, layer: int) -> ActiveExperts:
    """The distinct experts of every pass of ``schedule`` in MoE layer ``layer``, on one GPU."""
    offsets = np.zeros(schedule.passes + 1, np.int64)
    experts = np.empty(len(schedule.rows) * trace.top_k, np.int64)
    last_pass = np.full(trace.experts, -1, np.int64)
    end = _fill(
        trace.expert_ids, layer, schedule.rows, schedule.offsets, last_pass, offsets, experts
    )
    return ActiveExperts(offsets, experts[:end])


def one_by_one(active: ActiveExperts) -> ActiveExperts:
    """The same activations, each in a step of its own: no expert is protected but that of the
    activation.
    """
    return ActiveExperts(np.arange(len(active.experts) + 1), active.experts)


def layer_weights(trace: RoutingTrace, schedule: Schedule, layer: int) -> Ints:
    """Gate weights int64[active experts] aligned with ``layer_active_experts``, summed over a
    pass's tokens, in units of 1 / WEIGHT_UNIT.
    """
    assert trace.gate_weights is not None, "the policy needs a trace with gate weights"
    ids = trace.expert_ids[schedule.rows, layer].astype(np.int64)
    chosen = ids != NO_EXPERT
    cells = schedule.pass_of_token()[:, None] * trace.experts + ids
    _, index = np.unique(cells[chosen], return_inverse=True)
    weights = trace.gate_weights[schedule.rows, layer].astype(np.float64)[chosen] * WEIGHT_UNIT
    return np.bincount(index, weights=weights).astype(np.int64)
