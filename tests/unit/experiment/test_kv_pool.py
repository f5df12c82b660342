"""Room for keys and values of requests that are served, beside experts."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

import moesim
from moesim.config.errors import InputError
from moesim.experiment.building.build import build
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.loading.warnings import of_inputs
from moesim.experiment.running.run import simulate
from moesim.memory.footprint.kv_pool import KvPool
from moesim.model import load_model
from moesim.workload.serving.state import STATE, Group

SMALL = {"model": "small-moe", "hardware": "rtx-4060-8gb", "trace": "small-moe"}
SCHEDULER = {"kind": "vllm", "max_num_batched_tokens": 64, "max_num_seqs": 4}


def experiment_of(
    memory: dict[str, Any] | None = None, scheduler: dict[str, Any] = SCHEDULER, **choices: Any
) -> Any:
    workload = {
        "requests": 8,
        "lengths": {"kind": "fixed", "input_len": 40, "output_len": 10},
        "routing": {"kind": "draw"},
        "batching": {"kind": "continuous", "scheduler": scheduler},
    }
    given = {**SMALL, "records": "step", "workload": workload, **choices}
    if memory is not None:
        given["memory"] = memory
    return load_experiment(given).experiment


def test_windows_and_blocks_by_hand() -> None:
    """gpt-oss-20b: half of its 24 layers see 128 tokens, of 2 x 8 heads of 64 in 16 bits each."""
    model, token = load_model("gpt-oss-20b"), 2 * 8 * 64 * 2
    pool = KvPool(blocks=100, block_size=16, seats=4, tokens=8192, at_once=4)
    assert pool.block_bytes(model) == 12 * 16 * token
    assert pool.seat_bytes(model) == 12 * (128 + 16) * token
    assert pool.bytes_of(model) == 100 * pool.block_bytes(model) + 4 * pool.seat_bytes(model)


def test_trtllm_keeps_every_token_in_layers_with_windows_unless_told() -> None:
    """``kv_cache_config.max_attention_window`` is the longest request in all layers by default."""
    model, token = load_model("gpt-oss-20b"), 2 * 8 * 64 * 2
    pool = KvPool(blocks=100, block_size=16, seats=4, tokens=8192, at_once=4, no_windows=True)
    assert pool.block_bytes(model) == 24 * 16 * token
    assert pool.seat_bytes(model) == 0
    choices: Any = {"model": "gpt-oss-20b", "hardware": "h100-sxm", "trace": "stand-in:gpt-oss-20b"}
    pools = {}
    for told in (None, "model"):
        scheduler = {"kind": "trtllm", "max_num_seqs": 4, "max_attention_window": told}
        built = build(experiment_of(scheduler=scheduler, **choices))
        assert built.case.kv_pool is not None
        pools[told] = built.case.kv_pool
    assert pools[None] == replace(pools["model"], blocks=pools[None].blocks, no_windows=True)
    assert pools["model"].blocks == pytest.approx(2 * pools[None].blocks, rel=0.01)


def test_a_share_of_what_is_left_is_of_all_that_nothing_else_takes() -> None:
    """TensorRT-LLM's ``free_gpu_memory_fraction``; a share of the GPU counts weights, too."""
    held = {}
    for room in ("auto", "100 %", "50 %"):
        built = build(experiment_of({"kv": room, "gpu_memory_utilization": "50 %"}))
        assert built.case.kv_pool is not None
        block = built.case.kv_pool.block_bytes(built.case.model)
        held[room] = built.case.kv_pool.blocks * block
        beside = int(built.footprint.total.max()) - held[room]
        left = built.hardware.memory_bytes - built.hardware.context_bytes - beside
        share = {"auto": None, "100 %": 1, "50 %": 0.5}[room]
        if share is not None:
            assert 0 <= share * left - held[room] < block
    half = built.hardware.memory_bytes // 2
    assert 0 <= half - built.hardware.context_bytes - beside - held["auto"] < block


def test_trtllm_takes_its_share_of_what_is_left_where_nothing_is_said() -> None:
    blocks = {}
    for kind, memory in product(("trtllm", "vllm"), ({}, {"kv": "90 %"})):
        experiment = gpt_oss({"kind": kind, "max_num_seqs": 4}, "at_once", memory=memory)
        blocks[kind, len(memory)] = pool_of(experiment).blocks
    assert blocks["trtllm", 0] == blocks["trtllm", 1]
    assert blocks["vllm", 0] < blocks["vllm", 1]


