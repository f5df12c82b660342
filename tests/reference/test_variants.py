"""Several formats of every expert: both engines against the reference, and by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from .agreement import agree
from .reference_placement import local_experts
from .reference_words import Variant
from .strategies import Case, cases, of_few_policies

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
    variants = st.builds(Variant, sizes, slots, st.integers(0, 3))
    rest = draw(st.lists(variants, min_size=1, max_size=2))
    rule = draw(st.sampled_from(RULES))
    first, last = draw(st.sampled_from(LIMITS))
    limits = (first, last) if len(rest) == 1 else (first, (first + last) / 2, last)
    if rule == "gate_ratio":
        limits = limits[::-1]
    beyond = st.sampled_from(["skip", "low", *["high"] * (rule == "resident_else")])
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
    agree(case)
