"""Experts that are unpacked before their products: the engines, the reference, and laws."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, given

from .agreement import agree, verdict_of
from .prices import ToyPrices
from .reference_words import Config, Software
from .scenes import scene
from .strategies import Case, few
from .strategies_concepts import unpacking_cases


@few
@given(unpacking_cases())
def test_both_engines_and_the_reference_agree(case: Case) -> None:
    agree(case)


@few
@given(unpacking_cases())
def test_every_expert_of_the_gpu_is_unpacked_once_in_a_step(case: Case) -> None:
    """And each kernel is as without it, where nothing is decided by what kernels take."""
    assume(case.config.miss != "cheapest" and case.config.prefetch.kind == "none")
    verdict = verdict_of(case)
    layers = case.model.moe_layers
    on_gpu = [one for one in verdict.activations if one.launch >= 0]
    each = [case.prices.unpacking_ns(layers[one.layer], 1) for one in on_gpu]
    assert verdict.time_ns["unpacking"] == sum(each)
    plain = replace(case, prices=replace(case.prices, unpacking=0))
    assert verdict_of(plain).time_ns["experts"] == verdict.time_ns["experts"]


def test_by_hand() -> None:
    """Four experts that are there, in one launch: 4 x 9 ns more, and nothing else."""
    trace, model = scene([[0, 1, 2, 3]], 5)
    model = replace(model, layers=[replace(model.layers[0], kind=1)])  # of a format that needs it
    config = Config(software=Software(), unpacks=True)
    plain = agree(Case(trace, model, config, ToyPrices()))
    unpacked = agree(Case(trace, model, config, ToyPrices(unpacking=9)))
    assert unpacked.time_ns == plain.time_ns | {"unpacking": 36}
    assert unpacked.duration_ns == plain.duration_ns + 36
