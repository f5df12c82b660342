"""The SimPy engine against the judge, to the nanosecond, on experiments that hypothesis makes."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from hypothesis import HealthCheck, given, settings

from moesim.engine.case import Case as EngineCase
from moesim.engine.des import run as des
from moesim.engine.outcome import Outcome
from moesim.hardware.charge import CHARGES
from moesim.memory.forms import ON_HOST, OVER_LINK
from moesim.memory.misses.skip import SKIPPED
from moesim.metrics.summary import MS, per_request, summary
from moesim.metrics.tables import layers_table, requests_table, steps_table

from .judge import judge
from .judge_words import CATEGORIES, Config, Verdict
from .prices import ToyPrices
from .scenes import scene
from .strategies import Case, cases
from .wiring import engine_case

COUNTS = ["hits", "late", "misses"]
WAITS = ["start_ns", "end_ns", "stall_ns", "barrier_ns"]
HANDLED = {"host_turns": ON_HOST, "zero_copy_turns": OVER_LINK, "skipped_turns": SKIPPED}
LAYER_COLUMNS = ["step", "layer", "gpu", "tokens", "distinct_experts", *COUNTS, *WAITS]
STEP_COLUMNS = [
    *["step", "tokens", "decode_tokens", "live_requests", "turns", *COUNTS],
    *["accesses", "access_hits", "bytes_h2d", *WAITS, "cpu_wait_ns"],
    *["attention_ns", "gate_ns", "dispatch_combine_ns", "experts_ns", "host_ns"],
]
TTFT_COLUMNS = ["ttft_ms", *(f"ttft_{name}_ms" for name in CATEGORIES)]


@dataclass
class Observed:
    """What the engine and the metrics say of one run, in the judge's words."""

    totals: dict[str, int]  # Verdict's integer fields, from the raw counts
    charges: list[list[list[int]]]  # [step][gpu][category]
    handled: dict[str, Any]  # [step][layer][gpu] turns of the host and of zero copy
    time_ns: dict[str, int]  # CATEGORIES and idle, summed over GPUs
    summary: dict[str, Any]
    steps: list[dict[str, Any]]
    layers: list[dict[str, Any]]
    tpot_ns: dict[int, Fraction | None]
    ttft_ns: dict[int, list[int] | None]  # in all, then by category


def run_des(case: Case) -> Observed:
    """The engine on the case, with its own invariants on."""
    theirs = engine_case(case)
    return observed(theirs, des.run_des(theirs, records="layer", check=True))


def observed(theirs: EngineCase, outcome: Outcome) -> Observed:
    """An outcome with records: layer, and what the metrics make of it."""
    counts = outcome.counts
    charges = dict(zip(CHARGES, outcome.charges.sum(axis=(0, 1)).tolist(), strict=True))
    charges["idle"] = theirs.gpus * outcome.duration_ns - sum(charges.values())
    requests = {name: column.tolist() for name, column in per_request(theirs, outcome).items()}
    return Observed(
        totals={
            "duration_ns": outcome.duration_ns,
            "dropped": int(counts.dropped_choices.sum()),
            "lost_weight": int(counts.lost_weight[..., 0].sum()),
            "weight": int(counts.lost_weight[..., 1].sum()),
            "skipped_rows": int(counts.skipped_rows.sum()),
            "skipped_weight": int(counts.skipped_weight.sum()),
            "rows_executed": int(counts.rows.sum()),
            "rows_kept": int(counts.kept_rows.sum()),
            "sum_of_largest_rows": int(counts.rows.max(axis=2).sum()),
        },
        charges=outcome.charges.tolist(),
        handled={name: counts.missed_as(form) for name, form in HANDLED.items()},
        time_ns=charges,
        summary=summary(theirs, outcome, 0.1),
        steps=rows_of(steps_table(theirs, outcome)),
        layers=rows_of(layers_table(outcome)),
        tpot_ns={
            name: Fraction(last - first, tokens - 1) if tokens > 1 else None
            for name, tokens, first, last in zip(*requests.values(), strict=True)
        },
        ttft_ns={
            int(row["request_id"]): [round(row[name] * MS) for name in TTFT_COLUMNS]
            if row["ttft_ms"] == row["ttft_ms"]  # not NaN
            else None
            for row in rows_of(requests_table(theirs, outcome))
        },
    )


