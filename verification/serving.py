"""Experiments whose requests are served, by one engine and by several: both engines against the
slow reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from hypothesis import strategies as st

from tests.reference.fleets import Judges, replicas_of
from tests.reference.served_by_others import WAYS, served_by
from tests.reference.served_by_vllm import Seen, agree_on_served, served_by_vllm
from tests.reference.serving_cases import ServingCase
from tests.reference.strategies import Case
from tests.reference.test_fleets import OF_REPLICAS, OF_ROLES, replicas_agree, roles_agree
from verification.check import Measured, check
from verification.drawn import Comparison, differing

EXAMPLES, OF_FLEETS = 10_000, 2_000
SHARE, OTHERS = 1 / 3, 1 / 10
"""Of the experiments under vLLM's scheduler so many are to preempt, and so many to need more
experts than slots; of all so many are under each other one.
"""


@check(
    "Where requests are served both engines and the reference say the same to the nanosecond (under"
    " SGLang's scheduler both engines), of cases of which a tenth each are under llama.cpp's,"
    " TensorRT-LLM's and SGLang's; under vLLM's a third preempt and a third need more experts than"
    " there are slots",
    tolerance=0,
    why="all are written from docs/semantics.md and docs/serving.md, the reference shares no code"
    " with them, and all count in integers",
    unit="experiments that differ, or are missing to a third",
)
def served_cases_agree() -> Measured:
    """Preempted are those whose played schedule takes blocks from a request."""
    return served_cases(EXAMPLES, start=2029)


def served_cases(examples: int, start: int) -> Measured:
    """The same of ``examples`` drawn from the seed ``start``."""
    each = round(OTHERS * examples)
    own = _under_vllm(examples - each * len(WAYS), start)
    others = [_under(kind, each, start) for kind in WAYS]
    deviation = own.deviation + sum(one.deviation for one in others)
    return replace(own, deviation=deviation, detail="; ".join(m.detail for m in (own, *others)))


def _under(kind: str, examples: int, start: int) -> Measured:
    """Those under the scheduler ``kind``."""

    def compared(one: tuple[Case, ServingCase, Any]) -> Comparison:
        case, serving, rules = one
        return Comparison(f"under {kind}", f"{case.config}, {serving}, {rules}",
                          partial(WAYS[kind].play, *one))  # fmt: skip

    return differing(compared, served_by(kind), examples=examples, start=start)


def _under_vllm(examples: int, start: int) -> Measured:
    seen: list[Seen] = []

    def of_policy(both: tuple[Case, ServingCase]) -> Comparison:
        case, serving = both
        name = f"{case.config}, {serving}"
        kind = "with prompts around" if case.config.prefill != "cache" else "with all cached"
        return Comparison(kind, name, partial(_play, both, seen))

    found = differing(of_policy, served_by_vllm(), examples=examples, start=start)
    told, missing = _shares(seen, examples)
    return replace(found, deviation=found.deviation + missing, detail=f"{told}; {found.detail}")


def _play(both: tuple[Case, ServingCase], seen: list[Seen]) -> None:
    seen.append(agree_on_served(*both))


def _shares(seen: list[Seen], examples: int) -> tuple[str, int]:
    """What the cases had in them, and how many are missing to the shares that are asked for."""
    counts = {
        "preempt": sum(one.preempted > 0 for one in seen),
        "need more experts than there are slots": sum(one.exceeds for one in seen),
    }
    missing = sum(max(0, round(SHARE * examples) - count) for count in counts.values())
    ends = sum(one.endless for one in seen)
    told = [f"{count} ({100 * count / examples:.0f} %) {what}" for what, count in counts.items()]
    both = sum(one.preempted > 0 and one.exceeds for one in seen)
    told += [f"{both} do both", f"{ends} never end, and say so"]
    return ", ".join(told), missing


@check(
    "Replicas behind a router, and prompts and answers on instances of their own: both engines say"
    " what the reference does of each of them, led by a judge, to the nanosecond",
    tolerance=0,
    why="as above; the judge of docs/serving.md shares no code with what leads the engines",
    unit="experiments that differ",
)
def fleets_agree() -> Measured:
    """Half have prompts and answers apart."""
    half = OF_FLEETS // 2
    both = [
        _fleets("replicas", OF_REPLICAS, replicas_agree, half),
        _fleets("apart", OF_ROLES, roles_agree, half),
    ]
    deviation = sum(one.deviation for one in both)
    return replace(both[0], deviation=deviation, detail="; ".join(one.detail for one in both))


def _fleets(
    name: str, drawn: tuple[st.SearchStrategy[Any], ...], agree: Callable[..., Judges], count: int
) -> Measured:
    seen: list[tuple[int, int]] = []

    def play(one: tuple[Any, ...]) -> None:
        every = replicas_of(agree(*one))
        preempted = sum(r.preemptions for found in every for r in found.judge.requests)
        seen.append((sum(bool(found.judge.steps) for found in every), preempted))

    def compared(one: tuple[Any, ...]) -> Comparison:
        return Comparison(name, f"{one}", partial(play, one))

    found = differing(compared, st.tuples(*drawn), examples=count, start=2033)
    several, preempt = (sum(one[k] > 1 - k for one in seen) for k in range(2))
    return replace(found, detail=f"{found.detail}, {several} on several, {preempt} preempt")
