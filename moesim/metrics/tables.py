"""The tables of one run."""

from __future__ import annotations

import numpy as np
import pandas as pd

from moesim.engine.case import Case
from moesim.engine.counts import layer_bytes_to_gpus
from moesim.engine.outcome import Outcome, Span
from moesim.hardware.charge import CHARGES
from moesim.memory.footprint.footprint import Footprint
from moesim.metrics.fates import fate_columns, lost_columns
from moesim.metrics.instances import instance_of_passes
from moesim.metrics.marks import mark_columns
from moesim.metrics.misses import left_out_columns
from moesim.metrics.priced_time import operations
from moesim.metrics.served import ServedRun
from moesim.metrics.summary import per_request, tpot_ms
from moesim.metrics.ttft import ttft_ms
from moesim.trace.transforming import LostByToken
from moesim.workload.served import PassPhase

PHASES = {phase.value: phase.name.lower() for phase in PassPhase}


def steps_table(case: Case, outcome: Outcome, run: ServedRun | None = None) -> pd.DataFrame:
    """A row a forward pass; times in ns, summed over GPUs where they are charges. ``run``: of
    requests that are served.
    """
    schedule, counts = case.schedule, outcome.counts
    sizes = schedule.output_tokens()
    shown = (*CHARGES[:5], *outcome.categories[len(CHARGES) :])
    charges = dict(zip(outcome.categories, outcome.charges.sum(axis=1).T, strict=True))
    activations, hits, late = (
        values.sum(axis=(1, 2)) for values in (counts.activations, counts.hits, counts.late)
    )
    served = {} if run is None else run.steps(schedule.passes)
    if run is not None:
        served["prompt_tokens"] = sizes - schedule.decode_tokens()
    if (instances := instance_of_passes(case)) is not None:
        served["instance"] = instances
    return pd.DataFrame(
        {
            "step": np.arange(schedule.passes),
            "phase": [PHASES[phase] for phase in schedule.phase.tolist()],
            "start_ns": outcome.starts.min(axis=1),
            "end_ns": outcome.ends.max(axis=1),
            "tokens": sizes,
            "decode_tokens": schedule.decode_tokens(),
            "live_requests": schedule.live_requests(),
            "activations": activations,
            "hits": hits,
            "late": late,
            "misses": activations - hits - late,
            "accesses": counts.kept_rows.sum(axis=(1, 2)),
            "access_hits": counts.access_hits.sum(axis=(1, 2)),
            "bytes_h2d": counts.expert_bytes_to_gpus(case) + layer_bytes_to_gpus(case),
            "stall_ns": charges["waiting_for_weights"],
            "barrier_ns": charges["waiting_for_gpus"],
            "cpu_wait_ns": charges["waiting_for_cpu"],
            **{f"{name}_ns": charges[name] for name in shown},
            **served,
            **mark_columns(case, counts),
        }
    )


def layers_table(case: Case, outcome: Outcome) -> pd.DataFrame:
    """A row for each (step, MoE layer, GPU)."""
    step, layer, gpu, start, end, stall, barrier = outcome.layers.T
    counts, where = outcome.counts, (step, layer, gpu)
    activations, hits, late = counts.activations[where], counts.hits[where], counts.late[where]
    return pd.DataFrame(
        {
            "step": step,
            "layer": layer,
            "gpu": gpu,
            "tokens": counts.rows[where],
            "distinct_experts": activations,
            "hits": hits,
            "late": late,
            "misses": activations - hits - late,
            "start_ns": start,
            "end_ns": end,
            "stall_ns": stall,
            "barrier_ns": barrier,
            **left_out_columns(case, counts, where),
        }
    )


def requests_table(
    case: Case,
    outcome: Outcome,
    run: ServedRun | None = None,
    by_token: LostByToken | None = None,
) -> pd.DataFrame:
    """A row a request; ``run``: of those that are served; ``by_token``: what transforms took."""
    fates = {**fate_columns(outcome), **lost_columns(case.schedule, by_token)}
    if run is not None:
        parts = {**run.parts_ms(outcome), **run.decode_parts_ms(outcome)}
        served = pd.DataFrame({**run.table(), **parts})
        return served.join(pd.DataFrame(fates))
    requests = per_request(case, outcome)
    times = {"tpot_ms": tpot_ms(requests), **ttft_ms(case, outcome)}
    return pd.DataFrame({**requests, **times, **fates})


def operations_table(outcome: Outcome) -> pd.DataFrame:
    """A row for each charge and kind of operation that took time, the longest first."""
    rows = [row for row in operations(outcome) if row["time_ns"]]
    return pd.DataFrame(rows).sort_values("time_ns", ascending=False, ignore_index=True)


def itl_table(run: ServedRun) -> pd.DataFrame:
    """A row for each time between two tokens of a request that is served."""
    return pd.DataFrame(run.gaps())


def entries_table(run: ServedRun, passes: int) -> pd.DataFrame:
    """A row for what each of the first ``passes`` steps has of each request that is served."""
    return pd.DataFrame(run.entries(passes))


def memory_table(footprint: Footprint, outcome: Outcome | None, limit: int) -> pd.DataFrame:
    """The busiest GPU's bytes by category at the start of every pass (without a clock: of the
    peak).
    """
    total = footprint.total
    step, gpu = np.unravel_index(int(total.argmax()), total.shape)
    rows = slice(None) if outcome is not None else slice(int(step), int(step) + 1)
    clock = footprint.shares[int(gpu)].gpu
    time = outcome.starts[:, clock] if outcome is not None else np.zeros(1, np.int64)
    parts = {name: part[rows, gpu] for name, part in footprint.parts.items()}
    return pd.DataFrame(
        {"time_ns": time, **parts, "host_bytes": footprint.host, "capacity_bytes": limit}
    )


def slots_table(outcome: Outcome) -> pd.DataFrame:
    """A row whenever a GPU has another number of experts in slots."""
    return pd.DataFrame(outcome.held, columns=["gpu", "time_ns", "experts"])


def spans_table(outcome: Outcome) -> pd.DataFrame:
    """A row for each job of an engine."""
    return pd.DataFrame(outcome.spans, columns=list(Span._fields))
