"""Hypothesis strategies: rules that change what tokens choose."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume
from hypothesis import strategies as st

from .reference_routing import NothingLeftError, Rule, pass_of_rows, reroute
from .strategies import Case, cases
from .strategies_prefetch import prefetching_cases

SHARES = st.sampled_from([0.1, 0.25, 0.5, 0.75, 1.0])

cuts = st.one_of(
    st.builds(lambda k: {"kind": "top_k", "k": k}, st.integers(1, 4)),
    st.builds(
        lambda epsilon: {"kind": "threshold", "epsilon": epsilon},
        st.sampled_from([0.0, 0.5, 1.5, 4.0]),
    ),
    st.builds(lambda p: {"kind": "top_p", "p": p}, SHARES),
    st.builds(
        lambda least, ratio: {"kind": "gate_ratio", "least": least, "ratio": ratio},
        st.integers(1, 3),
        SHARES,
    ),
    st.builds(
        lambda epsilon: {"kind": "threshold_top_k", "epsilon": epsilon},
        st.sampled_from([0.0, 0.5, 1.5, 4.0]),
    ),
    st.builds(
        lambda experts, least: {"kind": "xshare", "experts": experts, "least": least},
        st.integers(1, 4),
        st.integers(0, 2),
    ),
)

prunes = st.builds(
    lambda keep, learn, score, then: {
        "kind": "prune", "keep": keep, "learn": learn, "score": score, "then": then,
    },
    st.sampled_from([0.5, 0.75, 1.0]),
    SHARES,
    st.sampled_from(["gate_weight", "tokens"]),
    st.sampled_from(["renormalise", "drop"]),
)  # fmt: skip


def rerouted(draw: st.DrawFn, case: Case) -> Case:
    """``case`` by one rule or two, as far as these leave it an experiment."""
    kinds: list[st.SearchStrategy[Rule]] = [cuts]
    if "predicted_ids" in case.trace:
        kinds.append(st.just({"kind": "predicted"}))
    if may_prune(case):
        kinds.append(prunes)
    rules = draw(st.lists(st.one_of(kinds), min_size=1, max_size=2))
    try:
        passes = pass_of_rows(case.trace, case.config)
        found = reroute(case.trace, case.model, rules, passes)
    except NothingLeftError:
        return case
    if found.model.experts < max(2, case.config.gpus):
        return case
    recorded = case.trace, case.model, rules
    return replace(case, trace=found.trace, model=found.model, recorded=recorded)


@st.composite
def rerouted_cases(draw: st.DrawFn) -> Case:
    """With and without a recorded look-ahead, of models with encoders too."""
    case = rerouted(draw, draw(cases() | prefetching_cases()))
    assume(case.recorded is not None)
    return case


def may_prune(case: Case) -> bool:
    """Whether fewer experts leave the rest of ``case`` as it may be."""
    config = case.config
    others = config.variants or config.plan or config.rebalance or config.pool_bytes
    whole = config.host_slots is None and config.prefetch.kind == "none"
    return whole and not others and not config.sliced