@pytest.mark.parametrize(
    ("kind", "memory", "warned"),
    [
        ("trtllm", {"gpu_memory_utilization": "80 %"}, True),
        ("trtllm", {"gpu_memory_utilization": "90 %"}, False),
        ("vllm", {"gpu_memory_utilization": "80 %"}, False),
        ("vllm", {"gpu_memory_utilization": "80 %", "kv": "2 GiB"}, True),
    ],
)
def test_a_share_that_nothing_goes_by_is_warned_of(kind, memory, warned) -> None:
    experiment = gpt_oss({"kind": kind, "max_num_seqs": 4}, "at_once", memory=memory)
    assert warned == any("memory.gpu_memory_utilization" in one for one in of_inputs([experiment]))


def gpt_oss(scheduler: dict[str, Any], arrivals: str, **choices: Any) -> Any:
    """An experiment of 8 requests, perhaps of three clients."""
    clients = {"max_concurrency": 3} if arrivals == "closed_loop" else {}
    workload = {
        "requests": 8,
        "arrivals": {"kind": arrivals, **clients},
        "lengths": {"kind": "fixed", "input_len": 40, "output_len": 10},
        "routing": {"kind": "draw", "prompts_from": "decode"},
        "batching": {"kind": "continuous", "scheduler": scheduler},
    }
    given = {"model": "gpt-oss-20b", "hardware": "h100-sxm", "trace": "traces/quickstart.parquet"}
    return load_experiment({**given, "workload": workload, **choices}).experiment


def pool_of(experiment: Any) -> KvPool:
    pool = build(experiment).case.kv_pool
    assert pool is not None
    return pool


def test_windows_are_of_no_more_requests_than_clients() -> None:
    """Clients ask one by one; else SGLang lets 256 run, however few a run has."""
    model, pools = load_model("gpt-oss-20b"), {}
    for arrivals, seqs in product(("at_once", "closed_loop"), (256, 2)):
        scheduler = {"kind": "sglang", "max_num_seqs": seqs}
        pools[arrivals, seqs] = pool_of(gpt_oss(scheduler, arrivals))
    assert [pool.at_once for pool in pools.values()] == [256, 2, 3, 2]
    more, fewer = pools["closed_loop", 256], pools["at_once", 256]
    each, windows = fewer.block_bytes(model), 253 * fewer.seat_bytes(model)
    assert abs((more.blocks - fewer.blocks) * each - windows) < each


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_states_under_vllm_take_blocks_of_the_pool(kind: str) -> None:
    """However many may run: Qwen3-Next is served on one H200 as it stands, in blocks that hold a
    state. SGLang sets room for 256 states aside.
    """
    of = {
        "model": "qwen3-next-80b-a3b@fp8",
        "hardware": "h200-sxm",
        "trace": "stand-in:qwen3-30b-a3b",
    }
    built = build(gpt_oss({"kind": kind}, "at_once", **of)).case
    pool = built.kv_pool
    assert pool is not None
    assert pool.blocks > 0
    assert built.serving is not None
    room = built.serving.room
    if kind == "sglang":
        assert (pool.at_once, pool.seat_bytes(built.model) > 0) == (256, True)
        assert (room.block_size, room.groups) == (1, (Group(),))
        return
    assert pool.seat_bytes(built.model) == 0
    assert (room.block_size, room.inside) == (1088, True)
    assert room.groups == (*[Group(2, keeps=STATE)] * 3, Group())


def test_under_vllm_windows_take_blocks_of_the_pool_and_set_nothing_aside() -> None:
    """However many may run at once, 1,024 or three."""
    model = load_model("gpt-oss-20b")
    shared = [pool_of(gpt_oss({"kind": "vllm"}, one)) for one in ("at_once", "closed_loop")]
    assert shared[0].blocks == shared[1].blocks
    assert shared[0].seat_bytes(model) == 0
    assert shared[0].plan is not None
    assert [(one.window, len(one.layers)) for one in shared[0].plan.groups] == [
        (128, 12),
        (None, 12),
    ]
    built = build(gpt_oss({"kind": "vllm"}, "at_once"))
    assert built.case.serving is not None
    assert built.case.serving.room.groups == (Group(128), Group())
    assert set(built.footprint.parts["kv_cache"].ravel()) == {shared[0].blocks * 12 * 16 * 2048}


