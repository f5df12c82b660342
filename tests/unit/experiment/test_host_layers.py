"""Layers that run on the CPU as wholes, as those that llama.cpp's -ngl leaves there."""

from __future__ import annotations

from math import hypot
from typing import Any

import numpy as np
import pytest

import moesim
from moesim.config.errors import InputError
from moesim.engine.case import Case
from moesim.engine.des.run import run_des
from moesim.engine.pricing.host_times import host_times
from moesim.engine.replay.run import run_replay
from moesim.experiment.building.build import build
from moesim.experiment.building.built import Built
from moesim.hardware import load_hardware, load_software
from moesim.hardware.cost_model import CostModel
from moesim.hardware.engine_fits import with_engine
from moesim.model import load_model

SOURCE: dict[str, Any] = {
    "model": "gpt-oss-20b",
    "hardware": {"gpu": "rtx-3090", "host": "ddr4-3200-2ch-64gb"},
    "software": "llama.cpp",
    "trace": "traces/quickstart.parquet",
    "workload": {"requests": 1, "phase": "decode"},
}


def built(layers: int, passes: int = 20, **given: Any) -> Built:
    source = SOURCE | {"host_layers": layers} | given
    return build(moesim.load_experiment(source).experiment, passes)


def case_of(layers: int, **given: Any) -> Case:
    return built(layers, **given).case


@pytest.mark.parametrize("layers", [1, 9, 24])
def test_both_engines_say_the_same(layers: int) -> None:
    case = case_of(layers)
    played, by_events = run_replay(case), run_des(case, check=True)
    assert np.array_equal(played.ends, by_events.ends)
    assert np.array_equal(played.charges, by_events.charges)


@pytest.mark.parametrize(
    ("software", "start"), [("llama.cpp", (15 + 3 + 4 + 2) * 8 * 120), ("ideal", 8_000)]
)
def test_a_layer_takes_its_bytes_over_the_hosts_share_and_what_threads_wait(
    software: str, start: int
) -> None:
    """51.2 GB/s of DDR4-3200, of which the CPU reaches 50 %; after 15 kernels of attention, 3 of
    the gate, 4 of the experts and 2 behind them, 8 threads wait for one another for 120 ns each;
    8 us where nobody counted. Cores compute in no time. Position 99 reads 100 tokens of the cache.
    """
    fast = {"base": "ddr4-3200-2ch-64gb", "core_rate": "100 TFLOP/s"}
    case = case_of(24, software=software, hardware={"gpu": "rtx-3090", "host": fast})
    full = next(layer for layer in case.model.layers if layer.attention.window is None)
    assert full.moe is not None
    size = full.bytes - full.moe.experts * full.moe.expert.bytes
    size += 100 * full.attention.kv_bytes_per_token
    price = int(case.prices.price("cpu_layer", full, np.array([1]), [100], [100])[0])
    assert price == int(start + size / 25.6 + 0.5)
    assert int(case.prices.price("cpu_layer", full, np.array([0]), [0], [0])[0]) == 0


def test_heads_over_a_latent_compute_longer_than_they_read() -> None:
    """128 heads attend to 576 values of a token, and 576 again: 294,912 operations at 40 GFLOP/s
    on each of 96 cores are 77 ns, 1,152 bytes at 307 GB/s are 4, which nearly all hide.
    """
    prices = CostModel(load_hardware("{gpu: rtx-5090, host: xeon-6-1s}"), load_model("deepseek-r1"))
    layer = prices.model.layers[-1]
    one, other = (
        int(prices.price("cpu_layer", layer, np.array([1]), [seen], [seen])[0])
        for seen in (10_000, 20_000)
    )
    key = hypot(1_152 / 307.2, 2 * 128 * 2 * 576 / (96 * 40))
    assert other - one == pytest.approx(10_000 * key, rel=1e-6)
    one, other = (
        int(prices.price("cpu_layer", layer, [64], [64 * seen], [seen])[0])
        for seen in (10_000, 20_000)
    )
    own = 64 * 10_000 * 2 * 128 * (192 + 128)  # a prompt's, with each head's own keys and values
    assert other - one == pytest.approx(hypot(10_000 * 1_152 / 307.2, own / (96 * 40)), rel=1e-6)


def test_more_threads_wait_longer_for_one_another() -> None:
    """DeepSeek-R1's layers are read at 307 GB/s whatever threads do, and cores that compute in no
    time; 38 kernels end in a wait of each layer with experts, and 28 of a dense one.
    """
    every = [waits_of_r1(threads) for threads in (48, 96)]
    for layer, kernels in ((0, 24 + 4), (-1, 24 + 3 + 5 + 4 + 2)):
        assert every[1][layer] - every[0][layer] == kernels * 48 * 120


def waits_of_r1(threads: int) -> list[int]:
    """What each layer of DeepSeek-R1 takes one token on a Xeon 6."""
    software = load_software("llama.cpp")
    host = f"{{base: xeon-6-1s, threads: {threads}, core_rate: 100 TFLOP/s}}"
    machine = load_hardware(f"{{gpu: rtx-5090, host: {host}}}")
    model = load_model("deepseek-r1")
    prices = CostModel(with_engine(machine, software), model)
    return [int(prices.price("cpu_layer", one, np.array([1]), [1], [1])[0]) for one in model.layers]


