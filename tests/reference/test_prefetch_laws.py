"""What must hold of prefetches, whatever the routing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import patch

from hypothesis import assume, given
from hypothesis import strategies as st

from moesim.engine.outcome import Outcome
from moesim.engine.replay.run import run_replay
from moesim.hardware.charge import CHARGES

from .agreement import assert_same
from .prices import ToyPrices
from .reference import reference
from .reference_ahead import Ahead
from .reference_words import Activation, Config, Layer, Model, Prefetch, Software
from .strategies import Case, few
from .strategies_prefetch import prefetching_cases
from .wiring import engine_case

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
    return run_replay(engine_case(case), records="layer")


def beside(config: Config) -> Config:
    """Of software that copies beside kernels, as all but what is predicted before passes needs."""
    return replace(config, software=replace(config.software, blocking=False, overlap=True))


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


@given(tokens, st.integers(TOP_K, EXPERTS - 1), st.integers(1, LAYERS))
def test_an_oracle_with_time_enough_hides_all_stalls_but_the_first(ids, slots, layers) -> None:
    outcome = play(a_token_a_pass(ids, Prefetch("oracle", layers), slots))
    stall = {(step, layer): waited for step, layer, _, _, _, waited, _ in outcome.layers.tolist()}
    assert stall.pop((0, 0)) > 0
    assert set(stall.values()) == {0}


BY_OWN_ACTIVATIONS = ("lru", "fifo", "lfu", "lfru", "static", "min")
"""Policies whose order of two residents changes only with an activation of one of them. ``lifo`` is
none: it tells apart loads of one layer, and prefetches of one layer are loaded at one time.
"""


@few
@given(
    prefetching_cases(),
    st.sampled_from(BY_OWN_ACTIVATIONS),
    st.integers(1, 4),
    st.sampled_from([(), (), (0.75,), (1.0, 0.5)]),
)
def test_an_oracle_copies_what_is_copied_without_it(
    case: Case, policy: str, layers: int, chances: tuple[float, ...]
) -> None:
    """Foresight moves copies in time. It neither spares any, nor makes any more: with the slots of
    each layer, misses that are loaded and activations in order, whatever the budget and the GPUs,
    and whatever drafts are verified, of which the rejected ones need experts, too. Others than lru
    may want to evict what the layer just decided needs, for itself in the next pass.
    """
    stacks = {layer.stack for layer in case.model.layers}
    assume(policy == "lru" or (len(case.model.moe_layers) > layers and stacks == {"decoder"}))
    choices: dict[str, Any] = {
        "scope": "layer",
        "protect": "step",
        "order": "id",
        "miss": "load",
        "uploads": None,
        "parameters": {},
    }
    config = replace(beside(case.config), policy=policy, **choices)
    config = replace(config, chances=chances, drafts=len(chances))
    oracle = Prefetch("oracle", layers, budget=config.prefetch.budget)
    ahead = play(replace(case, config=replace(config, prefetch=oracle))).counts
    plain = play(replace(case, config=replace(config, prefetch=Prefetch()))).counts
    assert (ahead.read == plain.read).all()
    assert (ahead.misses + ahead.late <= plain.misses).all()
    assert (ahead.prefetches_used == ahead.prefetched).all()


@few
@given(prefetching_cases(), st.integers(1, 4))
def test_an_oracle_never_makes_a_run_longer_where_the_host_copies_for_free(
    case: Case, layers: int
) -> None:
    """Copies only come earlier, and none before one that was needed sooner. (Where issuing a copy
    holds the host, the host may be late for the kernels of an earlier layer.)
    """
    choices: dict[str, Any] = {
        "scope": "layer",
        "protect": "step",
        "order": "id",
        "miss": "load",
        "uploads": None,
        "policy": "lru",
    }
    free = replace(beside(case.config).software, host_per_copy_ns=0.0)
    config = replace(case.config, software=free, parameters={}, **choices)
    oracle = Prefetch("oracle", layers, budget=config.prefetch.budget)
    ahead = play(replace(case, config=replace(config, prefetch=oracle)))
    plain = play(replace(case, config=replace(config, prefetch=Prefetch())))
    assert ahead.duration_ns <= plain.duration_ns


@few
@given(prefetching_cases())
def test_no_prefetch_takes_the_place_of_what_is_predicted(case: Case) -> None:
    """Of the reference, to which the engines are equal: over predictors, policies and scopes."""
    issue = Ahead.issue

    def watched(
        ahead: Ahead, step: int, layer: int, activations: list[Activation], now: int
    ) -> None:
        predicted = {
            (target[1], expert)
            for target in ahead.predictions.layers_ahead(step, layer)
            for expert in ahead.predictions.of((step, layer), target, ahead.g)
        }
        there = {one for one in predicted if one in ahead.caches[one[0]][0].resident}
        issue(ahead, step, layer, activations, now)
        assert all(one in ahead.caches[one[0]][0].resident for one in there)

    with patch.object(Ahead, "issue", watched):
        reference(case.trace, case.model, case.config, case.prices)


@few
@given(prefetching_cases())
def test_an_oracle_that_recalls_nothing_changes_nothing(case: Case) -> None:
    nothing = replace(case.config.prefetch, kind="oracle", recall=0.0, cost=0)
    blind = play(replace(case, config=replace(case.config, prefetch=nothing)))
    without = play(replace(case, config=replace(case.config, prefetch=Prefetch())))
    assert (blind.ends == without.ends).all()
    assert (blind.charges == without.charges).all()
    assert (blind.counts.hits == without.counts.hits).all()
    assert blind.counts.prefetched.sum() == 0


@few
@given(prefetching_cases())
def test_what_prefetches_did_adds_up(case: Case) -> None:
    counts = play(case).counts
    assert (counts.hits + counts.late + counts.misses == counts.activations).all()
    used, copied = counts.prefetches_used, counts.prefetched
    assert (used.sum(axis=0) <= copied.sum(axis=0)).all()
    # a copy for several passes is counted in the last that wants it, its use in the first
    assert case.config.prefetch.every > 1 or (used <= copied).all()
    assert (counts.prefetches_promoted <= counts.late).all()
    assert (counts.prefetches_promoted <= counts.prefetches_used).all()
    assert (counts.misses_caused <= counts.misses).all()


@given(tokens, st.integers(TOP_K, EXPERTS - 1))
def test_a_budget_below_an_expert_prefetches_nothing(ids, slots) -> None:
    none = play(a_token_a_pass(ids, Prefetch("oracle", LAYERS, budget=99), slots))
    one = play(a_token_a_pass(ids, Prefetch("oracle", LAYERS, budget=100), slots))
    assert none.counts.prefetched.sum() == 0
    assert one.counts.prefetched.sum() > 0


@few
@given(prefetching_cases(), st.sampled_from([0.3, 0.6, 1.0]))
def test_one_recall_for_all_distances_is_that_recall(case: Case, recall: float) -> None:
    """What is drawn does not depend on the distance."""
    config, layers = beside(case.config), case.config.prefetch.layers
    one = Prefetch("oracle", layers, recall, precision=0.5, stop=config.prefetch.stop)
    each = replace(one, recall=(recall,) * layers, precision=(0.5,) * layers)
    outcomes = [play(replace(case, config=replace(config, prefetch=p))) for p in (one, each)]
    assert_same(*outcomes)


@few
@given(prefetching_cases())
def test_a_predictor_blind_beyond_the_next_layer_is_one_of_one_layer(case: Case) -> None:
    """As far as no layer of the next pass comes before, which it sees from the last one alone."""
    two = Prefetch("oracle", 2, (1.0, 0.0))
    one = Prefetch("oracle", 1)
    config = beside(case.config)
    outcomes = [play(replace(case, config=replace(config, prefetch=p))) for p in (two, one)]
    assert_same(*outcomes)


def one_by_one(case: Case) -> Case:
    return replace(case, config=replace(case.config, kernels="serial"))


def before_pass(every: int = 1, **choices: Any) -> Prefetch:
    return Prefetch("oracle", when="before_pass", every=every, **choices)


@given(tokens, st.integers(TOP_K, EXPERTS - 1))
def test_with_room_for_a_pass_all_that_is_predicted_before_it_is_a_hit(ids, slots) -> None:
    """And the time is what it is with all experts there, and that of the copies. (Kernels of single
    experts wait for the counts, wherever the experts are.)
    """
    ahead, plain, all_there = (
        play(one_by_one(a_token_a_pass(ids, prefetch, number)))
        for prefetch, number in ((before_pass(), slots), (Prefetch(), slots), (Prefetch(), EXPERTS))
    )
    assert (ahead.counts.hits == ahead.counts.activations).all()
    assert ahead.counts.read.sum() == plain.counts.read.sum()
    copies = int(ahead.counts.prefetched.sum())
    assert ahead.duration_ns == all_there.duration_ns + copies * (5 + 100)
    assert ahead.charges[..., WEIGHTS].sum() == copies * (5 + 100)


@few
@given(tokens, st.integers(TOP_K, EXPERTS - 1), st.integers(1, 3), st.integers(1, 5000))
def test_what_predicting_costs_is_added_exactly(ids, slots, every, cost) -> None:
    """Once before each so many passes; behind each gate of a predictor that recalls nothing."""
    free = play(a_token_a_pass(ids, before_pass(every), slots))
    paid = play(a_token_a_pass(ids, before_pass(every, cost=cost), slots))
    assert paid.duration_ns == free.duration_ns + cost * -(-len(ids) // every)
    assert paid.charges[..., -1].sum() == paid.duration_ns - free.duration_ns
    blind = Prefetch("oracle", recall=0.0, cost=cost)
    without, seen = (play(a_token_a_pass(ids, p, slots)) for p in (Prefetch(), blind))
    assert seen.duration_ns == without.duration_ns + cost * LAYERS * len(ids)


@given(tokens, st.integers(TOP_K, EXPERTS - 1), st.integers(1, 8))
def test_passes_predicted_together_keep_what_any_of_them_needs(ids, slots, every) -> None:
    """Nothing is copied twice in passes that are predicted together, if there is room for them."""
    outcome = play(a_token_a_pass(ids, before_pass(every), slots))
    copied = outcome.counts.read.sum(axis=2)
    for first in range(0, len(ids), every):
        of_all = [{e for token in ids[first : first + every] for e in token[m]} for m in range(3)]
        if max(map(len, of_all)) <= slots:
            here = slice(first, first + every)
            assert (copied[here].sum(axis=0) <= [len(needed) for needed in of_all]).all()
            assert outcome.counts.misses[here].sum() == 0
