"""Attention sums, host time and both faces of the toy prices, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from .prices import ScalarPrices, ToyCostModel, ToyPrices
from .reference_batches import passes_of
from .reference_clock import Clock
from .reference_host import Host
from .reference_words import DECODE, ENCODE, PREFILL, Config, Kernels, Layer, Model, Software, Trace

SOFTWARE = Software(
    kernels=Kernels(attention=3, gate=2, expert=5, grouped=4, combine=6, head=7),
    launch_ns=2.5,
    host_per_layer_ns=1,
    host_per_copy_ns=1.5,
    copies_per_expert=3,
    synchronisations=2,
)


@pytest.mark.parametrize(
    ("phase", "window", "expected"),
    [
        # prompt positions 0 1 2 and 0 1: contexts 1 + 2 + 3 and 1 + 2; read once 3 and 2
        (PREFILL, None, (9, 5)),
        (PREFILL, 2, (1 + 2 + 2 + 1 + 2, 5)),  # what is read once is not clipped
        # first decode tokens at positions 3 and 2: contexts 4 and 3
        (DECODE, None, (7, 7)),
        (DECODE, 3, (6, 6)),
        # 2 and 1 tokens to encode: each attends to all of its request
        (ENCODE, None, (4 + 1, 3)),
    ],
)
def test_attention_sums(phase: int, window: int | None, expected: tuple[int, int]) -> None:
    trace: Trace = {"expert_ids": [], "request_id": [], "position": [], "phase": []}
    for request, encoded, prompt in ((0, 2, 3), (1, 1, 2)):
        positions = [*range(encoded), *range(prompt + 1)]
        trace["position"] += positions
        trace["request_id"] += [request] * len(positions)
        trace["phase"] += [ENCODE] * encoded + [PREFILL] * prompt + [DECODE]
        trace["expert_ids"] += [[[0]] for _ in positions]
    names = {PREFILL: "prefill", DECODE: "decode", ENCODE: "encode"}
    config = Config(batch_size=2, phase=names[phase])
    model = Model([Layer(0, moe=True)], 2, 1, 1, 1, 1)
    clock = Clock(trace, model, config, ToyPrices())
    (one,) = passes_of(trace, config)
    assert clock.attention_sums(one, 0, window) == expected


def test_host_time_by_execution() -> None:
    eager = Host(Config(software=SOFTWARE))
    # 3 x 2.5 + 1 = 8.5 -> 9; 2 x 2.5; 5 x 2.5 = 12.5 -> 13; 10; 15; 17.5 -> 18; 4.5 -> 5
    assert (eager.attention, eager.gate, eager.combine, eager.head) == (9, 5, 15, 18)
    assert (eager.activation, eager.launch, eager.copy, eager.synchronisations) == (13, 10, 5, 2)
    assert eager.experts(activations=3, launches=2) == 20
    assert Host(Config(software=SOFTWARE, kernels="serial")).experts(3, 3) == 39
    # one launch for attention: 2.5 + 1 = 3.5 -> 4; head 2.5 -> 3; combine none
    piecewise = Host(Config(software=SOFTWARE, execution="piecewise"))
    assert (piecewise.attention, piecewise.gate, piecewise.combine, piecewise.head) == (4, 5, 0, 3)
    assert (piecewise.activation, piecewise.launch, piecewise.copy) == (13, 10, 5)
    graph = Host(Config(software=SOFTWARE, execution="graph", decide="device"))
    assert {value for name, value in vars(graph).items() if name != "serial"} == {0}


def test_a_graph_cannot_wait_for_the_host() -> None:
    model = Model([Layer(0, moe=True)], 3, 1, 1, 1, 1)
    with pytest.raises(ValueError, match="decide on the device"):
        Clock({}, model, Config(execution="graph", slots=2), ToyPrices())
    Clock({}, model, Config(execution="graph", slots=3), ToyPrices())  # nothing to decide


def test_both_faces_of_the_toy_prices_agree() -> None:
    toy, layer = ToyPrices(), Layer(3, moe=True, kind=3)
    costs = ToyCostModel(toy, lambda one: int(one.kind))
    rows = [4, 0, 7, 1, 1]
    launches = [[4, 0], [7], [1, 1]]
    expected = [toy.experts_ns(layer, launch) for launch in launches]
    assert costs.experts_ns(layer, np.array(rows), np.array([0, 2, 3])).tolist() == expected
    assert toy.experts_ns(layer, [4, 0, 7]) != sum(expected[:2])
    scalar = ScalarPrices(costs, [layer])
    assert scalar.experts_ns(layer, [7, 2]) == toy.experts_ns(layer, [7, 2])
    assert scalar.attention_ns(layer, 2, 9, 5) == toy.attention_ns(layer, 2, 9, 5)
    assert scalar.masks_ns(layer, 4, 3, 2) == toy.masks_ns(layer, 4, 3, 2)
    assert costs.cpu_expert_ns(layer, np.array(rows)).tolist() == [
        1 + 29 + 15 + 23 * n + n * n // 7 for n in rows
    ]
    assert scalar.cpu_expert_ns(layer, 7) == toy.cpu_expert_ns(layer, 7) == 45 + 161 + 7
    assert scalar.head_ns(3) == toy.head_ns(3)
    matrix = [[9, 1, 2], [3, 9, 4], [5, 6, 9]]
    assert scalar.all_to_all_ns(matrix) == toy.all_to_all_ns(matrix) == 19 + -(-(3 * 11 + 6) // 4)
    assert toy.all_to_all_ns([list(column) for column in zip(*matrix, strict=True)]) == 19 + 8
