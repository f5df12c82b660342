"""EPLB whose physical experts GPUs do not divide, which engines refuse."""

from __future__ import annotations

from typing import Any

import pytest

from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.loading.warnings import of_inputs

EIGHT = {"model": "gpt-oss-20b", "hardware": "h100-sxm", "trace": "quickstart"}


def told(gpus: int, **parallelism: Any) -> list[str]:
    placement = parallelism.pop("placement")
    given = {**EIGHT, "placement": placement, "parallelism": {"expert": gpus, **parallelism}}
    lines = of_inputs([load_experiment(given).experiment])
    return [line for line in lines if "placement.redundant" in line]


@pytest.mark.parametrize(
    ("gpus", "redundant", "of", "fits"),
    [(4, 3, "35", "0 or 4"), (8, 10, "42", "8 or 16"), (5, 0, "32", "3")],
)
def test_what_engines_refuse_is_told_with_what_fits(
    gpus: int, redundant: int, of: str, fits: str
) -> None:
    (line,) = told(gpus, placement={"kind": "eplb", "redundant": redundant})
    assert f"32 experts a layer and {redundant} redundant ones are {of}, of which {gpus}" in line
    assert line.endswith(f"; write {fits}")


@pytest.mark.parametrize(
    "placement", [{"kind": "eplb", "redundant": 4}, {"kind": "eplb"}, {"kind": "greedy"}]
)
def test_what_gpus_divide_is_not_told(placement: dict[str, Any]) -> None:
    assert not told(4, placement=placement)


def test_others_may_be_uneven() -> None:
    assert not told(5, placement={"kind": "greedy"})
