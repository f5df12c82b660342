"""Missing experts that are skipped: by hand, then both engines against the reference."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.engine.des.run import run_des
from moesim.engine.replay.run import run_replay
from moesim.metrics.summary import summary

from .agreement import agree, compare, observed
from .prices import ToyPrices
from .reference import reference
from .reference_words import Config, Software
from .scenes import scene
from .strategies import POLICIES, Case, cases, few, of_few_policies, ways
from .strategies_prefetch import prefetching_cases
from .wiring import engine_case


def skipping(case: Case) -> Case:
    """``case`` with slots for some experts, where what is missing is skipped."""
    case = of_few_policies(case, tuple(one for one in POLICIES if "skip" in ways(one, Software())))
    few = case.config.slots or max(1, case.model.experts // (2 * case.config.gpus))
    config = replace(case.config, miss="skip", uploads=None, slots=few)
    return replace(case, config=config)


@few
@given(cases(), st.sampled_from(["empty", "most_used", "most_used"]))
def test_all_agree(case: Case, initial: str) -> None:
    case = skipping(case)
    agree(replace(case, config=replace(case.config, initial=initial)))


@few
@given(cases(prompts=True))
def test_all_agree_around_the_caches(case: Case) -> None:
    agree(skipping(case))


@few
@given(prefetching_cases())
def test_all_agree_on_prefetches(case: Case) -> None:
    """What was predicted is there, or on its way; the rest is skipped."""
    agree(skipping(case))


def test_a_skipped_expert_costs_nothing_but_its_weight() -> None:
    """Expert 0 is resident. Step 0 needs 0 and 1, step 1 only 1, whose weights are 0.25 and 0.5."""
    trace, model = scene([[0, 1], [1]], 3)
    trace["gate_weights"] = [[[0.75, 0.25]], [[0.5, 0.0]]]
    config = Config(slots=1, initial="most_used", first_part=0.1, miss="skip")
    case = Case(trace, model, config, ToyPrices())
    verdict = reference(trace, model, config, case.prices)
    assert [(t.expert, t.place, t.launch, t.rows) for t in verdict.activations] == [
        (0, "", 0, 1),
        (1, "skip", -1, 0),
        (1, "skip", -1, 0),
    ]
    assert (verdict.bytes_h2d, verdict.stall_ns, verdict.cpu_wait_ns) == (0, 0, 0)
    compare(verdict, observed(engine_case(case), run_des(engine_case(case), check=True)))
    said = summary(engine_case(case), run_des(engine_case(case)), 0.0)
    assert (said["misses"], said["misses_skipped"], said["skipped_choices"]) == (2, 2, 2)
    assert said["skipped_share"] == pytest.approx(2 / 3)
    assert said["skipped_gate_weight_share"] == 0.75 / 1.5
    assert said["padding_ratio"] == 0


def test_without_weights_only_choices_are_told() -> None:
    trace, model = scene([[0, 1], [1]], 3)
    case = Case(trace, model, Config(slots=1, miss="skip"), ToyPrices())
    said = summary(engine_case(case), run_replay(engine_case(case)), 0.0)
    assert (said["skipped_share"], said["skipped_gate_weight_share"]) == (1.0, None)


def test_replicas_lose_weight_by_their_rows() -> None:
    """Expert 0 has 3 choices of weight 0.25 on two replicas of one GPU: 2 rows and 1. With one slot
    the first is resident, the second skipped: a third of 0.75.
    """
    steps = [[0], [0], [0]]
    trace, model = scene(steps, 2)
    trace["request_id"], trace["position"] = [0, 1, 2], [0, 0, 0]
    trace["gate_weights"] = [[[0.25]], [[0.25]], [[0.25]]]
    config = Config(
        slots=1, initial="most_used", miss="skip", placement="plan", plan=[[0, 0, 1]], batch_size=3
    )
    case = Case(trace, model, config, ToyPrices())
    compare(
        reference(trace, model, config, case.prices),
        observed(engine_case(case), run_des(engine_case(case))),
    )
    said = summary(engine_case(case), run_des(engine_case(case)), 0.0)
    assert (said["skipped_choices"], said["skipped_gate_weight_share"]) == (1, 1 / 3)