def test_tokens_are_those_that_vllm_prints() -> None:
    """Of requests of 4,000 tokens, 250 blocks, the window takes (127 + 2 * 512) / 16 and one more,
    73: 1,000 blocks hold 1000 / 323 of them, or so many tokens.
    """
    scheduler = {"kind": "vllm", "max_num_batched_tokens": 512, "max_model_len": 4000}
    summary = simulate(gpt_oss(scheduler, "at_once", memory={"kv": "1000 blocks"})).summary
    assert summary["kv_max_concurrency"] == 1000 / 323
    assert summary["kv_tokens"] == 4000 * 1000 // 323


def test_instances_that_hand_over_set_windows_aside() -> None:
    """What they send, and take blocks for, are layers that keep all."""
    apart = {"disaggregation": {"prefill": 1, "decode": 1, "bandwidth": "400 Gb/s"}}
    built = build(gpt_oss({"kind": "vllm"}, "at_once", serving=apart)).case
    assert built.kv_pool is not None
    assert built.serving is not None
    assert built.kv_pool.plan is None
    assert built.serving.room.groups == (Group(),)


def test_sglangs_share_is_of_weights_and_cache_alone() -> None:
    """``--mem-fraction-static``; a pass's activations are beside it, and always fit."""
    budgets = {"sglang": "chunked_prefill_size", "vllm": "max_num_batched_tokens"}
    pools = {}
    for share, kind in product(("50 %", "100 %"), budgets):
        scheduler = {"kind": kind, budgets[kind]: 64, "max_num_seqs": 4}
        memory = {"gpu_memory_utilization": share, "block_size": 16}
        built = build(experiment_of(memory, scheduler))
        pool = built.case.kv_pool
        assert pool is not None
        assert built.out_of_memory is None
        pools[share, kind], each = pool.blocks, pool.block_bytes(built.case.model)
        held, free = built.footprint.parts, built.hardware
    activations = int(held["activations"].max())
    more = (pools["50 %", "sglang"] - pools["50 %", "vllm"]) * each
    assert activations + free.context_bytes / 2 == pytest.approx(more, abs=2 * each)
    assert abs(pools["100 %", "sglang"] - pools["100 %", "vllm"]) <= 1


@pytest.mark.parametrize("share", ["50 %", "90 %"])
def test_the_pool_is_what_is_left_of_the_share(share: str) -> None:
    built = build(experiment_of({"gpu_memory_utilization": share}))
    pool, model = built.case.kv_pool, built.case.model
    assert pool is not None
    limit = int(built.hardware.memory_bytes * float(share[:2]) / 100)
    spare = limit - built.hardware.context_bytes - int(built.footprint.total.max())
    assert 0 <= spare < pool.block_bytes(model)
    assert built.out_of_memory is None
    assert set(built.footprint.parts["kv_cache"].ravel().tolist()) == {pool.bytes_of(model)}
    assert built.case.serving is not None
    assert built.case.serving.room.blocks == pool.blocks


@pytest.mark.parametrize("rate", [1, 500])
def test_a_run_holds_what_was_set_aside_before_it(rate: int) -> None:
    """Blocks were sized beside a pass as uneven as the fullest of requests that come at once, and
    the run's peak counted one as uneven as its own fullest: more than the engine's share.
    """
    arrivals = {"kind": "poisson", "request_rate": f"{rate} requests/s"}
    lengths = {"kind": "fixed", "input_len": 40, "output_len": 10}
    batching = {"kind": "continuous", "scheduler": SCHEDULER}
    workload: dict[str, Any] = {"requests": 8, "arrivals": arrivals, "lengths": lengths}
    gpu = {"base": "h100-sxm", "memory": "8 GiB"}  # few blocks, and the same rule
    hardware = {"base": "dgx-h100", "gpu": gpu}
    machine: dict[str, Any] = {"hardware": hardware, "parallelism": {"expert": 4}}
    workload |= {"batching": batching, "routing": {"kind": "draw"}}
    asked = experiment_of(workload=workload, **machine)
    planned, summary = build(asked), simulate(asked).summary
    share = int(0.9 * planned.hardware.memory_bytes) - planned.hardware.context_bytes
    assert summary["peak_memory_bytes"] == int(planned.footprint.total.max()) <= share


