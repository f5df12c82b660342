"""Layers whose experts stay on the host, as llama.cpp's --n-cpu-moe has it."""

from __future__ import annotations

import numpy as np
import pytest

import moesim
from moesim.config.errors import InputError
from moesim.engine.des.run import run_des
from moesim.engine.replay.run import run_replay
from moesim.experiment.building.build import build
from moesim.experiment.questions.fit import slots_by_context
from moesim.experiment.questions.fit_passes import decode_step
from moesim.memory.footprint.footprint import Residence

LAYERS, EXPERTS = 24, 32


def built(layers, passes=30, **experts):
    on_cpu = {"pattern": layers} if isinstance(layers, str) else {"layers": layers}
    source = {
        "model": "gpt-oss-20b",
        "hardware": "rtx-4060-8gb",
        "trace": "traces/quickstart.parquet",
        "workload": {"requests": 1, "phase": "decode"},
        "experts": {"on_cpu": on_cpu, **experts},
    }
    return build(moesim.load_experiment(source).experiment, passes)


@pytest.mark.parametrize("layers", [1, 7, LAYERS])
def test_the_host_computes_the_first_layers_and_nothing_is_copied(layers):
    case = built(layers).case
    played, by_events = run_replay(case), run_des(case)
    assert np.array_equal(played.ends, by_events.ends)
    assert np.array_equal(played.charges, by_events.charges)
    hosted, activations = played.counts.missed_as(case.miss.forms[1]), played.counts.activations
    assert np.array_equal(hosted[:, :layers], activations[:, :layers])
    assert not hosted[:, layers:].any()
    assert not played.counts.copies.any()


@pytest.mark.parametrize(
    ("layers", "on_cpu"),
    [
        ([5, 20], [5, 20]),
        ("exps", range(LAYERS)),
        (r"blk\.(2[0-9])\.ffn_.*_exps\.", range(20, LAYERS)),
        (r"[5-6].ffn_(up|down|gate)_exps", [5, 6, 15, 16]),
    ],
)
def test_any_layers_can_be_on_the_cpu(layers, on_cpu):
    """A pattern is searched for anywhere in a name, as llama.cpp does it."""
    slots = built(layers).case.slots[0]
    assert np.flatnonzero(slots == 0).tolist() == list(on_cpu)
    assert set(slots.tolist()) <= {0, EXPERTS}


def test_the_time_is_that_of_the_same_layers_in_front():
    """gpt-oss's even layers have a sliding window, and in so short a context no layer is slower."""
    by_count, by_list = (run_replay(built(layers).case) for layers in (2, [1, 0]))
    assert np.array_equal(by_count.ends, by_list.ends)


def test_what_they_leave_free_is_their_experts():
    held = [built(layers).footprint.at_peak()["weights"] for layers in (0, 10)]
    layer = built(0).case.model.moe_layers[0]
    assert layer.moe is not None
    assert held[0] - held[1] == 10 * EXPERTS * layer.moe.expert.bytes


def test_auto_and_bytes_are_room_for_the_other_layers():
    layer = built(0).case.model.moe_layers[0]
    assert layer.moe is not None
    room = f"{5 * 20 * layer.moe.expert.bytes} B"
    slots = built(4, capacity=room, miss={"kind": "cpu"}).case.slots[0].tolist()
    assert slots == [0] * 4 + [5] * 20
    auto = built(14, capacity="auto", miss={"kind": "cpu"}).case.slots[0].tolist()
    assert auto == [0] * 14 + [EXPERTS] * 10


def test_fit_says_the_fewest_that_fit():
    assert [row["cpu_layers"] for row in slots_by_context(built(0), [1024], [1])] == [14]
    assert built(14).out_of_memory is None
    assert built(13).out_of_memory is not None


@pytest.mark.parametrize(("context", "batch"), [(1024, 1), (131072, 1), (1024, 16), (131072, 16)])
def test_the_fewest_are_what_the_bytes_say(context, batch):
    """Weights without experts, KV and the logits' part are what a step with no slots holds."""
    one = built(0)
    moe = one.case.model.moe_layers[0].moe
    assert moe is not None
    nothing = (Residence(EXPERTS, (0,) * LAYERS),)
    left = one.limit_bytes - int(decode_step(one, batch, context, nothing).total.max())
    whole = left // (EXPERTS * moe.expert.bytes)
    (row,) = slots_by_context(one, [context], [batch])
    assert row["cpu_layers"] == (None if left < 0 else max(0, LAYERS - whole))


@pytest.mark.parametrize(
    ("layers", "experts", "said"),
    [
        (25, {}, "25 are more than the model's 24 MoE layers"),
        ([2, 24], {}, "24 is no MoE layer of gpt-oss-20b; they are 0 to 23"),
        ("ffn_up_exps", {}, "finds blk.0.ffn_up_exps.weight and not blk.0.ffn_gate_exps.weight"),
        (r"blk\.3\.", {}, "finds blk.3.attn_q.weight too; only experts can be on the CPU"),
        ("experts", {}, "'experts' finds no expert; their names are like blk.0.ffn_gate_exps"),
        ("(", {}, "'\\(' is no regular expression"),
        ("(" * 3000, {}, "is no regular expression that moesim reads"),
        ("[[:digit:]]exps", {}, "is no regular expression that moesim reads"),
        ("a{99999999999}", {}, "is no regular expression that moesim reads"),
        ("(([a-z._0-9]+)+)+X", {}, "repeats repetitions"),
        ("exps|attn_norm|ffn_gate_inp", {}, "finds blk.0.ffn_gate_inp.weight too"),
        (-1, {}, "-1 is neither a number of layers nor a list of layers"),
        ([0, 0], {}, "names a layer twice"),
        ([], {}, r"\[\] is neither a number of layers nor a list of layers"),
        (3, {"miss": {"kind": "cheapest"}}, "'cheapest' does not go together with on_cpu"),
        (3, {"miss": {"kind": "skip"}}, "'skip' does not go together with on_cpu"),
        (3, {"capacity": "8 slots/layer"}, "needs room for all experts of the other layers"),
        (3, {"slots": {"kind": "by_layer"}}, "on_cpu says which layers have none"),
        (3, {"policy": {"kind": "lru", "scope": "global"}}, "one pool would give slots to layers"),
    ],
)
def test_what_does_not_go_together(layers, experts, said):
    with pytest.raises(InputError, match=said):
        built(layers, **experts)


def test_a_layer_that_streams_is_not_on_the_cpu():
    source = {
        "model": "small-moe",
        "hardware": "rtx-4060-8gb",
        "trace": "small-moe",
        "workload": {"phase": "all", "prefill": {"experts": "stream"}},
        "experts": {"on_cpu": {"layers": 1}},
    }
    with pytest.raises(InputError, match="would copy layers that on_cpu leaves on the host"):
        build(moesim.load_experiment(source).experiment, 5)
