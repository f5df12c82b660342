"""Laws of every run of requests that are served, whatever the scheduler: docs/serving.md."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

import moesim
from verification.check import Measured, check

if TYPE_CHECKING:
    from moesim.results import Result

SEQS, BUDGET = 6, 64
SCHEDULERS: tuple[dict[str, Any], ...] = (
    {"kind": "vllm", "max_num_batched_tokens": BUDGET},
    {"kind": "vllm", "max_num_batched_tokens": BUDGET, "async_scheduling": False},
    {"kind": "sglang", "chunked_prefill_size": BUDGET},
    {"kind": "trtllm", "max_num_tokens": BUDGET, "enable_chunked_context": True},
    {"kind": "llama.cpp", "n_batch": 4 * BUDGET, "n_ubatch": BUDGET},
)
ARRIVALS: tuple[dict[str, Any], ...] = (
    {"kind": "at_once"},
    {"kind": "poisson", "request_rate": "60 requests/s"},
    {"kind": "closed_loop", "max_concurrency": 5, "think_time": "4 ms"},
)
CLIENTS, ROUNDS, THINK_MS = 8, 60, 20.0

Settings = dict[str, Any]


def settings() -> Iterator[Settings]:
    """Every scheduler with each way to come, with blocks for few and with blocks for all."""
    for scheduler in SCHEDULERS:
        for arrivals in ARRIVALS:
            for blocks in ("16 blocks", "auto"):
                yield served(scheduler, arrivals, blocks, requests=40)


def served(scheduler: Settings, arrivals: Settings, blocks: str, requests: int) -> Settings:
    """An experiment of a tiny model, half of whose experts are in slots."""
    own = scheduler if blocks == "auto" else {**scheduler, "max_num_seqs": SEQS}
    return {
        "name": f"{scheduler['kind']}, {arrivals['kind']}, {blocks}",
        "model": "small-moe",
        "hardware": "rtx-4060-8gb",
        "software": "ideal",
        "trace": "traces/small-moe.parquet",
        "workload": {
            "requests": requests,
            "arrivals": arrivals,
            "lengths": {"kind": "random", "input_len": 60, "output_len": 30, "range_ratio": 0.5},
            "routing": {"kind": "draw"},
            "batching": {"kind": "continuous", "scheduler": {"max_num_seqs": SEQS, **own}},
        },
        "memory": {"kv": blocks, "block_size": 16},
        "experts": {"capacity": "16 slots/layer"},
    }


@cache
def runs() -> tuple[tuple[Settings, Result], ...]:
    """Each experiment run once, with the engine's own invariants checked on the way."""
    return tuple((one, moesim.run(one, check=True)) for one in settings())


def worst(found: list[tuple[int, str]]) -> Measured:
    """The largest of deviations, with the experiment that it is from."""
    most = max(found)
    return Measured(float(most[0]), f"{len(found)} runs; farthest: {most[1]}")


def covered_ns(begins: Any, ends: Any) -> int:
    """How long at least one of the intervals is, in ns."""
    order = np.argsort(begins, kind="stable")
    begin, end = np.asarray(begins)[order], np.maximum.accumulate(np.asarray(ends)[order])
    before = np.concatenate(([begin[0]], end[:-1]))
    return int(np.maximum(0, end - np.maximum(begin, before)).sum())


def idle_ns(result: Result) -> int:
    """How far the time of all steps is from that in which a request waits or runs, in ns."""
    asked, steps = result.requests, result.steps
    busy = int((steps.end_ns - steps.start_ns).sum())
    return abs(busy - covered_ns(asked.arrival_ns, asked.last_token_ns))


def beyond_limits(result: Result) -> int:
    """Steps with too many tokens, too many that run, or other blocks than there are, and tokens
    that are too many or too few.
    """
    steps, told = result.steps, result.summary
    wrong = int((steps.tokens > BUDGET).sum() + (steps.running > SEQS).sum())
    wrong += int((~steps.free_blocks.between(0, told["kv_blocks"])).sum())
    tokens = int(told["total_input_tokens"] + told["total_output_tokens"] - told["completed"])
    again = int(told["recomputed_tokens"] - told["prefix_cache_hits_tokens"])
    return wrong + abs(int(steps.tokens.sum()) - tokens - again)


