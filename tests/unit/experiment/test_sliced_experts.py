"""Experts sliced over the GPUs of a node."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from moesim.config.errors import InputError
from moesim.experiment.building.build import build
from moesim.experiment.building.footprints import sums_of
from moesim.experiment.building.layer_rows import rows_of_run
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.questions.fit import largest_fit
from moesim.experiment.questions.place import judge_planners
from moesim.experiment.running.run import run
from moesim.experiment.schema.experiment import Experiment
from moesim.hardware import CostModel
from moesim.hardware.roofline import activation_elements
from moesim.memory.footprint.footprint import expert_bytes
from moesim.model import load_model
from moesim.model.slicing import with_sliced_experts

BASE: dict[str, Any] = {
    "model": "gpt-oss-20b",
    "hardware": "h100-sxm",
    "trace": "traces/quickstart.parquet",
    "workload": {"batching": {"kind": "static", "batch_size": 16}, "requests": 16},
}


def sliced(gpus: int, dense: str = "data", **more: Any) -> Experiment:
    parallelism = {"expert": gpus, "dense": dense, "experts": "tensor"}
    return load_experiment({**BASE, "parallelism": parallelism, **more}).experiment


@pytest.mark.parametrize(
    ("model", "gpus"),
    [("qwen3-30b-a3b", 4), ("mixtral-8x7b", 8), ("deepseek-v3", 16), ("gpt-oss-120b", 2)],
)
def test_parts_have_the_bytes_of_whole_experts(model: str, gpus: int) -> None:
    whole = load_model(model)
    parts = with_sliced_experts(whole, gpus)
    assert [gpus * part for part in expert_bytes(parts)] == expert_bytes(whole)
    assert with_sliced_experts(whole, 1) is whole


def test_a_part_in_mxfp4_is_whole_blocks() -> None:
    """2880 channels are 90 blocks of 32: of 8 GPUs each has 12, as vLLM pads them."""
    whole, part = load_model("gpt-oss-120b"), with_sliced_experts(load_model("gpt-oss-120b"), 8)
    experts = [layer.moe.expert for model in (whole, part) for layer in model.moe_layers[:1]
               if layer.moe]  # fmt: skip
    assert [one.intermediate_size for one in experts] == [2880, 12 * 32]
    assert experts[1].bytes == -(-experts[0].bytes * 12 // 90)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"model": "qwen3-30b-a3b@fp8_block", "trace": "auto"}, "768 .*of 128.*; 2 can"),
        ({"placement": {"kind": "round_robin"}}, "has nothing to place"),
        ({"hardware": "dgx-h100", "parallelism": {"expert": 16, "experts": "tensor"}}, "one node"),
        (
            {"parallelism": {"pipeline": 2, "experts": "tensor"}},
            "do not go together with experts: tensor",
        ),
        (
            {"parallelism": {"expert": 8, "slice": 3, "dense": "tensor"}},
            "groups of 3 leave a rest; write 2",
        ),
        (
            {
                "hardware": "m4-max-128gb",
                "software": "ideal",
                "parallelism": {"slice": 8},
                "experts": {"capacity": "8 slots/layer"},
            },
            "1 GPU in groups of 8 leave a rest",
        ),
        ({"parallelism": {"expert": 8, "slice": 2}}, "write dense: tensor, or exchange: all_gath"),
        ({"parallelism": {"expert": 8, "slice": 2, "experts": "tensor"}}, "leave one of them out"),
        ({"parallelism": {"pipeline": 2, "slice": 2}}, "do not go together with slice: 2"),
    ],
)
def test_what_cannot_be(more: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        sliced(8, **more) if "parallelism" not in more else load_experiment({**BASE, **more})


@pytest.mark.parametrize("experts", ["expert", "tensor"])
def test_the_ends_of_slice(experts: str) -> None:
    """A slice of one is a whole expert, one of all GPUs is ``experts: tensor``."""
    base = BASE | {"experts": {"capacity": "6 slots/layer"}}
    ends = {"expert": 1, "tensor": 4}
    named, counted = (
        run({**base, "parallelism": {"expert": 4, "dense": "tensor", **more}}).summary
        for more in ({"experts": experts}, {"slice": ends[experts]})
    )
    named.pop("engine_wall_s"), counted.pop("engine_wall_s")
    assert named == counted


@pytest.mark.parametrize(
    "exchange", [{"dense": "tensor"}, {"dense": "data", "exchange": "all_gather"}]
)
def test_groups_that_slice_miss_what_whole_gpus_would(exchange: dict[str, Any]) -> None:
    """Two groups of two have the experts, tokens and misses of two GPUs, each part half a copy."""
    base = BASE | {"experts": {"capacity": "4 slots/layer"}}
    of_two, of_four = (
        run({**base, "parallelism": exchange | more}, limit_steps=20).summary
        for more in ({"expert": 2}, {"expert": 4, "slice": 2})
    )
    assert of_four["misses"] == 2 * of_two["misses"] > 0
    assert of_four["bytes_h2d"] == of_two["bytes_h2d"]
    assert of_four["hit_ratio_per_access"] == of_two["hit_ratio_per_access"]


def test_there_is_nothing_to_place() -> None:
    with pytest.raises(InputError, match="leaves nothing to place"):
        judge_planners(sliced(2))


def test_one_gpu_has_nothing_to_slice() -> None:
    alone = load_experiment(BASE).experiment
    mine, theirs = (run(one, limit_steps=10).summary for one in (sliced(1), alone))
    for one in (mine, theirs):
        one.pop("engine_wall_s")
    assert mine == theirs


@pytest.mark.parametrize("policy", ["lru", "random"])
@pytest.mark.parametrize("dense", ["data", "tensor"])
def test_every_gpu_misses_what_one_would_and_all_copy_as_many_bytes(
    dense: str, policy: str
) -> None:
    experts = {"capacity": "6 slots/layer", "policy": {"kind": policy}}
    whole = load_experiment({**BASE, "experts": experts}).experiment
    one = run(whole, limit_steps=20).summary
    two = run(sliced(2, dense, experts=experts), limit_steps=20).summary
    assert two["misses"] == 2 * one["misses"] > 0
    assert two["bytes_h2d"] == one["bytes_h2d"]
    assert two["hit_ratio_per_access"] == one["hit_ratio_per_access"]
    assert two["host_memory_bytes"] == one["host_memory_bytes"]
    assert two["balancedness"] == 1.0


@pytest.mark.parametrize("dense", ["data", "tensor"])
def test_memory_of_a_gpu(dense: str) -> None:
    """A part of each expert, and buffers for all hidden vectors where attention is of own ones."""
    case = build(sliced(2, dense)).case
    whole = build(load_experiment(BASE).experiment).case
    assert case.model.layers[0].expert_bytes * 2 == whole.model.layers[0].expert_bytes
    tokens = sums_of(case)[None].tokens
    assert rows_of_run(case, tokens).moved.max() == (16 if dense == "data" else 0)


def test_a_lone_request_on_two_gpus() -> None:
    """Experts of a slice cost less than whole ones, and nobody waits for the fuller GPU."""
    workload = {"batching": {"kind": "static", "batch_size": 1}, "requests": 1}
    parts = run(sliced(2, "tensor", workload=workload), limit_steps=20).summary
    whole = load_experiment(
        {**BASE, "workload": workload, "parallelism": {"expert": 2, "dense": "tensor"}}
    ).experiment
    apart = run(whole, limit_steps=20).summary
    assert parts["duration_ms"] < apart["duration_ms"]
    assert parts["time_share"]["waiting_for_gpus"] == 0 < apart["time_share"]["waiting_for_gpus"]


CARDS = {"gpu": "rtx-3090", "host": "ddr4-3200-2ch-64gb"}
TWO_CARDS: dict[str, Any] = {
    "model": "small-moe",
    "hardware": CARDS,
    "trace": "small-moe",
    "workload": {"batching": {"kind": "static", "batch_size": 2}, "requests": 2},
}


def test_one_layer_by_hand() -> None:
    """Two tokens of 128 channels, 4 of 32 experts of 64 inner ones in fp32, over two RTX 3090: each
    has 32 inner channels of all experts, reads half of an expert's bytes at 90 % of 936 GB/s, and
    the two add up 1,024 bytes in a ring at half of PCIe 4's 26.2 GB/s.
    """
    parallelism = {"expert": 2, "dense": "tensor", "experts": "tensor"}
    experiment = load_experiment({**TWO_CARDS, "parallelism": parallelism}).experiment
    case = build(experiment).case
    layer = case.model.moe_layers[0]
    assert layer.moe is not None
    expert = layer.moe.expert
    assert (expert.hidden_size, expert.intermediate_size) == (128, 64 // 2)
    assert expert.bytes == 3 * 128 * 32 * 4
    read_ns = 8 * expert.bytes / (0.9 * 936)
    moved_ns = 8 * activation_elements(expert) * 4 / (0.5 * 936)
    starts_ns = 3 * 4_000
    prices = CostModel(build(experiment).hardware, case.model)
    kernel_ns = prices.experts_ns(layer, np.ones(8, np.int64), np.zeros(1, np.int64))
    assert kernel_ns.tolist() == [round(starts_ns + read_ns + moved_ns)]
    ring_ns = 40_000 + math.ceil(2 * (2 * 128 * 4) / 2 / (0.5 * 26.2))
    assert prices.all_reduce_ns(2, 2 * 128 * 4) == ring_ns == 40_079
    step = run(experiment, limit_steps=1, records="layer")
    assert set(step.layers["distinct_experts"]) <= {7, 8}
    (spent,) = step.steps["dispatch_combine_ns"]
    ordering = prices.permute_ns(layer, np.array([8]))
    assert spent == 8 * 2 * (ring_ns + int(ordering[0]))


def test_what_fits_of_sliced_experts() -> None:
    """Slots are of parts: a GPU of two has room for as many experts as one with twice the room."""
    memory = {"base": "rtx-3090", "memory": "511 MiB", "context_reserve": "500 MiB"}
    small = {**TWO_CARDS, "hardware": {**CARDS, "gpu": memory}}
    experts = {"capacity": "auto", "miss": {"kind": "load"}}
    parallelism = {"expert": 2, "dense": "data", "experts": "tensor"}
    one = load_experiment({**small, "experts": experts}).experiment
    two = load_experiment({**small, "experts": experts, "parallelism": parallelism}).experiment
    alone, both = largest_fit(one, contexts=[64]), largest_fit(two, contexts=[64])
    assert (alone["gpus"], both["gpus"]) == (1, 2)
    assert both["local_experts"] == alone["local_experts"] == 32
    part = 3 * 128 * 32 * 4
    assert alone["capacity_bytes"] == alone["largest_slots"] * 8 * 2 * part
    assert both["capacity_bytes"] == both["largest_slots"] * 8 * part
    assert 2 * alone["largest_slots"] <= both["largest_slots"] < 32
    assert both["cpu_layers"] <= alone["cpu_layers"]
    for found, experiment in ((alone, one), (both, two)):
        slots = f"experts.capacity={found['largest_slots']} slots/layer"
        more = f"experts.capacity={found['largest_slots'] + 1} slots/layer"
        context = "workload.context=64"
        assert build(load_experiment(experiment, [slots, context]).experiment).out_of_memory is None
        assert build(load_experiment(experiment, [more, context]).experiment).out_of_memory
