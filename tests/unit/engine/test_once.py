"""Rows between GPUs where a token goes once to each GPU that has experts of its."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.engine.des.run import run_des
from moesim.engine.once import send_once
from moesim.engine.replay.collectives import Collectives
from moesim.engine.replay.run import run_replay
from moesim.experiment.building.build import build
from moesim.experiment.loading.resolve import load_experiment
from moesim.model.spread import DISPATCHED
from moesim.trace.routing import NO_EXPERT


def sent(choices, senders, node, gpus=4, active=True):
    """Rows [gpus, gpus] of one pass with a token for each of ``choices``; GPU g has 2g, 2g + 1."""
    ids = np.array(choices, np.uint16)[:, None, :]
    ids.flags.writeable = False
    rows = np.arange(len(choices))
    gpu_of = np.repeat(np.arange(gpus), 2)[None]
    found = np.zeros((1, 1, gpus, gpus), np.int64)
    offsets, runs = np.array([0, len(choices)]), np.array([[active]])
    send_once(ids, rows, np.array(senders), offsets, runs, gpu_of, node, found)
    return {(int(s), int(r)): int(found[0, 0, s, r]) for s, r in np.argwhere(found[0, 0])}


@pytest.mark.parametrize(
    ("choices", "rows"),
    [
        ([2, 3, 4], {(0, 1): 1, (0, 2): 1}),
        ([0, 1, 7], {(0, 3): 1}),
        ([0, 1, NO_EXPERT], {}),
    ],
)
def test_two_experts_of_a_gpu_take_one_row(choices, rows):
    assert sent([choices], [0], 4) == rows


def test_tokens_add_up():
    assert sent([[2, 3], [2, 0], [6, 7]], [0, 0, 1], 4) == {(0, 1): 2, (1, 3): 1}


def test_another_node_is_sent_one_row_which_is_handed_on_there():
    """GPUs 0 and 1 are a node, 2 and 3 one: GPU 1's tokens come to 3, which stands as it does."""
    assert sent([[4, 6, 0]], [1], 2) == {(1, 0): 1, (1, 3): 1, (3, 2): 1}
    assert sent([[4, 5]], [0], 2) == {(0, 2): 1}
    assert sent([[6, 7]], [0], 2) == {(0, 2): 1, (2, 3): 1}


def test_nothing_goes_where_a_layer_does_not_run():
    assert sent([[2, 4]], [0], 4, active=False) == {}


@given(st.data())
def test_once_is_never_more_than_a_row_for_each_expert(data):
    """A node gets no more from others, and on one node no GPU sends or gets more (of several the
    GPU that hands on may), and as much where a token's experts are all on GPUs of their own.
    """
    nodes, size = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4))
    gpus, top_k = nodes * size, data.draw(st.integers(1, 4))
    expert, sender = st.integers(0, 2 * gpus - 1), st.integers(0, gpus - 1)
    token = st.tuples(sender, st.lists(expert, min_size=top_k, max_size=top_k))
    senders, choices = zip(*data.draw(st.lists(token, min_size=1, max_size=8)), strict=True)
    once, each = np.zeros((2, gpus, gpus), np.int64)
    for (s, r), rows in sent(choices, senders, size, gpus).items():
        once[s, r] = rows
    for s, of_token in zip(senders, choices, strict=True):
        for one in of_token:
            each[s, one // 2] += one // 2 != s
    across = np.arange(gpus)[:, None] // size != np.arange(gpus) // size
    assert (once * across).sum() <= (each * across).sum()
    assert ((once * across).sum(1) <= (each * across).sum(1)).all()
    apart = all(len({one // 2 for one in of_token}) == top_k for of_token in choices)
    assert nodes > 1 or ((once <= each).all() and (not apart or (once == each).all()))


@given(st.sampled_from(sorted(DISPATCHED)), st.integers(5, 20000))
def test_a_rounded_row_has_fewer_bytes_than_one_of_16_bits(dtype, values):
    assert values / 2 < DISPATCHED[dtype].row_bytes(values) < 2 * values


@pytest.mark.parametrize(("gpus", "nodes", "columns"), [(4, 1, 1), (4, 2, 16)])
def test_on_one_node_exchanges_are_kept_by_their_busiest_gpu(gpus, nodes, columns, monkeypatch):
    """As rows for each expert are: gigabytes less where a service has a million of them."""
    made: list[Collectives] = []
    begin = Collectives.__init__

    def kept(self, *of):
        begin(self, *of)
        made.append(self)

    monkeypatch.setattr(Collectives, "__init__", kept)
    layout = {"expert": gpus, "nodes": nodes, "exchange": "deduplicated", "dispatch_dtype": "fp8"}
    source = {
        "model": "small-moe",
        "hardware": "dgx-h100",
        "trace": "small-moe",
        "workload": {"requests": 4, "batching": {"kind": "static", "batch_size": 4}},
        "parallelism": layout,
    }
    case = build(load_experiment(source).experiment, 3).case
    found, expected = run_replay(case), run_des(case)
    assert found.ends.tolist() == expected.ends.tolist()
    assert found.provenance.keys() == expected.provenance.keys()
    for what, ns in found.provenance.items():
        assert ns == pytest.approx(expected.provenance[what])
    (collectives,) = made
    assert collectives.known.kept.keys.shape[1] == columns