def rows_of(table: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.to_dict("records")
    return rows


def compare(verdict: Verdict, observed: Observed) -> None:
    """Layers first, then steps, then totals: the first difference in time is the one shown."""
    key = ("step", "layer", "gpu")
    theirs = {tuple(int(row[k]) for k in key): row for row in observed.layers}
    for row in verdict.layers:
        where = tuple(row[k] for k in key)
        handled = {name: int(observed.handled[name][where]) for name in HANDLED}
        assert handled == picked(row, list(HANDLED)), where
        assert picked(theirs.pop(where), LAYER_COLUMNS) == picked(row, LAYER_COLUMNS)
    assert not theirs
    assert len(observed.steps) == len(verdict.steps)
    for mine, other in zip(verdict.steps, observed.steps, strict=True):
        assert other["phase"] == mine["phase"]
        assert picked(other, STEP_COLUMNS) == picked(mine, STEP_COLUMNS)
    assert CHARGES == CATEGORIES
    assert observed.charges == verdict.charges
    assert observed.totals == {name: getattr(verdict, name) for name in observed.totals}
    assert observed.time_ns == verdict.time_ns
    assert observed.tpot_ns == {r["request_id"]: r["tpot_ns"] for r in verdict.requests}
    assert observed.ttft_ns == {r["request_id"]: r["ttft_ns"] for r in verdict.requests}
    compare_summary(verdict, observed.summary)


def compare_summary(verdict: Verdict, summary: dict[str, Any]) -> None:
    for name in ("tokens", "hits", "late", "misses", "bytes_h2d", "layer_steps"):
        assert summary[name] == getattr(verdict, name), name
    assert summary["misses_on_cpu"] == verdict.host_turns
    assert summary["misses_zero_copy"] == verdict.zero_copy_turns
    assert summary.get("misses_skipped", 0) == verdict.skipped_turns
    assert summary.get("skipped_choices", 0) == verdict.skipped_rows
    assert summary["steps"] == len(verdict.steps)
    assert summary["dropped_choices"] == verdict.dropped
    for name in (
        "duration",
        "stall",
        "barrier",
        "cpu_wait",
    ):  # no rounding: the nanoseconds come back
        assert round(summary[f"{name}_ms"] * MS) == getattr(verdict, f"{name}_ns"), name
    ratios = ("hit_ratio_per_expert", "hit_ratio_per_access", "padding_ratio", "balancedness")
    loads = ("max_load", "average_max_load")
    for name in (*ratios, *loads, "output_throughput"):
        assert close(summary[name], getattr(verdict, name)), name
    known = [r["tpot_ns"] for r in verdict.requests if r["tpot_ns"] is not None]
    mean = sum(known, start=Fraction(0)) / len(known) / MS if known else None
    assert close(summary["mean_tpot_ms"], mean)


def close(value: float | None, exact: Fraction | None) -> bool:
    """Equal but for the rounding of floating point."""
    if value is None or exact is None:
        return value is None and exact is None
    return abs(value - float(exact)) <= 1e-12 * abs(float(exact))


def picked(row: dict[str, Any], columns: list[str]) -> dict[str, int]:
    return {column: int(row[column]) for column in columns}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_the_engine_agrees_with_the_judge(case: Case) -> None:
    compare(judge(case.trace, case.model, case.config, case.prices), run_des(case))


def test_the_first_part_is_counted_exactly() -> None:
    """28 % of 25 tokens are 7: expert 0 four times, 1 three times; with the 8th they would tie."""
    steps = [[0], [0], [0], [1], [1], [1], [0], [1], *[[2], [0], [1], [2]] * 4, [2]]
    trace, model = scene(steps, 3)
    config = Config(slots=2, policy="static", first_part=0.28)
    case = Case(trace, model, config, ToyPrices())
    compare(judge(trace, model, config, case.prices), run_des(case))


def test_a_tie_is_loaded_and_a_nanosecond_more_is_not() -> None:
    """A copy of 17 + 34 and a kernel of 33 cost what the host does: 17 + 1, 1 + 24 + 23, 17 + 1."""
    trace, model = scene([[0]], 3)
    for cpu_start, host_turns in ((24, 0), (23, 1)):
        config = Config(slots=2, miss="cheapest")
        case = Case(trace, model, config, ToyPrices(cpu_start=cpu_start))
        verdict = judge(trace, model, config, case.prices)
        assert verdict.host_turns == host_turns
        compare(verdict, run_des(case))


def test_a_kernel_reads_over_the_link_only_what_is_not_resident() -> None:
    """Expert 0 is resident; 1 and 2 are read in the same wave, 17 + 67, longer than the kernel."""
    trace, model = scene([[0, 1, 2]], 4)
    prices = ToyPrices(expert_start=0, expert=0)
    config = Config(slots=1, initial="most_used", miss="zero_copy")
    verdict = judge(trace, model, config, prices)
    (span,) = verdict.spans
    assert span.end_ns - span.start_ns == 17 + 67
    compare(verdict, run_des(Case(trace, model, config, prices)))
