"""The parts of the rebuilt study: assumptions, traces, machine, prices, dense models."""

from __future__ import annotations

import numpy as np
import pytest

from moesim.config.errors import InputError
from moesim.hardware import CostModel, load_software
from moesim.hardware.described.software_memory import SoftwareMemory
from moesim.model import load_model
from moesim.reproduce.balance import pool_of
from moesim.reproduce.dense import dense_counterpart
from moesim.reproduce.eager import EagerPrices
from moesim.reproduce.machines import hardware_of, software_of
from moesim.reproduce.parameters import PARAMETERS, assumptions, defaults
from moesim.reproduce.traces import read_pool, repeated, used_by_place
from moesim.testing.traces import toy_trace
from moesim.trace import write_trace
from moesim.workload.requests import Requests


def test_every_assumption_has_a_range_around_its_default():
    for one in PARAMETERS:
        assert one.others
        assert one.default not in one.others
        assert one.source
    assert len({one.name for one in PARAMETERS}) == len(PARAMETERS)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("lunch_us=3", r"lunch_us.*is no assumption of the study.*launch_us"),
        ("launch_us=fast", r"launch_us: must be a number from .* us; its range is 15 to 35"),
        ("launch_us=-1", r"must be a number from 1e-06 to"),
        ("persistence=1.5", r"must be a number from 0 to 1; its range is 0.5 to 0.9"),
        ("pcie=slot", r"pcie: must be one of pair, gpu"),
        ("launch_us", r"has no '='"),
    ],
)
def test_a_wrong_setting_is_told(setting, message):
    with pytest.raises(InputError, match=message):
        assumptions([setting])


def test_settings_stay_beside_the_defaults():
    values = assumptions(["launch_us=35", "slots=total"])
    assert values["launch_us"] == 35
    assert values["slots"] == "total"
    assert values["gemm_tflops"] == defaults()["gemm_tflops"] == 75


@pytest.mark.parametrize(
    ("name", "millions"), [("lm-52b", 355), ("nllb-moe-54b", 3300)], ids=["lm", "mt"]
)
def test_dense_counterparts_are_the_studys(name, millions):
    dense = dense_counterpart(load_model(name))
    assert not dense.moe_layers
    assert dense.parameters / 1e6 == pytest.approx(millions, rel=0.03)


@pytest.mark.parametrize("persistence", [0.5, 0.7, 0.9])
def test_places_of_a_sentence_keep_their_experts(persistence):
    used = used_by_place(200, 6, 0.5, persistence)
    stays = (used[:-1] & used[1:]).sum() / used[:-1].sum()
    assert stays == pytest.approx(persistence, abs=0.02)
    assert used.mean() == pytest.approx(0.5, abs=0.03)
    rarely = used_by_place(200, 6, 0.25, persistence)
    assert rarely.mean() == pytest.approx(0.25, abs=0.03)
    assert (rarely[:-1] & rarely[1:]).sum() / rarely[:-1].sum() == pytest.approx(
        persistence, abs=0.03
    )


def test_a_pool_that_is_written_again_is_read_again(tmp_path):
    path = tmp_path / "pool.parquet"
    write_trace(toy_trace([(1, 2)]), path)
    first = read_pool(path)
    assert read_pool(path) is first
    write_trace(toy_trace([(1, 2), (2, 2)]), path)
    assert read_pool(path).tokens == 7


def test_a_pool_begins_anew():
    pool = Requests(
        rows=np.arange(5),
        request=np.array([0, 0, 1, 1, 1]),
        decode_index=np.array([0, 1, 0, 1, 2]),
        decode_tokens=np.array([2, 3]),
    )
    twice = repeated(pool, 3)
    assert twice.rows.tolist() == [0, 1, 2, 3, 4, 0, 1]
    assert twice.request.tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert twice.decode_index.tolist() == [0, 1, 0, 1, 2, 0, 1]
    assert twice.decode_tokens.tolist() == [2, 3, 2]
    same = repeated(pool, 4, times=2)
    assert same.rows.tolist() == [0, 1, 0, 1, 2, 3, 4, 2, 3, 4]
    assert same.request.tolist() == [0, 0, 1, 1, 2, 2, 2, 3, 3, 3]


def prices(phase, model="lm-52b", **more):
    values = {**defaults(), **more}
    return EagerPrices(CostModel(hardware_of(values), load_model(model)), phase, values)


def _lm():
    return load_model("lm-52b")


def test_unfused_scores_are_moved_in_full():
    layer, tokens = _lm().layers[0], np.array([512])
    causal = tokens * 513 // 2
    few, many = (
        prices("prefill", score_bytes=size).attention_ns(layer, tokens, causal, tokens)
        for size in (8, 16)
    )
    scores = 16 * 512 * 512
    assert int((many - few)[0]) == pytest.approx(8 * scores / 750e9 * 1e9, abs=1)


