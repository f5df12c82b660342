"""What must hold of prefetches, whatever the routing."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moesim.engine.des import run as des
from moesim.engine.outcome import CHARGES, Outcome

from .judge_words import Config, Layer, Model, Prefetch, Software
from .prices import ToyPrices
from .strategies import Case, prefetching_cases
from .wiring import engine_case

SLOW = [HealthCheck.too_slow]
WEIGHTS = CHARGES.index("waiting_for_weights")
EXPERTS, TOP_K, LAYERS = 6, 2, 3
tokens = st.lists(
    st.lists(
        st.lists(st.integers(0, EXPERTS - 1), min_size=TOP_K, max_size=TOP_K, unique=True),
        min_size=LAYERS,
        max_size=LAYERS,
    ),
    min_size=2,
    max_size=8,
)


def play(case: Case) -> Outcome:
    return des.run_des(engine_case(case), records="layer", check=True)


def a_token_a_pass(ids: list[list[list[int]]], prefetch: Prefetch, slots: int) -> Case:
    """Attention takes longer than copying all experts of a layer."""
    trace = {
        "expert_ids": ids,
        "request_id": [0] * len(ids),
        "position": list(range(len(ids))),
        "phase": [1] * len(ids),
    }
    model = Model([Layer(i, moe=True) for i in range(LAYERS)], EXPERTS, TOP_K, 1, 1, 100)
    prices = ToyPrices(base=10_000, copy_latency=5, copy_bytes_a_ns=1)
    config = Config(slots=slots, prefetch=prefetch, software=Software())
    return Case(trace, model, config, prices)


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(tokens, st.integers(TOP_K, EXPERTS - 1), st.integers(1, LAYERS))
def test_an_oracle_with_time_enough_hides_all_stalls_but_the_first(ids, slots, layers) -> None:  # type: ignore[no-untyped-def]
    outcome = play(a_token_a_pass(ids, Prefetch("oracle", layers), slots))
    stall = {(step, layer): waited for step, layer, _, _, _, waited, _ in outcome.layers.tolist()}
    assert stall.pop((0, 0)) > 0
    assert set(stall.values()) == {0}


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(prefetching_cases())
def test_an_oracle_that_recalls_nothing_changes_nothing(case: Case) -> None:
    nothing = replace(case.config.prefetch, kind="oracle", recall=0.0)
    blind = play(replace(case, config=replace(case.config, prefetch=nothing)))
    without = play(replace(case, config=replace(case.config, prefetch=Prefetch())))
    assert (blind.ends == without.ends).all()
    assert (blind.charges == without.charges).all()
    assert (blind.counts.hits == without.counts.hits).all()
    assert blind.counts.prefetched.sum() == 0


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(prefetching_cases())
def test_what_prefetches_did_adds_up(case: Case) -> None:
    counts = play(case).counts
    assert (counts.hits + counts.late + counts.misses == counts.turns).all()
    assert (counts.prefetches_used <= counts.prefetched).all()
    assert (counts.prefetches_promoted <= counts.late).all()
    assert (counts.prefetches_promoted <= counts.prefetches_used).all()
    assert (counts.misses_caused <= counts.misses).all()


@settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
@given(tokens, st.integers(TOP_K, EXPERTS - 1))
def test_a_budget_below_an_expert_prefetches_nothing(ids, slots) -> None:  # type: ignore[no-untyped-def]
    none = play(a_token_a_pass(ids, Prefetch("oracle", LAYERS, budget=99), slots))
    one = play(a_token_a_pass(ids, Prefetch("oracle", LAYERS, budget=100), slots))
    assert none.counts.prefetched.sum() == 0
    assert one.counts.prefetched.sum() > 0
