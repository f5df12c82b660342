"""What software captures of passes that differ."""

from __future__ import annotations

from dataclasses import replace

import pytest

from moesim.engine.captured import Captured
from moesim.experiment.building.execution import captured_of
from moesim.hardware.described.software import SoftwareProfile
from tests.reference.prices import ToyPrices
from tests.reference.reference_words import Config
from tests.reference.scenes import scene
from tests.reference.strategies import Case
from tests.reference.wiring import engine_case

VLLM = SoftwareProfile(
    name="toy",
    title="toy",
    sources={},
    resident_execution="graph",
    offloaded_execution="piecewise",
    most_captured_tokens=512,
)


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ({}, Captured("graph", "piecewise", 512)),
        ({"slots": 2}, Captured("piecewise", "piecewise", 512)),
        ({"gpus": 3}, Captured("eager", "eager", 512)),  # the host decides in every layer
        ({"gpus": 3, "decide": "device"}, Captured("graph", "piecewise", 512)),
    ],
)
def test_what_is_captured_of_others_follows_from_decode_steps(
    choices: dict[str, object], expected: Captured
) -> None:
    trace, model = scene([[0, 1], [1, 2]], 3)
    case = engine_case(Case(trace, model, Config(**choices), ToyPrices()))  # type: ignore[arg-type]
    assert captured_of(replace(case, software=VLLM)) == expected