def away_from_little_ns(result: Result) -> int:
    """How far requests in the system, over time, are from the sum of their E2EL, and each of these
    from a first token's time and the gaps behind it, in ns.
    """
    asked = result.requests
    sent, last = asked.arrival_ns.to_numpy(), asked.last_token_ns.to_numpy()
    at = np.unique(np.concatenate((sent, last)))
    inside = (sent[:, None] <= at[:-1]) & (last[:, None] > at[:-1])
    apart = abs(int((inside.sum(axis=0) * np.diff(at)).sum()) - int((last - sent).sum()))
    gaps = result.itl.groupby("request_id").itl_ns.sum()
    parts = (asked.first_token_ns - asked.arrival_ns).to_numpy()
    parts = parts + gaps.reindex(asked.request_id, fill_value=0).to_numpy()
    return apart + int(np.abs(parts - (last - sent)).sum())


@check(
    "No GPU is idle while a request is in the system: steps last as long as there is one",
    tolerance=0,
    why="a step is decided at once where one can be, of a host that takes no time, in whole ns",
    unit="ns",
)
def served_work_is_conserved() -> Measured:
    """The time of all steps is the time in which at least one request waits or runs."""
    return worst([(idle_ns(result), one["name"]) for one, result in runs()])


@check(
    "A step has no more tokens than its budget, no more requests run than may, and tokens of steps"
    " are those of prompts and answers, one less a request, and those computed again",
    tolerance=0,
    why="that is what the limits mean; the last token of an answer is in no pass",
    unit="violations",
)
def served_steps_keep_their_limits() -> Measured:
    """Some of the runs preempt."""
    preempting = sum(result.summary["preemptions"] > 0 for _, result in runs())
    found = worst([(beyond_limits(result), one["name"]) for one, result in runs()])
    deviation = found.deviation + (preempting == 0)
    return replace(found, deviation=deviation, detail=f"{preempting} preempt; {found.detail}")


@check(
    "Little's law of clients: requests in the system, over time, are the sum of their E2EL, and"
    " each E2EL is a first token's time and all gaps",
    tolerance=0,
    why="an identity of the table of requests, in whole ns",
    unit="ns",
)
def served_requests_obey_little() -> Measured:
    return worst([(away_from_little_ns(result), one["name"]) for one, result in runs()])


@check(
    "The interactive law: clients that think for Z between requests send N / (E2EL + Z) a second",
    tolerance=100 * 2 / ROUNDS,
    why="clients are never all away but in their first and their last round of 60, so that a run"
    " is off by two rounds at most",
    unit="%",
)
def served_clients_obey_the_interactive_law() -> Measured:
    """Over the time in which clients still have requests to send."""
    loop = {"kind": "closed_loop", "max_concurrency": CLIENTS, "think_time": f"{THINK_MS} ms"}
    found = []
    for scheduler in SCHEDULERS:
        one = served(scheduler, loop, "auto", requests=CLIENTS * ROUNDS)
        asked = moesim.run(one, check=True).requests
        seconds = (asked.arrival_ns.max() - asked.arrival_ns.min()) / 1e9
        rate = (len(asked) - CLIENTS) / seconds
        law = 1e3 * CLIENTS / (asked.e2el_ms.mean() + THINK_MS)
        found.append((100 * abs(rate / law - 1), one["name"]))
    far, name = max(found)
    return Measured(float(far), f"farthest: {name}")


@check(
    "TensorRT-LLM computes prompts whole: those that fill a step run alone, so that many clients"
    " take as long as one with as many requests; any shorter ones take less",
    tolerance=0,
    why="no answer fits beside such a prompt, and it fits beside none, whatever else is under way",
    unit="ns",
)
def served_prompts_that_fill_a_step_run_alone() -> Measured:
    """Of clients 1 and 4, with prompts of the step's tokens and of a few less."""
    alone, beside = (_takes_ns(BUDGET, clients) for clients in (1, 4))
    shorter, sooner = (_takes_ns(BUDGET - SEQS, clients) for clients in (1, 4))
    told = f"{alone / 1e6:.3f} ms; of a few tokens less {shorter / sooner:.2f} times as fast"
    return Measured(abs(beside - alone) if sooner < shorter else float("inf"), told)


def _takes_ns(tokens: int, clients: int) -> int:
    """How long 12 requests take with prompts of so many tokens, of so many clients."""
    arrivals = {"kind": "closed_loop", "max_concurrency": clients}
    run = served({"kind": "trtllm", "max_num_tokens": BUDGET}, arrivals, "auto", requests=12)
    lengths = {"kind": "fixed", "input_len": tokens, "output_len": 8}
    steps = moesim.run({**run, "workload": {**run["workload"], "lengths": lengths}}).steps
    return int(steps.end_ns.max() - steps.start_ns.min())
