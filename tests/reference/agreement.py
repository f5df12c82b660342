"""When two ways to play a case agree: the engines with the reference, and with each other."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any

import numpy as np

from moesim.engine.case import Case as EngineCase
from moesim.engine.counts import Counts
from moesim.engine.des.run import run_des
from moesim.engine.outcome import Outcome
from moesim.engine.replay.run import run_replay
from moesim.hardware.charge import CHARGES
from moesim.memory.forms import OVER_LINK
from moesim.memory.misses.skip import SKIPPED
from moesim.memory.variants import SUBSTITUTED
from moesim.metrics.summary import MS, per_request, summary
from moesim.metrics.tables import layers_table, requests_table, steps_table

from .agreement_energy import same_energy
from .agreement_fates import fates_of, plain_fates
from .agreement_routing import same_routing
from .reference import AHEAD, reference
from .reference_words import CATEGORIES, Verdict
from .strategies import Case
from .wiring import engine_case

COUNTS = ["hits", "late", "misses"]
WAITS = ["start_ns", "end_ns", "stall_ns", "barrier_ns"]
HANDLED = {
    "zero_copy_activations": OVER_LINK,
    "skipped_activations": SKIPPED,
    "substituted_activations": SUBSTITUTED,
}
LAYER_COLUMNS = ["step", "layer", "gpu", "tokens", "distinct_experts", *COUNTS, *WAITS]
STEP_COLUMNS = [
    *["step", "tokens", "decode_tokens", "live_requests", "activations", *COUNTS],
    *["accesses", "access_hits", "bytes_h2d", *WAITS, "cpu_wait_ns"],
    *["attention_ns", "gate_ns", "dispatch_combine_ns", "experts_ns", "host_ns"],
]
MARK_COLUMNS = [
    *(f"{mark}_{of}" for of in ("misses", "bytes_h2d") for mark in ("decode", "prompt", "both")),
    "decode_misses_caused_by_prompts",
]
"""Where a scheduler says which tokens decode, and decisions do not read the clock."""


@dataclass
class Observed:
    """What the engine and the metrics say of one run, in the reference's words."""

    totals: dict[str, int]  # Verdict's integer fields, from the raw counts
    charges: list[list[list[int]]]  # [step][gpu][category]
    handled: dict[str, Any]  # [step][layer][gpu] activations of the host and of zero copy
    time_ns: dict[str, int]  # CATEGORIES and idle, summed over GPUs
    summary: dict[str, Any]
    steps: list[dict[str, Any]]
    layers: list[dict[str, Any]]
    tpot_ns: dict[int, Fraction | None]
    ttft_ns: dict[int, list[int] | None]  # in all, then by category


def agree(case: Case) -> Verdict:
    """Reference, des (with its invariants on) and replay on ``case``: the verdict, if all say the
    same.

    Prefetches come first, because a copy that is counted differently explains a time that differs.
    """
    if case.config.policy != "static":  # draws may leave its part of the trace to another policy
        case = replace(case, config=replace(case.config, first_part=0.25))
    if case.recorded is not None:
        same_routing(case, case.recorded)
    verdict = verdict_of(case)
    keep_the_books(case, verdict)
    theirs = engine_case(case)
    outcome = run_des(theirs, records="layer", check=True)
    compare_prefetches(verdict, outcome.counts)
    compare(verdict, observed(theirs, outcome))
    replayed = run_replay(theirs)
    assert_same(replayed, outcome)
    assert (outcome.fates is None) == (replayed.fates is None)
    if outcome.fates is not None:
        fates = plain_fates(case, verdict)
        assert fates_of(theirs, outcome) == fates_of(theirs, replayed) == fates
    if case.watts:
        same_energy(case, verdict, theirs, outcome)
    return verdict


def verdict_of(case: Case, **choices: Any) -> Verdict:
    return reference(case.trace, case.model, replace(case.config, **choices), case.prices)


