"""Workloads that Vidur and moesim both play, and what moesim's scheduler ``vllm`` makes of them."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import numpy as np

from moesim.workload.serving.state import Asked, Room, State
from moesim.workload.serving.vllm import Vllm
from verification.scheduling import StepTime, served

STEP = 8
"""Ticks that a step takes: 15.625 ms."""
COUNT, MANY, FEW = 512, 4096, 24
SMALLER, FEWER_BLOCKS = 8, 32
"""What lengths and limits, and blocks, of FEW requests are divided by."""
PLENTY = 1 << 20
Case = dict[str, Any]


def drawn(name: str, count: int, *, answers: int = 200, gap: int = 8, **rules: Any) -> Case:
    """``count`` requests, [prompt, answer, arrival] each: prompts of 1 to 600 tokens, answers of up
    to ``answers``, ``gap`` ticks apart in the mean.
    """
    rng = np.random.default_rng([crc32(name.encode()), count])
    smaller, fewer = (SMALLER, FEWER_BLOCKS) if count == FEW else (1, 1)
    prompts = rng.integers(1, 600 // smaller, count, endpoint=True)
    lengths = rng.integers(1, max(1, answers // smaller), count, endpoint=True)
    arrivals = np.cumsum(rng.integers(0, 2 * gap, count, endpoint=True))
    columns = (prompts.tolist(), lengths.tolist(), arrivals.tolist())
    case: Case = {
        "name": name, "kind": "sarathi", "most": 64, "budget": 512, "size": 16, "step": STEP,
        "blocks": PLENTY, "watermark": 0.0, "as_v1": False,
    }  # fmt: skip
    case |= rules | {"requests": [list(one) for one in zip(*columns, strict=True)]}
    limits = {name: case[name] // smaller for name in ("most", "budget")}
    return case | limits | {"blocks": case["blocks"] // fewer}


def alike(count: int) -> list[Case]:
    """Workloads in which the rules of both are the same."""
    preempts: Case = {"budget": PLENTY, "blocks": 400, "as_v1": True}
    return [
        drawn("prompts in chunks", count),
        drawn("all at once", count, gap=0),
        drawn("small budget", count, budget=96),
        drawn("few seats", count, most=16),
        drawn("few blocks, watermark", count, blocks=1200, watermark=0.25),
        drawn("preemption, as vLLM V1", count, **preempts),
        drawn("preemption, watermark, as vLLM V1", count, **preempts, watermark=0.05),
        drawn("whole prompts alone", count, kind="vllm", answers=1, gap=2, budget=1024),
        drawn("whole prompts, all at once", count, kind="vllm", gap=0, budget=PLENTY, most=COUNT),
    ]


def unlike(count: int) -> list[Case]:
    """Workloads in which they are not."""
    return [
        drawn("whole prompts beside answers", count, kind="vllm", budget=1024),
        drawn("preemption by Vidur's rules", count, budget=PLENTY, blocks=400),
    ]


def ours(case: Case) -> State:
    """The same by scheduler ``vllm``, decided when the step before has ended."""
    prompts, answers, arrivals = np.array(case["requests"], np.int64).T
    none = np.zeros(len(prompts), np.int64)
    scheduler = Vllm.model_validate(
        {
            "max_num_batched_tokens": case["budget"],
            "max_num_seqs": case["most"],
            "enable_chunked_prefill": case["kind"] != "vllm",
            "watermark": f"{100 * case['watermark']:g} %",
            "async_scheduling": False,
        }
    )
    room = Room(blocks=case["blocks"], block_size=case["size"])
    asked = Asked(prompts, answers, arrivals, none, none - 1, none)
    return served(asked, scheduler, StepTime(case["step"]), room)


def differing(mine: list[Any], other: list[Any]) -> int:
    """Steps of the longer schedule that the other does not have in their place."""
    same = [one for one, two in zip(mine, other, strict=False) if one == two]
    return max(len(mine), len(other)) - len(same)


def latencies(case: Case, steps: list[Any]) -> tuple[float, float]:
    """Mean steps from arrival to the first token, and from token to token."""
    asked = np.array(case["requests"])
    left, first, last = asked[:, 0].copy(), np.zeros(len(asked)), np.zeros(len(asked))
    for decided, entries, *_ in steps:
        who, counts = np.array(entries).T
        ends = who[(left[who] > 0) & (left[who] <= counts)]
        left[who] -= counts
        first[ends] = last[who] = decided + case["step"]
    more = asked[:, 1] > 1
    each = (last - first)[more] / (asked[more, 1] - 1)
    tpot = each.mean() / case["step"] if more.any() else np.nan
    return float((first - asked[:, 2]).mean() / case["step"]), float(tpot)
