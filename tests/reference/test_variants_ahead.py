"""Prefetches of experts that are kept in several formats: both engines, the reference, and laws."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given

from .agreement import agree, verdict_of
from .prices import ToyPrices
from .reference_words import Config, Layer, Model, Prefetch, Variant
from .scenes import scene
from .strategies import Case, few
from .strategies_variants import prefetching_variants


@few
@given(prefetching_variants())
def test_all_agree(case: Case) -> None:
    agree(case)


@few
@given(prefetching_variants())
def test_a_prefetch_that_predicts_nothing_is_none(case: Case) -> None:
    nothing = replace(case.config.prefetch, kind="oracle", recall=0.0, precision=1.0, cost=0)
    found, other = (verdict_of(case, prefetch=one) for one in (nothing, Prefetch()))
    for name in ("duration_ns", "bytes_h2d", "hits", "misses"):
        assert getattr(found, name) == getattr(other, name)


def test_a_variant_that_computes_nothing_knows_the_step_by_hand() -> None:
    """Layer 1 is decided, all in the high variant; the low one gives a slot to what layer 0 needs
    next. What ``least_stale`` evicts is of the layer that comes again last, 1, whose expert 1 then
    has to come once more.
    """
    trace, _ = scene([[0], [2]], experts=3)
    trace["expert_ids"] = [[[0], [0]], [[2], [1]]]
    trace["gate_weights"] = [[[1.0], [1.0]]] * 2
    model = Model(
        [Layer(0, moe=True), Layer(1, moe=True)],
        experts=3,
        top_k=1,
        hidden=1,
        activation_bytes=1,
        expert_bytes=100,
    )
    config = Config(
        slots=1, variants=(Variant(100, 1), Variant(40, 1)), choose="gate_cumulative",
        limits=(0.0, 1.0), use_worse=True, initial="lowest_ids", policy="least_stale",
        scope="global", prefetch=Prefetch(kind="oracle", variant="low"),
    )  # fmt: skip
    verdict = agree(Case(trace, model, config, ToyPrices()))
    assert [row["prefetched"] for row in verdict.layers] == [0, 0, 1, 1]
    assert verdict.misses == 0
