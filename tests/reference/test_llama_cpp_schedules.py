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


@pytest.mark.parametrize(("key", "at_least"), [("kv_unified", 14), ("recurrent", 3),
                                               ("checkpoints", 6)])  # fmt: skip
def test_each_choice_changes_schedules(key: str, at_least: int) -> None:
    """Without it, so many of the kept ones would be others."""
    changed = 0
    for case in TOLD["cases"]:
        turned = case["scheduler"] | {key: not case["scheduler"][key]}
        if key == "kv_unified" or case["scheduler"][key]:
            state = decided(serving_case(case), LlamaCpp(**turned))
            changed += steps_in(state) != steps_told(case)
    assert changed >= at_least
