"""Several formats of every expert: both engines against the reference, and by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from moesim.engine.case import Case as EngineCase
from moesim.engine.des.run import run_des
from moesim.engine.outcome import Outcome
from moesim.engine.replay.run import run_replay

from .agreement import agree
from .reference_batches import whole_run
from .reference_placement import local_experts, physical_experts
from .reference_words import NO_EXPERT, Variant, Verdict
from .strategies import Case, cases, of_few_policies
from .wiring import engine_case

POLICIES = ("lru", "gate_score", "random", "s3fifo", "hobbit")
RULES = ("gate_cumulative", "gate_ratio", "hot_cold", "resident_else")
LIMITS = [(0.6, 0.9), (0.0, 0.5), (1.0, 1.0), (0.4, 1.0), (0.0, 0.0)]


@st.composite
def with_variants(draw: st.DrawFn) -> Case:
    """A case whose experts are kept in two or three formats."""
    case = of_few_policies(draw(cases()), POLICIES)
    local = max(map(len, local_experts(case.model, case.config)))
    few: Any = case.config.slots
    any_slots = st.integers(1, local)
    if few is None or (isinstance(few, int) and few >= local):
        few = draw(st.integers(1, max(1, local - 1)))
    one_of = draw(st.booleans())  # of a layer, each its own
    layers = len(case.model.moe_layers)
    alike = one_of or case.config.scope == "global"
    slots: Any = any_slots if alike else st.lists(any_slots, min_size=layers, max_size=layers)
    sizes = st.integers(1, case.model.expert_bytes)
    variants = st.builds(Variant, sizes, slots, st.integers(0, 3), st.booleans())
    rest = draw(st.lists(variants, min_size=1, max_size=2))
    if any(one.nested for one in rest):  # slices have fewer bytes
        rest.sort(key=lambda one: -one.expert_bytes)
    rule = draw(st.sampled_from(RULES))
    first, last = draw(st.sampled_from(LIMITS))
    limits = (first, last) if len(rest) == 1 else (first, (first + last) / 2, last)
    if rule == "gate_ratio":
        limits = limits[::-1]
    beyond = st.sampled_from(["skip", "low", "substitute", *["high"] * (rule == "resident_else")])
    config = replace(
        case.config,
        slots=few,
        policy="lru" if case.config.policy in ("min", "stream") else case.config.policy,
        gating="dynamic",
        kernels="grouped" if case.config.kernels == "batched" else case.config.kernels,
        prefill="cache",
        miss="load",
        uploads=None,
        sliced=False,
        host_start_ns=0,
        variants=(Variant(case.model.expert_bytes, few), *rest),
        choose=rule,
        limits=limits,
        beyond=draw(beyond),
        use_worse=rule == "resident_else" or draw(st.booleans()),
    )
    if case.config.policy in ("min", "stream"):
        config = replace(config, parameters={})
    return replace(case, config=config)


@given(with_variants())
def test_all_agree(case: Case) -> None:
    verdict = agree(case)
    if case.config.plan is None or len(case.config.plan[0]) == case.model.experts:  # no replicas
        theirs = engine_case(case)
        for outcome in (run_replay(theirs), run_des(theirs)):
            assert fates_of(theirs, outcome) == plain_fates(case, verdict)


Sums = dict[tuple[str, int, int], tuple[int, int]]
"""Choices and gate weight by ("layer" or "request", its number or name, variant)."""


def fates_of(case: EngineCase, outcome: Outcome) -> Sums:
    fates, schedule = outcome.fates, case.schedule
    assert fates is not None
    names = dict(
        zip(schedule.request.tolist(), case.trace.request_id[schedule.rows].tolist(), strict=True)
    )
    found = {}
    for of, sums in (("layer", fates.by_layer), ("request", fates.by_request)):
        for place in range(sums.shape[1]):
            for variant in range(sums.shape[2]):
                choices, weight = sums[:, place, variant].tolist()
                if choices:
                    name = names[place] if of == "request" else place
                    found[of, name, variant] = (choices, weight)
    return found


def plain_fates(case: Case, verdict: Verdict) -> Sums:
    """Each choice has the variant of its expert's activation."""
    served = {}
    for one in verdict.activations:
        held = physical_experts(one.layer, case.model, case.config)
        served[one.step, one.layer, held[one.expert]] = one.variant
    found: Sums = {}
    for each in next(whole_run(case.trace, case.config)):
        for part in each.parts:
            for row in part.rows:
                for layer, ids in enumerate(case.trace["expert_ids"][row]):
                    weights = case.trace["gate_weights"][row][layer]
                    for expert, weight in zip(ids, weights, strict=True):
                        if expert == NO_EXPERT:
                            continue
                        variant = served[each.step, layer, expert]
                        for key in (
                            ("layer", layer, variant),
                            ("request", part.request.request_id, variant),
                        ):
                            choices, so_far = found.get(key, (0, 0))
                            found[key] = (choices + 1, so_far + int(weight * 2**24))
    return found
