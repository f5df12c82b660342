"""Layers whose weights are in host memory, copied to the GPU as wholes in every pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import moesim
from moesim.config.errors import InputError
from moesim.engine.des.run import run_des
from moesim.engine.outcome import Outcome
from moesim.engine.replay.run import run_replay
from moesim.experiment.building.build import build
from moesim.experiment.building.built import Built
from moesim.experiment.questions.fit import largest_fit, slots_by_context
from moesim.metrics.summary import summary
from moesim.metrics.tables import steps_table

SOURCE: dict[str, Any] = {
    "model": "gpt-oss-20b",
    "hardware": {"gpu": "rtx-3090", "host": "ddr4-3200-2ch-64gb", "link": "pcie4-x16"},
    "software": "hf-eager",
    "trace": "traces/quickstart.parquet",
    "workload": {"requests": 1, "phase": "decode"},
}
PASSES = 12


def source(layers: int, **given: Any) -> Any:
    return moesim.load_experiment(SOURCE | {"offload_layers": layers} | given).experiment


def built(layers: int, **given: Any) -> Built:
    return build(source(layers, **given), PASSES)


def charged(outcome: Outcome, category: str) -> int:
    by_category = outcome.charges.sum(axis=(0, 1)).tolist()
    spent = dict(zip(outcome.categories, by_category, strict=True))
    return int(spent[category])


@pytest.mark.parametrize("given", [{}, {"experts": {"capacity": "8 slots/layer"}}])
@pytest.mark.parametrize("layers", [1, 24])
def test_both_engines_say_the_same(layers: int, given: dict[str, Any]) -> None:
    case = built(layers, **given).case
    played, by_events = run_replay(case), run_des(case, check=True)
    assert np.array_equal(played.ends, by_events.ends)
    assert np.array_equal(played.charges, by_events.charges)


def test_a_pass_copies_each_layer_once() -> None:
    """Pageable memory of an RTX 3090's link; each layer's copy is rounded up by itself."""
    some = built(9)
    sizes = [layer.bytes for layer in some.case.model.layers[:9]]
    outcome = run_replay(some.case)
    copy = some.hardware.datasheet.copy_of("h2d", False)
    each = [copy.latency_ns + -(-size * 10**9 // copy.bytes_per_second) for size in sizes]
    assert charged(outcome, "layer_copies") == PASSES * sum(each)
    said = summary(some.case, outcome, 0.0)
    assert said["bytes_h2d"] == PASSES * sum(sizes)
    assert steps_table(some.case, outcome)["bytes_h2d"].tolist() == [sum(sizes)] * PASSES
    assert said["misses"] == 0
    assert said["time_share"]["layer_copies"] > 0.9


def test_nothing_of_it_is_in_other_runs() -> None:
    outcome = run_replay(built(0).case)
    assert "layer_copies" not in outcome.categories


def test_the_host_has_their_weights_and_the_gpu_room_for_one() -> None:
    none, some = built(0), built(9)
    sizes = [layer.bytes for layer in some.case.model.layers[:9]]
    before, after = none.footprint.at_peak(), some.footprint.at_peak()
    assert before["weights"] - after["weights"] == sum(sizes) - max(sizes)
    assert {name: after[name] for name in after if name != "weights"} == {
        name: before[name] for name in before if name != "weights"
    }
    assert (none.footprint.host, some.footprint.host) == (0, sum(sizes))
    assert some.footprint.pinned_bytes == 0  # Accelerate's copies are from pageable memory


def test_a_capacity_is_that_of_the_other_layers() -> None:
    """Bytes for 8 slots in each of 24 layers are 12 in each of the 16 that are not copied."""
    expert = built(0).case.model.moe_layers[0].moe.expert.bytes  # type: ignore[union-attr]
    some = built(8, experts={"capacity": f"{8 * 24 * expert} B"})
    assert some.case.slots[0].tolist() == [32] * 8 + [12] * 16
    assert (some.slots_per_layer, some.slots_by_layer) == ([12], [[0] * 8 + [12] * 16])
    assert some.footprint.at_peak()["expert_slots"] == 16 * 12 * expert
    offloaded = 16 * 32 * expert
    layers = sum(layer.bytes for layer in some.case.model.layers[:8])
    assert some.footprint.host == offloaded + layers


def test_fit_counts_the_slots_of_the_other_layers() -> None:
    asked = source(12, experts={"capacity": "8 slots/layer"}, workload={"phase": "decode"})
    found = largest_fit(asked, [1024], [1])
    assert found["fits"]
    expert = built(0).case.model.moe_layers[0].moe.expert.bytes  # type: ignore[union-attr]
    assert found["capacity_bytes"] == found["largest_slots"] * 12 * expert
    all_there, half = (next(slots_by_context(build(source(n)), [1024], [4])) for n in (0, 12))
    layers = sum(layer.bytes for layer in built(12).case.model.layers[:12])
    room = max(layer.bytes for layer in built(12).case.model.layers[:12])
    saved = (all_there["resident_bytes"] or 0) - (half["resident_bytes"] or 0)
    assert (half["slots_per_layer"], saved) == (32, layers - room)


def test_more_layers_than_fit_are_copied_slower_than_experts_that_miss() -> None:
    """Copies of misses are a part of what a whole layer has."""
    whole = run_replay(built(24).case)
    missing = run_replay(built(0, experts={"capacity": "4 slots/layer"}).case)
    assert missing.duration_ns < whole.duration_ns


IN_PLACE: dict[str, Any] = {"software": "vllm", "experts": {"miss": {"kind": "zero_copy"}}}


def test_of_layers_that_are_read_in_place_only_chosen_experts_come() -> None:
    """vLLM's --cpu-offload-gb: a token's four experts of each layer, and the rest of the layer."""
    read, copied = built(9, **IN_PLACE), built(9, software="vllm")
    layers = read.case.model.layers[:9]
    rest = sum(layer.bytes - layer.expert_bytes for layer in layers)
    experts = sum(4 * layer.moe.expert.bytes for layer in layers if layer.moe)
    outcome = run_replay(read.case)
    said = summary(read.case, outcome, 0.0)
    assert said["bytes_h2d"] == PASSES * (rest + experts)
    assert said["misses"] == said["misses_zero_copy"] == PASSES * 9 * 4
    assert outcome.duration_ns < run_replay(copied.case).duration_ns
    assert charged(outcome, "waiting_for_weights") > 0
    by_events = run_des(read.case, check=True)
    assert np.array_equal(outcome.charges, by_events.charges)


def test_nothing_waits_for_what_is_read_in_place() -> None:
    """Decode steps are captured whole, as where all experts are resident."""
    read = built(9, **IN_PLACE)
    assert read.case.execution == "graph"
    assert charged(run_replay(read.case), "host") == 0
    some = built(9, **IN_PLACE | {"experts": IN_PLACE["experts"] | {"capacity": "8 slots/layer"}})
    assert some.case.execution == "piecewise"


def test_the_gpu_has_no_room_for_what_is_read_in_place() -> None:
    none, read = built(0, **IN_PLACE), built(9, **IN_PLACE)
    size = sum(layer.bytes for layer in read.case.model.layers[:9])
    before, after = none.footprint.at_peak(), read.footprint.at_peak()
    assert before["weights"] - after["weights"] == size
    assert after["expert_slots"] == 0
    assert (read.footprint.host, read.footprint.pinned_bytes) == (size, size)
    found = largest_fit(source(9, **IN_PLACE), [1024], [1])
    assert (found["fits"], found["cpu_layers"]) == (True, 0)


@pytest.mark.parametrize(
    ("layers", "given", "said"),
    [
        (25, {}, "offload_layers: 25 are more than the 24 layers of gpt-oss-20b"),
        (3, {"hardware": "dgx-h100", "parallelism": {"expert": 2}}, "copied to one GPU alone yet"),
        (3, {"host_layers": 3}, "leave host_layers out"),
        (3, {"experts": {"on_cpu": {"layers": 5}}}, "leave on_cpu out"),
        (3, {"hardware": "gb10"}, "where the GPU has a memory of its own"),
        (3, {"experts": {"policy": {"kind": "lru", "scope": "global"}}}, "write scope: layer"),
        (3, {"experts": {"slots": {"kind": "by_layer"}}}, "write equal"),
        (
            3,
            {"software": "vllm", "experts": {"prefetch": {"kind": "oracle"}}},
            "without prefetch yet",
        ),
        (
            3,
            {"software": "vllm", "experts": {"miss": {"kind": "background"}}},
            "without copies in the background yet",
        ),
        (
            3,
            {"workload": {"phase": "all", "prefill": {"experts": "stream"}}},
            "without prompts that stream",
        ),
        (-1, {}, "-1 is too small; 0 or more is allowed"),
    ],
)
def test_what_they_do_not_go_together_with(layers: int, given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        built(layers, **given)
