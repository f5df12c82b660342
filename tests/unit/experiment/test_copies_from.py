"""From how many tokens on what the CPU has is copied: what is asked, and what the software does."""

from __future__ import annotations

from typing import Any

import pytest

import moesim
from moesim.config.errors import InputError
from moesim.experiment.building.build import build
from moesim.experiment.building.footprints import staging_of

STAND_IN = "stand-in:qwen3-30b-a3b"
BASE: dict[str, Any] = {
    "model": "gpt-oss-20b",
    "hardware": "rtx-4060-8gb",
    "software": "llama.cpp",
    "trace": "traces/quickstart.parquet",
    "experts": {"on_cpu": {"layers": 14}},
}


def least(**given: Any) -> int | None:
    experiment = moesim.load_experiment({**BASE, **given}).experiment
    return build(experiment, 30).case.miss.copies_all_from()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, 32),
        ({"software": "ktransformers@0.2"}, None),
        ({"software": "ik_llama.cpp"}, 32 * 32 // 4),
        ({"software": "ik_llama.cpp", "model": "qwen3-30b-a3b", "trace": STAND_IN}, 512),
        ({"software": "ik_llama.cpp@2025-05"}, None),
        ({"experts": {"on_cpu": {"layers": 14}, "miss": {"kind": "cpu"}}}, 32),
        ({"experts": {"on_cpu": {"layers": 14}, "miss": {"kind": "cpu", "copies_from": 7}}}, 7),
        (
            {
                "experts": {
                    "on_cpu": {"layers": 14},
                    "miss": {"kind": "cpu", "copies_from": "never"},
                }
            },
            None,
        ),
        ({"experts": {"capacity": "8 slots/layer", "miss": {"kind": "cpu"}}}, None),
    ],
)
def test_layers_on_the_cpu_have_what_the_software_does(given: Any, expected: int | None) -> None:
    assert least(**given) == expected


@pytest.mark.parametrize(("given", "held"), [(1, 11), ("never", 0)])
def test_copies_take_room_for_a_matrix_of_all_experts(given: int | str, held: int) -> None:
    """A third of 32 experts, rounded up."""
    experts = {"on_cpu": {"layers": 14}, "miss": {"kind": "cpu", "copies_from": given}}
    experiment = moesim.load_experiment({**BASE, "experts": experts}).experiment
    assert staging_of(build(experiment, 30).case, 0) == held


def test_it_does_not_go_with_prompts_around_the_caches() -> None:
    miss = {"kind": "cpu", "copies_from": 32}
    experts = {"capacity": "8 slots/layer", "miss": miss}
    with pytest.raises(InputError, match=r"copies_from.*go around the caches in another way"):
        least(experts=experts, workload={"phase": "all", "prefill": {"experts": "bypass"}})


def test_it_does_not_go_with_an_order_of_streams() -> None:
    """Such passes copy by number, whatever order the slots' copies have."""
    experts = {
        "capacity": "8 slots/layer",
        "policy": "stream",
        "order": "least_makespan",
        "miss": {"kind": "cpu", "copies_from": 32},
    }
    with pytest.raises(InputError, match=r"copies_from: it does not go with experts.order"):
        least(experts=experts)


@pytest.mark.parametrize("given", [0, -1, 1.5, True, "always", None, [32]])
def test_what_is_no_number_of_tokens_gets_one_message(given: Any) -> None:
    experts = {"on_cpu": {"layers": 14}, "miss": {"kind": "cpu", "copies_from": given}}
    with pytest.raises(InputError, match=r"copies_from: .*write 1 or more, software or never") as e:
        least(experts=experts)
    assert str(e.value).count("copies_from") == 1
