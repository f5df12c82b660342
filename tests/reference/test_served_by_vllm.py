"""Runs whose passes a scheduler like vLLM's decides as the clock goes: both engines and the
reference, to the nanosecond.
"""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import pytest
from hypothesis import given, settings

from moesim.config.errors import InputError
from moesim.engine.des.run import run_des
from moesim.engine.replay.run import run_replay
from moesim.workload.serving.stepping import foreseen

from .judge_serving import Settings
from .served_by_vllm import agree_on_served, never_ends, served_by_vllm, serving_of
from .serving_cases import ServingCase, Wish
from .strategies import cases, few
from .test_scheduler import without_foresight
from .wiring import engine_case


@few
@given(served_by_vllm())
def test_both_engines_and_the_reference_serve_alike(both):
    agree_on_served(*both)


@given(served_by_vllm())
def test_what_is_foreseen_needs_no_entries_of_steps_that_are_over(both):
    with patch.object(foreseen, "BEHIND", 0):
        agree_on_served(*both)


@settings(max_examples=3)
@given(cases())
def test_who_preempts_each_other_for_ever_is_told(case):
    """Of one instant and one priority, in chunks of two tokens: they take turns."""
    case = without_foresight(case)
    wishes = [Wish(6, 6, 0, 0, None, 0, 0, 0), Wish(7, 6, 0, 0, None, 0, 0, 0)]
    asked = Settings(budget=19, most=2, threshold=2, priority=True, ahead=4, late=True)
    serving = ServingCase(wishes, blocks=8, size=3, settings=asked)
    assert never_ends(serving)
    served = serving_of(engine_case(case), serving)
    theirs = replace(engine_case(case), scheduler=served.passes, serving=served)
    for play in (run_des, run_replay):
        with pytest.raises(InputError, match="preempt each other for ever"):
            play(theirs)