def test_unfused_scores_over_the_source_are_moved_too():
    """16 heads and 28 source tokens for each of 48 sentences; nothing without a source."""
    layer, tokens = load_model("nllb-moe-54b").layers[-1], np.array([0, 48 * 28])
    few, many = (
        prices("decode", "nllb-moe-54b", score_bytes=size).cross_attention_ns(
            layer, tokens, tokens, 0 * tokens
        )
        for size in (8, 16)
    )
    assert few[0] == many[0] == 0
    assert int((many - few)[1]) == pytest.approx(8 * 16 * 48 * 28 / 750, abs=1)


def test_masks_and_logits_follow_their_traffic():
    layer, tokens, capacity = _lm().layers[1], np.array([64]), np.array([4])
    few, many = (
        prices("prefill", mask_traffic_bytes=size).masks_ns(layer, tokens, 512, capacity)
        for size in (38, 45)
    )
    assert int((many - few)[0]) == pytest.approx(7 * 64 * 512 * 4 / 750, abs=1)
    few, many = (prices("decode", logit_traffic_bytes=size).head_ns(tokens) for size in (6, 16))
    assert int((many - few)[0]) == pytest.approx(10 * 64 * 51_200 / 750, abs=1)


def test_positions_follow_their_traffic():
    """64 tokens, 512 experts and two choices each; also where Tutel encodes."""
    layer, tokens, capacity = _lm().layers[1], np.array([0, 64]), np.array([0, 4])
    few, many = (prices("prefill", position_traffic_bytes=size) for size in (98, 156))
    masks = many.masks_ns(layer, tokens, 512, capacity) - few.masks_ns(layer, tokens, 512, capacity)
    shape = layer, tokens, 512, capacity, 2 * tokens
    assert few.encode_ns(*shape)[0] == masks[0] == 0
    for moved in (masks, many.encode_ns(*shape) - few.encode_ns(*shape)):
        assert int(moved[1]) == pytest.approx(58 * 64 * 512 * 2 / 750, abs=1)


def test_experts_follow_their_passes():
    """By launch of one expert or several; an expert without rows costs no more."""
    layer, rows = _lm().layers[1], np.array([0, 300, 20, 5000])
    few, many = (prices("prefill", expert_passes=passes) for passes in (8, 20))
    for starts, own in ((np.arange(4), rows), (np.array([0, 2]), np.array([300, 5020]))):
        more = many.experts_ns(layer, rows, starts) - few.experts_ns(layer, rows, starts)
        assert more.tolist() == pytest.approx(12 * 1024 * 2 / 750 * own, abs=1)
    values = {**defaults(), "expert_passes": 20}
    plain = CostModel(hardware_of(values), _lm()).experts_ns(layer, rows, np.arange(4))
    assert many.experts_ns(layer, rows, np.arange(4)).tolist() == plain.tolist()
    assert few.experts_ns(layer, rows, np.arange(0)).tolist() == []


def test_larger_pools_hold_what_would_be_drawn_twice():
    def times(*settings):
        return pool_of(assumptions(settings))

    assert times() == times("balancing_batch=half", "recorded_batches=16") == 1
    assert times("balancing_batch=double") == times("recorded_batches=32") == 4
    assert times("balancing_batch=double", "recorded_batches=32") == 8


def test_the_machine_is_what_is_assumed():
    values = assumptions(["all_to_all_gbps=80", "network_gbps=20", "pcie=gpu", "launch_us=15"])
    hardware, software = hardware_of(values), software_of(values)
    assert hardware.datasheet.peers.all_to_all_bytes_per_second == pytest.approx(80e9, rel=1e-9)
    assert hardware.network is not None
    assert hardware.network.bytes_per_second == pytest.approx(20e9, rel=1e-9)
    assert not hardware.links(8).shared("h2d")
    assert hardware_of(defaults()).links(8).shared("h2d")
    assert software.launch_ns == 15_000
    assert hardware.datasheet.peers.latency.value == 90_000
    assert hardware.datasheet.kernel_start.value == 4_000
    values = assumptions(["kernel_start_us=2", "empty_experts=skipped"])
    assert hardware_of(values).datasheet.kernel_start.value == 2_000
    assert software.calls_empty
    assert software.memory == load_software("fairseq").memory
    half = software_of(assumptions(["nccl_channels=6"])).memory
    assert 2 * half.collective_bytes == software.memory.collective_bytes
    assert half.peer_bytes == software.memory.peer_bytes
    assert software_of(assumptions(["ledger=tensors"])).memory == SoftwareMemory()
    assert not software_of(values).calls_empty
