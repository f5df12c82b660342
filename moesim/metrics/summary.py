"""The numbers of one run, in vLLM bench's words where it has them."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.counts import Counts, layer_bytes_to_gpus
from moesim.engine.outcome import Outcome
from moesim.metrics.balance import balance
from moesim.metrics.energy import Bill
from moesim.metrics.fates import fate_numbers
from moesim.metrics.marks import mark_numbers
from moesim.metrics.misses import misses_by_form, skipped_numbers
from moesim.metrics.prefetch import prefetch_numbers
from moesim.metrics.priced_time import price_share
from moesim.metrics.rebalance import rebalance_numbers
from moesim.metrics.speculation import speculation_numbers
from moesim.metrics.storage import storage_numbers
from moesim.metrics.ttft import prompt_passes, ttft_ms
from moesim.trace.routing import Phase
from moesim.workload.lives import lives_of
from moesim.workload.served import PassPhase

Floats = NDArray[np.float64]
MS = 1_000_000
SECOND = 1_000_000_000
NEVER_NS = np.iinfo(np.int64).max
"""When a request that did not run begins."""


def per_request(case: Case, outcome: Outcome) -> dict[str, Ints]:
    """By request (those that ran, in file order): name, decode tokens, end of the first and of the
    last decode step in ns (of any pass where it decoded nothing); where drafts are verified, the
    tokens of that first step.
    """
    schedule = case.schedule
    lives, decode = lives_of(schedule), lives_of(schedule, Phase.DECODE)
    answered, ran = decode.tokens > 0, lives.last >= 0
    first, last = (np.where(answered, *both) for both in zip(decode[:2], lives[:2], strict=True))
    end = outcome.ends.max(axis=1)
    found = {
        "request_id": names_of(case, lives.row),
        "tokens": decode.tokens,
        "first_ns": np.where(ran, end[np.minimum(first, len(end) - 1)], NEVER_NS),
        "last_ns": np.where(ran, end[last], 0),
    }
    if schedule.kept is not None:
        step = schedule.pass_of_token()
        kept = schedule.kept & schedule.in_phase(Phase.DECODE, 0, schedule.passes)
        at_once = kept & (end[step] == found["first_ns"][schedule.request])
        found["first_tokens"] = np.bincount(schedule.request[at_once], minlength=len(ran))
    return found


def names_of(case: Case, row: Ints) -> Ints:
    """By request, the trace's name of the one that has a ``row`` of it, 0 where that is -1; the
    number of one that a scheduler serves, with whatever rows.
    """
    if case.schedule.served is not None:
        return np.arange(len(row))
    return np.where(row >= 0, case.trace.request_id[row], 0).astype(np.int64)


def tpot_ms(requests: dict[str, Ints]) -> Floats:
    """Milliseconds a token after the first step's, by request; NaN where there is none."""
    steps = requests["tokens"] - requests.get("first_tokens", 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        spent = (requests["last_ns"] - requests["first_ns"]) / np.maximum(steps, 1) / MS
    return np.where(steps >= 1, spent, np.nan)


def span_numbers(case: Case, outcome: Outcome, first: int) -> dict[str, Any]:
    """The numbers of passes ``first`` and later."""
    schedule, counts = case.schedule, outcome.counts
    span = slice(outcome.row(first), None)
    sizes, phase = schedule.output_tokens()[first:], schedule.phase[first:]
    decoded = int(schedule.answer_tokens()[first:].sum())
    of_layers = int(layer_bytes_to_gpus(case)[first:].sum())
    begin = int(outcome.ends[first - 1].max()) if first else 0
    duration = outcome.duration_ns - begin
    # each GPU's own time: one may be done with the pass before earlier than the others
    gpu_time = case.gpus * outcome.duration_ns
    gpu_time -= int(outcome.ends[first - 1].sum()) if first else 0
    charged = outcome.charges[span].sum(axis=(0, 1)).tolist()
    charges = dict(zip(outcome.categories, charged, strict=True))
    activations, hits = int(counts.activations[span].sum()), int(counts.hits[span].sum())
    late = int(counts.late[span].sum())
    kept, rows = int(counts.kept_rows[span].sum()), int(counts.rows[span].sum())
    dropped = int(counts.dropped_choices[span].sum())
    layers = [sum(x.moe is not None for x in case.layers_of(p)) for p in PassPhase]
    return {
        "tokens": int(sizes.sum()),
        "steps": len(sizes),
        "layer_steps": int(np.bincount(phase, minlength=len(layers)) @ layers),
        "duration_ms": duration / MS,
        "output_throughput": _ratio(decoded * SECOND, duration),
        "total_token_throughput": _ratio(int(sizes.sum()) * SECOND, duration),
        "hits": hits,
        "late": late,
        "misses": activations - hits - late,
        **misses_by_form(counts, span),
        "hit_ratio_per_expert": _ratio(hits, activations),
        "hit_ratio_per_access": _ratio(int(counts.access_hits[span].sum()), kept),
        "bytes_h2d": int(counts.expert_bytes_to_gpus(case)[span].sum()) + of_layers,
        **mark_numbers(case, counts, span),
        **prefetch_numbers(case, counts, span),
        "stall_ms": charges["waiting_for_weights"] / MS,
        "barrier_ms": charges["waiting_for_gpus"] / MS,
        "cpu_wait_ms": charges["waiting_for_cpu"] / MS,
        **storage_numbers(case, counts, span, charges),
        **speculation_numbers(case, counts, span),
        "dropped_choices": dropped,
        "dropped_share": _ratio(dropped, kept + dropped),
        "dropped_gate_weight_share": lost_share(case, counts, span),
        **skipped_numbers(counts, span),
        "padding_ratio": _ratio(rows - kept + int(counts.skipped_rows[span].sum()), rows),
        "waste_factor": _ratio(rows, kept + dropped),
        **balance(outcome.loads.since(first)),
        "time_share": time_share(charges, gpu_time),
    }


def lost_share(case: Case, counts: Counts, span: slice) -> float | None:
    """The share of all gate weight that drops lose; None where it is not known."""
    if case.gating.drops is None:
        return 0.0
    lost, whole = counts.lost_weight[span].sum(axis=(0, 1)).tolist()
    return _ratio(lost, whole)


def time_share(charges: dict[str, int], total: int) -> dict[str, float]:
    """Shares of the GPUs' time by what it was charged to; the rest is idle; they add up to 1."""
    shares = {name: _ratio(charged, total) or 0.0 for name, charged in charges.items()}
    idle = (total - sum(charges.values())) / total if total else 1.0
    return {**shares, "idle": idle}


def warm_up_steps(share: float, steps: int) -> int:
    """The exact ceiling of ``share``, as it is written in decimals, of ``steps``; never all."""
    return min(ceil(Fraction(str(share)) * steps), steps - 1)


def summary(
    case: Case, outcome: Outcome, warm_up: float, bill: Bill | None = None
) -> dict[str, Any]:
    """All numbers of the run; ``after_warm_up`` repeats them without the first steps, its TPOT over
    the requests whose first decode step lies after those, its TTFT over those whose prompt does
    (neither where requests are served: those are the clients', behind ``serving.warm_up``).
    ``bill`` makes those of energy and cost.
    """
    steps = case.schedule.passes
    warm = warm_up_steps(warm_up, steps)
    requests = per_request(case, outcome)
    tpot = tpot_ms(requests)
    begins = int(outcome.ends[warm - 1].max()) if warm else -1
    later = tpot[requests["first_ns"] > begins]
    ttft = ttft_ms(case, outcome)["ttft_ms"]
    of_requests = {
        **request_numbers("ttft", ttft[prompt_passes(case)[0] >= warm]),
        **request_numbers("tpot", later),
    }
    after = {
        "warm_up_steps": warm,
        **span_numbers(case, outcome, warm),
        **({} if case.serving is not None else of_requests),
        **(bill.numbers(case, outcome, warm) if bill else {}),
    }
    return {
        "engine": outcome.engine,
        **span_numbers(case, outcome, 0),
        "requests": len(tpot),
        **request_numbers("ttft", ttft),
        **request_numbers("tpot", tpot),
        **(bill.numbers(case, outcome, 0) if bill else {}),
        "price_share": price_share(outcome),
        **fate_numbers(case, outcome),
        **rebalance_numbers(case, outcome),
        "after_warm_up": after,
        "engine_wall_s": outcome.seconds,
    }


def request_numbers(name: str, values: Floats) -> dict[str, float | None]:
    """Mean and percentiles over requests of ``values`` in ms, NaN left out; None where none has
    one.
    """
    known = values[~np.isnan(values)]
    if not len(known):
        return dict.fromkeys(f"{which}_{name}_ms" for which in ("mean", "p50", "p99"))
    percentiles = {f"p{p}_{name}_ms": float(np.percentile(known, p)) for p in (50, 99)}
    return {f"mean_{name}_ms": float(known.mean()), **percentiles}


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
