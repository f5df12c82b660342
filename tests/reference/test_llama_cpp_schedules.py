"""Whole schedules, as llama.cpp's own server decides them (tests/data/schedules/make_llama_cpp.py),
by the package's rules.
"""

from __future__ import annotations

from typing import Any

import pytest

from moesim.workload.serving.llama_cpp import LlamaCpp

from .kept_schedules import decided, serving_case, steps_in, steps_told, told_by

TOLD = told_by("llama_cpp")


@pytest.mark.parametrize("case", TOLD["cases"], ids=lambda case: case["name"])
def test_whole_schedules_are_those_of_llama_cpp(case: dict[str, Any]) -> None:
    state = decided(serving_case(case), LlamaCpp(**case["scheduler"]))
    assert steps_in(state) == steps_told(case)


def test_there_is_something_to_see() -> None:
    """Steps of a batch that is split, and of slots whose numbers do not follow one another."""
    split = [case for case in TOLD["cases"] if not case["scheduler"]["kv_unified"]]
    small = [sum(n for _, n in step[1]) == 1 for case in split for step in case["steps"]]
    assert sum(small) > 100