def observed(theirs: EngineCase, outcome: Outcome) -> Observed:
    """An outcome with records: layer, and what the metrics make of it."""
    counts, ttft = outcome.counts, ["ttft_ms", *(f"ttft_{n}_ms" for n in outcome.categories)]
    charges = dict(zip(outcome.categories, outcome.charges.sum(axis=(0, 1)).tolist(), strict=True))
    charges["idle"] = theirs.gpus * outcome.duration_ns - sum(charges.values())
    found = per_request(theirs, outcome)
    found = {"first_tokens": np.ones_like(found["tokens"]), **found}
    requests = {name: column.tolist() for name, column in found.items()}
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
            "host_hits": int(counts.host_hits.sum()),
            "storage_reads": int(counts.storage_reads.sum()),
            "storage_reads_ahead": int(counts.storage_reads_ahead.sum()),
            "storage_reads_used": int(counts.storage_reads_used.sum()),
        },
        charges=outcome.charges.tolist(),
        handled={name: counts.missed_as(form) for name, form in HANDLED.items()}
        | {"host_activations": counts.hosted},
        time_ns=charges,
        summary=summary(theirs, outcome, 0.1),
        steps=rows_of(steps_table(theirs, outcome)),
        layers=rows_of(layers_table(theirs, outcome).loc[:, :"barrier_ns"]),  # the rest: totals
        tpot_ns={
            name: Fraction(last - first, tokens - at_once) if tokens > at_once else None
            for at_once, name, tokens, first, last in zip(*requests.values(), strict=True)
        },
        ttft_ns={
            int(row["request_id"]): [round(row[name] * MS) for name in ttft]
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
        handled = {name: int(of_layer[where]) for name, of_layer in observed.handled.items()}
        assert handled == picked(row, list(handled)), where
        assert picked(theirs.pop(where), LAYER_COLUMNS) == picked(row, LAYER_COLUMNS)
    assert not theirs
    assert len(observed.steps) == len(verdict.steps)
    for mine, other in zip(verdict.steps, observed.steps, strict=True):
        assert other["phase"] == mine["phase"]
        columns = [*STEP_COLUMNS, *(MARK_COLUMNS if MARK_COLUMNS[0] in other else [])]
        assert picked(other, columns) == picked(mine, columns)
    assert CHARGES == CATEGORIES
    assert observed.charges == verdict.charges
    assert observed.totals == {name: getattr(verdict, name) for name in observed.totals}
    assert observed.time_ns == verdict.time_ns
    for name in ("tpot_ns", "ttft_ns"):
        mine = {row["request_id"]: row[name] for row in verdict.requests}
        found = getattr(observed, name).items()  # with requests that never came
        assert {one: time for one, time in found if one in mine or time is not None} == mine
    compare_summary(verdict, observed.summary)


def compare_summary(verdict: Verdict, summary: dict[str, Any]) -> None:
    for name in ("tokens", "hits", "late", "misses", "bytes_h2d", "layer_steps"):
        assert summary[name] == getattr(verdict, name), name
    assert summary["misses_on_cpu"] == verdict.host_activations
    assert summary["misses_zero_copy"] == verdict.zero_copy_activations
    assert summary.get("misses_skipped", 0) == verdict.skipped_activations
    assert summary.get("skipped_choices", 0) == verdict.skipped_rows
    assert summary.get("bytes_storage", 0) == verdict.bytes_storage
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


def compare_prefetches(verdict: Verdict, counts: Counts) -> None:
    for row in verdict.layers:
        where = (row["step"], row["layer"], row["gpu"])
        theirs = {name: int(getattr(counts, name)[where]) for name in ("late", *AHEAD)}
        assert theirs == picked(row, ["late", *AHEAD]), where


def assert_same(one: Outcome, other: Outcome) -> None:
    """Equal in every field but the engine's name and its wall time."""
    for name in ("starts", "ends", "charges", "layers"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    for field in fields(one.counts):
        mine, theirs = (getattr(outcome.counts, field.name) for outcome in (one, other))
        np.testing.assert_array_equal(mine, theirs, err_msg=field.name)
    assert one.copies == other.copies
    assert one.provenance.keys() == other.provenance.keys()
    for charge, nanoseconds in one.provenance.items():
        np.testing.assert_array_equal(nanoseconds, other.provenance[charge], err_msg=charge)


def keep_the_books(case: Case, verdict: Verdict) -> None:
    """What the reference says of one run adds up."""
    assert verdict.hits + verdict.late + verdict.misses == len(verdict.activations)
    assert verdict.rows_kept == verdict.accesses
    assert all(value >= 0 for value in verdict.time_ns.values())
    # Every nanosecond of every GPU is attributed once.
    assert sum(verdict.time_ns.values()) == verdict.gpus * verdict.duration_ns
    assert set(verdict.time_ns) == {*case.config.categories, "idle"}
    of_layers = sum(row["stall_ns"] for row in verdict.layers)
    ahead = case.config.prefetch.when == "before_pass"  # which is waited for before any layer
    assert verdict.stall_ns >= of_layers if ahead else verdict.stall_ns == of_layers
    assert verdict.cpu_wait_ns == sum(row["cpu_wait_ns"] for row in verdict.layers)
    assert verdict.barrier_ns == sum(row["barrier_ns"] for row in verdict.layers)
    assert verdict.rows_executed == sum(row["tokens"] for row in verdict.layers)
    assert verdict.prefetches_promoted <= verdict.late
    assert verdict.prefetches_used <= verdict.prefetched
    if case.config.prefill != "stream":  # a layer that streams is copied whole
        size = case.model.expert_bytes * (not case.config.in_place)
        experts = (verdict.read + verdict.prefetched) * size
        if not (case.config.variants or case.model.by_layer):
            assert verdict.bytes_h2d == experts + verdict.copied_bytes
        copies = [span for span in verdict.spans if span.engine == "copy_in"]
        assert len(copies) == verdict.read - verdict.zero_copy_activations + verdict.prefetched
    engines_do_one_thing_at_a_time(verdict)


def engines_do_one_thing_at_a_time(verdict: Verdict) -> None:
    ends: dict[tuple[int, str], int] = {}
    for span in verdict.spans:
        engine = (span.gpu, span.engine)
        assert ends.get(engine, 0) <= span.start_ns <= span.end_ns
        ends[engine] = span.end_ns
