"""Host times of a layer, by hand from llama.cpp's profile: 3 us a launch; a wait a layer where the
CPU computes what is missing, four where it is loaded, none where nothing is missing.
"""

from __future__ import annotations

from typing import Any

import pytest

from moesim.engine.case import Case
from moesim.engine.des.run import run_des
from moesim.engine.pricing.host_times import HostTimes, host_head_ns, host_times
from moesim.engine.replay.run import run_replay
from moesim.experiment.building.build import build
from moesim.experiment.loading.resolve import load_experiment

US = 1000
EXPERIMENT = {
    "model": "gpt-oss-20b",
    "hardware": "rtx-4060-8gb",
    "trace": "traces/quickstart.parquet",
    "workload": {"phase": "decode"},
    "software": "llama.cpp",
    "experts": {"on_cpu": {"layers": 14}},
}
NONE = HostTimes(0, 0, 0, 0, 0, 0, 0, 0)


def case_of(**given: Any) -> Case:
    return build(load_experiment(EXPERIMENT | given).experiment, 1).case


def test_a_graph_lies_between_two_layers_of_the_host() -> None:
    """llama.cpp has one there: its launch, and four of experts that run on the GPU."""
    case = case_of()
    assert case.execution == "splits"
    apart = HostTimes(3 * US, 3 * US, 0, 0, 0, 12 * US, 0, 1)
    assert host_times(case) == [apart] * 14 + [NONE] * 10
    assert host_head_ns(case) == 3 * US


def test_eager_layers_launch_everything_wherever_their_experts_are() -> None:
    """15 launches of attention, 3 of the gate, 4 of experts, 2 after them, 6 of the head."""
    case = case_of(execution="eager")
    layer = HostTimes(45 * US, 45 * US, 12 * US, 9 * US, 15 * US, 12 * US, 6 * US, 1)
    assert host_times(case) == [layer] * 14 + [layer._replace(waits=0)] * 10
    loading = case_of(execution="eager", experts={"capacity": "8 slots/layer"})
    assert host_times(loading) == [layer._replace(waits=4)] * 24
    assert host_head_ns(case) == 18 * US


def test_a_latent_launches_its_own() -> None:
    case = case_of(execution="eager", model="deepseek-v2-lite", trace="stand-in:qwen3-30b-a3b")
    assert {one.attention for one in host_times(case)} == {24 * 3 * US}


@pytest.mark.parametrize(("execution", "attention"), [("eager", 9), ("piecewise", 1)])
def test_only_layers_without_all_their_experts_wait_for_a_decision(
    execution: str, attention: int
) -> None:
    """vLLM never waits anyway."""
    case = case_of(software="vllm", execution=execution)
    times = host_times(case)
    assert [one.waits for one in times] == [1] * 14 + [0] * 10
    assert {one.attention / case.software.launch_ns for one in times} == {attention}


def test_a_decision_on_the_device_splits_a_graph_and_waits_for_nothing() -> None:
    times = host_times(case_of(decide="device", execution="splits", software="vllm"))
    assert [one.waits for one in times] == [0] * 24
    assert [one.attention > 0 for one in times] == [True] * 14 + [False] * 10


def test_resident_layers_of_a_split_run_take_no_host_time() -> None:
    """One more layer on the host is one more launch and one more wait of its host, at most."""
    fewer, more = (
        run_replay(case_of(experts={"on_cpu": {"layers": layers}})) for layers in (14, 15)
    )
    host = list(fewer.categories).index("host")
    passes = len(fewer.starts)
    longer = (more.charges[..., host].sum() - fewer.charges[..., host].sum()) / passes
    read = case_of().prices.copy_ns(4 * 32, "d2h", False)
    assert 0 < longer <= 3 * US + 10 * US + read
    assert run_des(case_of(), records="summary").duration_ns == run_replay(case_of()).duration_ns
