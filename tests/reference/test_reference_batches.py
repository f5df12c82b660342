"""Passes worked by hand from docs/semantics.md."""

from __future__ import annotations

from .reference_batches import Pass, passes_of
from .reference_words import Config, Trace


def trace_of(*requests: tuple[int, int]) -> Trace:
    """(prompt tokens, decode tokens) of every request; 10 x request + n names a token."""
    trace: Trace = {"expert_ids": [], "request_id": [], "position": [], "phase": []}
    for number, (prompt, answer) in enumerate(requests):
        for n in range(prompt + answer):
            trace["request_id"].append(number)
            trace["position"].append(n)
            trace["phase"].append(0 if n < prompt else 1)
    return trace


def shown(passes: list[Pass], trace: Trace) -> list[str]:
    """For instance "d 0:3@1": a decode pass with token 3 of request 0 on GPU 1."""
    return [
        " ".join(
            ["pde"[one.phase]]
            + [
                f"{part.request.request_id}:{''.join(str(trace['position'][r]) for r in part.rows)}"
                f"@{part.gpu}"
                for part in one.parts
            ]
        )
        for one in passes
    ]


def test_static_waits_for_the_longest() -> None:
    trace = trace_of((1, 1), (2, 3), (0, 1))
    config = Config(batch_size=2, phase="all", gpus=2)
    assert shown(passes_of(trace, config), trace) == [
        "p 0:0@0 1:01@1",
        "d 0:1@0 1:2@1",
        "d 1:3@1",
        "d 1:4@1",
        "d 2:0@0",
    ]


def test_refill_fills_a_slot_at_once_and_a_slot_keeps_its_gpu() -> None:
    trace = trace_of((1, 1), (2, 3), (1, 0), (0, 2), (1, 1))
    config = Config(batching="refill", batch_size=2, phase="all", gpus=2)
    assert shown(passes_of(trace, config), trace) == [
        "p 0:0@0 1:01@1",
        "d 0:1@0 1:2@1",
        "p 2:0@0",  # nothing to decode: leaves, and 3 (no prompt) takes the slot
        "d 3:0@0 1:3@1",
        "d 3:1@0 1:4@1",
        "p 4:0@0",
        "d 4:1@0",
    ]


def test_decode_only_skips_the_prompts_and_those_who_have_nothing_else() -> None:
    trace = trace_of((1, 1), (2, 0), (1, 2))
    config = Config(batching="refill", batch_size=2)
    assert shown(passes_of(trace, config), trace) == ["d 0:1@0 2:1@0", "d 2:2@0"]


def test_prefill_is_one_pass_a_batch_also_under_refill() -> None:
    trace = trace_of((1, 1), (0, 2), (3, 0), (2, 2))
    config = Config(batching="refill", batch_size=2, phase="prefill")
    assert shown(passes_of(trace, config), trace) == ["p 0:0@0 2:012@0", "p 3:01@0"]
