"""Instances that prefill and that decode: what each did, and what went from one to the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.outcome import Outcome
from moesim.workload.serving.fleets.disaggregated import Disaggregated
from moesim.workload.serving.fleets.wire import Roles, Sent

MS = 1_000_000
SENT_TIMES = ("kv_wait", "kv_transfer", "kv_exposed")
BY_ROLE = (
    "steps_by_role", "busy_by_role", "hit_ratio_by_role", "misses_by_role", "bytes_h2d_by_role",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Where:
    """Of each request int64[n] the GPU of its first pass and of that which gives its first token;
    ``handed`` int64[2, n]: its last pass where it is prefilled and its first where it is decoded,
    where the latter gives the first token (None: elsewhere). ``columns`` of the table of requests.
    """

    begins: Ints
    gives: Ints
    handed: Ints | None = None
    columns: dict[str, Any] = field(default_factory=dict)


def where_of(case: Case, gpu: Ints, first: Ints) -> Where:
    """``gpu`` int64[n]: the GPU of each request's last token; ``first``: the token that gives its
    first one, -1 without.
    """
    serving, schedule = case.serving, case.schedule
    if serving is None or (apart := serving.apart) is None:
        return Where(gpu, gpu)
    begins, gives = gpu.copy(), np.where(first >= 0, schedule.gpu[first], gpu)
    begins[schedule.request[::-1]] = schedule.gpu[::-1]
    handed, of_pass = None, schedule.pass_of_token()
    if apart.silent:
        handed = np.full((2, len(gpu)), -1)
        prompts = schedule.gpu < prefill_gpus(case)
        handed[0, schedule.request[prompts]] = of_pass[prompts]
        answers = np.flatnonzero(~prompts)[::-1]
        handed[1, schedule.request[answers]] = of_pass[answers]
    return Where(begins, gives, handed, sent_columns(apart))


def prefill_gpus(case: Case) -> int:
    """How many GPUs prefill; they come first."""
    assert case.serving is not None, "requests are served"
    roles = case.serving.routed
    assert isinstance(roles, Roles), "there are instances of both kinds"
    return case.gpus * roles.prefill // roles.instances


def sent_columns(apart: Disaggregated) -> dict[str, Any]:
    """Of each request: where it was prefilled, how long it waited to be sent, how long that took,
    how long after its prompt it was there, and its bytes.
    """
    sent = apart.sent
    times = {f"{name}_ms": ns / MS for name, ns in _times_ns(sent).items()}
    return {"prefill_replica": sent.prefill, **times, "kv_bytes": sent.bytes}


def _times_ns(sent: Sent) -> dict[str, Any]:
    """From when it might begin to its first byte; to when all is there; how long after its prompt
    that is. NaN of what was not sent.
    """
    there = sent.there_ns >= 0
    ready = np.minimum(sent.ended_ns, sent.begin_ns)
    every = (sent.begin_ns - ready, sent.there_ns - sent.begin_ns, sent.there_ns - sent.ended_ns)
    named = zip(SENT_TIMES, every, strict=True)
    return {name: np.where(there, ns, np.nan) for name, ns in named}


def role_keys(case: Case) -> tuple[str, ...]:
    """What the summary of ``case`` has of instances that prefill and that decode."""
    if case.serving is None or not isinstance(case.serving.routed, Roles):
        return ()
    times = (f"{one}_{name}_ms" for name in SENT_TIMES for one in ("mean", "p50", "p99"))
    return ("kv_bytes_sent", *times, *BY_ROLE)


def role_numbers(case: Case, outcome: Outcome) -> dict[str, Any]:
    """Bytes of keys and values that went over the wire, times of that, and by role what its
    instances did: the share of the run in which each had a step, and its experts. Nothing where one
    engine does both.
    """
    if case.serving is None or (apart := case.serving.apart) is None:
        return {}
    numbers: dict[str, Any] = {"kv_bytes_sent": int(apart.sent.bytes.sum())}
    for name, ns in _times_ns(apart.sent).items():
        known = ns[~np.isnan(ns)] / MS
        which: dict[str, Callable[[Any], Any]] = {
            "mean": np.mean,
            "p50": np.median,
            "p99": lambda one: np.percentile(one, 99),
        }
        for one, of in which.items():
            numbers[f"{one}_{name}_ms"] = float(of(known)) if len(known) else None
    return numbers | _by_role(case, outcome)


def _by_role(case: Case, outcome: Outcome) -> dict[str, dict[str, Any]]:
    """``BY_ROLE``, of those that prefill and of those that decode."""
    roles = case.serving and case.serving.routed
    assert isinstance(roles, Roles), "there are instances of both kinds"
    prompts = case.schedule.gpu[case.schedule.offsets[:-1]] < prefill_gpus(case)
    counts, spent = outcome.counts, outcome.ends.max(axis=1) - outcome.starts.min(axis=1)
    duration = int(outcome.ends.max() - outcome.starts.min())
    copied = counts.expert_bytes_to_gpus(case)
    needs, hits, late = (
        one.sum(axis=(1, 2)) for one in (counts.activations, counts.hits, counts.late)
    )

    def of(mine: Any, instances: int) -> tuple[Any, ...]:
        asked, whole = int(needs[mine].sum()), instances * duration
        return (
            int(mine.sum()),
            float(spent[mine].sum() / whole) if whole else None,
            float(hits[mine].sum() / asked) if asked else None,
            int((needs - hits - late)[mine].sum()),
            int(copied[mine].sum()),
        )

    both = zip(BY_ROLE, of(prompts, roles.prefill), of(~prompts, roles.decode), strict=True)
    return {name: {"prefill": first, "decode": last} for name, first, last in both}