def test_experts_take_what_keys_and_values_leave() -> None:
    """One budget: less room for experts, by what a bigger pool takes."""
    few, many = (
        build(experiment_of({"kv": f"{mib} MiB"}, experts={"capacity": "auto"}))
        for mib in (1024, 7665)
    )
    slots = [min(one.slots_per_layer) for one in (few, many)]
    assert slots[1] < slots[0]
    assert few.out_of_memory is None is many.out_of_memory


def test_blocks_that_are_given_bound_who_runs() -> None:
    """8 requests of 50 tokens in 4 blocks each: 9 blocks hold two at a time."""
    result = simulate(experiment_of({"kv": "9 blocks"}))
    assert result.summary["kv_blocks"] == 9
    assert result.summary["kv_tokens"] == 144
    assert result.summary["completed"] == 8
    assert result.steps.live_requests.max() <= 3  # the third has its prompt in
    assert result.summary["kv_usage_max"] <= 1
    free = simulate(experiment_of({"kv": "400 blocks"}))
    assert free.steps.live_requests.max() == 4
    assert free.summary["preemptions"] == 0
    assert free.summary["kv_usage_max"] <= 16 / 400
    assert free.summary["output_throughput"] > result.summary["output_throughput"]


def problem(*args: Any, **given: Any) -> str:
    with pytest.raises(InputError) as caught:
        build(experiment_of(*args, **given))
    return str(caught.value)


def test_where_windows_fill_a_card_their_number_is_the_remedy() -> None:
    """An H200 holds Gemma 4, but not the windows of 1,024 requests."""
    others = {"model": "gemma-4-26b-a4b", "hardware": "h200-sxm", "trace": "stand-in:qwen3-30b-a3b"}
    said = problem({"kv": "auto"}, {"kind": "sglang", "max_num_seqs": 1024}, **others)
    assert "or max_num_seqs: windows and states of 1024 requests are set aside" in said


def test_mistakes() -> None:
    assert "'none' is no room for keys" in problem({"kv": "none"})
    assert "blocks are a whole number" in problem({"kv": "1.5 blocks"})
    said = problem({"gpu_memory_utilization": "0 %"})
    assert "'0 %' leaves the engine no memory; a share above 0 is needed, as in '90 %'" in said
    said = problem({"gpu_memory_utilization": "1 %"})
    assert "memory.kv: 'auto' leaves no room for a block" in said
    assert "of keys and values beside weights of 0.03 GiB and activations of" in said
    assert "max_num_seqs" not in said
    said = problem(experts={"capacity": "auto"})
    assert "both take what the other leaves; write memory.kv" in said
    batches = {"batching": {"kind": "static", "batch_size": 2}}
    assert "'static' batching keeps what its" in problem({"kv": "auto"}, workload=batches)


@pytest.mark.parametrize("arrivals", [
    {"kind": "closed_loop", "max_concurrency": 2},
    {"kind": "poisson", "request_rate": "1000 requests/s"},
])  # fmt: skip
def test_what_no_gpu_keeps_has_no_limit(arrivals: dict[str, Any]) -> None:
    """All layers are the host's, with their keys and values: a billion blocks were made for it."""
    workload = {
        "requests": 3, "arrivals": arrivals, "batching": {"kind": "continuous"},
        "lengths": {"kind": "fixed", "input_len": 5, "output_len": 4}, "routing": {"kind": "draw"},
    }  # fmt: skip
    told = moesim.run({
        "model": "small-moe", "hardware": {"gpu": "rtx-3090", "host": "ddr4-3200-2ch-64gb"},
        "software": "llama.cpp", "host_layers": 8, "workload": workload,
        "experts": {"miss": {"kind": "cpu", "copies_from": "never"}},
    }).summary  # fmt: skip
    assert told["completed"] == 3
    assert told["kv_blocks"] is None