def test_all_of_a_pass_but_the_head_is_the_hosts() -> None:
    """With every layer on the CPU: layers, their experts one after the other, the head."""
    case = case_of(24)
    outcome = run_replay(case)
    spent = dict(zip(outcome.categories, outcome.charges[0, 0].tolist(), strict=True))
    position = int(case.trace.position[case.schedule.rows[0]])
    due = 0
    for layer in case.model.layers:
        seen = min(position + 1, layer.attention.window or position + 1)
        due += int(case.prices.price("cpu_layer", layer, np.array([1]), [seen], [seen])[0])
        due += 4 * int(case.prices.price("cpu_expert", layer, np.array([1]))[0])
    assert spent["waiting_for_cpu"] == due
    assert spent["gate"] == spent["experts"] == spent["dispatch_combine"] == 0
    head = int(case.prices.price("head", np.array([1]))[0])
    between = spent["waiting_for_logits"] + spent["waiting_for_inputs"]
    assert outcome.ends[0, 0] == due + head + between + spent["host"]


def test_nothing_is_launched_for_them() -> None:
    assert {max(times) for times in host_times(case_of(9))[:9]} == {0}
    assert {max(times) for times in host_times(case_of(24))} == {0}


def test_their_weights_and_cache_are_in_the_hosts_memory() -> None:
    none, some = built(0), built(9)
    layers = some.case.model.layers[:9]
    weights = sum(layer.bytes for layer in layers)
    before, after = none.footprint.at_peak(), some.footprint.at_peak()
    assert before["weights"] - after["weights"] == weights
    moved = before["kv_cache"] - after["kv_cache"]
    assert moved > 0
    assert some.footprint.host - none.footprint.host == weights + moved


def test_experts_on_the_cpu_beside_attention_on_the_gpu_are_faster() -> None:
    whole = run_replay(case_of(12))
    experts = run_replay(case_of(0, experts={"on_cpu": {"layers": 12}}))
    assert experts.duration_ns < whole.duration_ns
    both = run_replay(case_of(6, experts={"on_cpu": {"layers": 12}}))
    assert experts.duration_ns < both.duration_ns < whole.duration_ns


@pytest.mark.parametrize(
    ("layers", "given", "said"),
    [
        (25, {}, "25 are more than the 24 layers of gpt-oss-20b"),
        (3, {"workload": {"phase": "all"}}, "run on the CPU in decode steps alone"),
        (3, {"gating": {"kind": "static"}}, "with dynamic gating alone"),
        (3, {"hardware": "gb10"}, "where the GPU has a memory of its own"),
        (3, {"hardware": "dgx-h100", "parallelism": {"expert": 2}}, "with one GPU alone"),
        (3, {"experts": {"prefetch": {"kind": "oracle"}}}, "without prefetch"),
    ],
)
def test_what_they_do_not_go_together_with(layers: int, given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        built(layers, **given)


ALONE: dict[str, Any] = {
    "trace": "stand-in:gpt-oss-20b",
    "workload": {"requests": 2, "phase": "all"},
    "experts": {"miss": {"kind": "cpu", "copies_from": "never"}},
}


@pytest.mark.parametrize("layers", [9, 24])
def test_prompts_run_there_where_nothing_copies_them(layers: int) -> None:
    """Both engines say the same, and the first pass is the prompt's: its layers, and the experts
    of each that it chooses, one after the other.
    """
    case = case_of(layers, **ALONE)
    played, by_events = run_replay(case), run_des(case, check=True)
    assert np.array_equal(played.ends, by_events.ends)
    assert np.array_equal(played.charges, by_events.charges)
    spent = dict(zip(played.categories, played.charges[0, 0].tolist(), strict=True))
    tokens = int(case.schedule.offsets[1])
    assert tokens > 8
    count, chosen = np.array([tokens]), case.trace.expert_ids[case.schedule.rows[:tokens]]
    due = 0
    for place, layer in enumerate(case.model.layers[:layers]):
        seen = np.minimum(np.arange(tokens) + 1, layer.attention.window or tokens)
        cached = min(tokens, layer.attention.window or tokens)
        due += int(case.prices.price("cpu_layer", layer, count, [seen.sum()], [cached])[0])
        rows = np.unique(chosen[:, place], return_counts=True)[1]
        due += int(case.prices.price("cpu_expert", layer, rows).sum())
    assert spent["waiting_for_cpu"] == due


def test_prompts_that_an_engine_would_copy_are_refused() -> None:
    with pytest.raises(InputError, match=r"host_layers: .*copies_from: never"):
        case_of(24, **ALONE | {"experts": {}})


def test_a_prompt_computes_longer_than_it_reads_and_an_answer_reads_longer() -> None:
    """10,000 keys more: of 100 queries 16,384 operations each at 51.2 a cycle of 96 cores at
    3.2 GHz, as of 32 rows and more, where a key's eight heads have 25.5; of one 1,088 bytes each at
    half of 614.4 GB/s, behind which some of the other is hidden.
    """
    machine = with_engine(
        load_hardware("{gpu: rtx-5090, host: xeon-6-1s}"), load_software("ik_llama.cpp")
    )
    prices = CostModel(machine, load_model("qwen3-30b-a3b@q4_k_m,kv_cache=q8_0"))
    layer = prices.model.layers[-1]

    def more(queries: int) -> int:
        one, other = (
            int(prices.price("cpu_layer", layer, [queries], [queries * seen], [seen])[0])
            for seen in (10_000, 20_000)
        )
        return other - one

    read = 1_088 / 307.2
    prompt = hypot(read, 100 * 16_384 / (96 * 3.2 * 51.2))
    assert more(100) == pytest.approx(10_000 * prompt, rel=1e-4)
    answer = hypot(read, 16_384 / (96 * 3.2 * 25.5))
    assert more(1) == pytest.approx(10_000 * answer, rel=1e-4)
    assert answer < 1.2 * read
