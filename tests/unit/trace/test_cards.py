"""The shipped traces by name, and what the engine that recorded three of them counted."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest

from moesim import run
from moesim.config.errors import InputError
from moesim.config.paths import shipped_folder
from moesim.model import load_model
from moesim.trace import NO_EXPERT, Phase, read_trace
from moesim.trace.cards import card_names, find_trace, trace_card

MIB = 1 << 20
COUNTED = {
    # trace: the engine's cache in MiB, bytes of an expert by layer, its hits, its accesses
    "qwen3-30b-a3b": (4000, [3059712, 2654208], 29597, 39526),
    "gpt-oss-120b": (3000, [13219200], 2066, 6375),
    "gemma-4-26b-a4b": (4000, [4336640, 3593216], 18872, 24578),
}
SMALL = {
    # layers whose experts are the smaller ones
    "qwen3-30b-a3b": [*range(6, 8), *(n for n in range(9, 41) if n % 3 != 2)],
    "gpt-oss-120b": [],
    "gemma-4-26b-a4b": [*range(7, 9), *(n for n in range(10, 30) if n % 3 != 0)],
}


def sizes(name):
    layers = np.full(read_trace(name).moe_layers, COUNTED[name][1][0])
    layers[SMALL[name]] = COUNTED[name][1][-1]
    return layers


def passes(trace):
    """The prompt as one pass, then each decoded token: of each layer the experts, ascending."""
    prompt = trace.phase == Phase.PREFILL
    for rows in (np.flatnonzero(prompt), *np.flatnonzero(~prompt)[:, None]):
        for layer in range(trace.moe_layers):
            ids = np.unique(trace.expert_ids[rows, layer])
            yield layer, ids[ids != NO_EXPERT]


def hits_of_bytes(name):
    """Hits and accesses of one LRU over all layers that holds as many bytes as the engine's; what
    a step still needs is not evicted.
    """
    bytes_of, room, hits, accesses = sizes(name), COUNTED[name][0] * MIB, 0, 0
    held: OrderedDict[tuple[int, int], int] = OrderedDict()
    for layer, experts in passes(read_trace(name)):
        for expert in map(int, experts):
            accesses += 1
            if (layer, expert) in held:
                hits += 1
                held.move_to_end((layer, expert))
                continue
            needed = {(layer, int(other)) for other in experts}
            while room < bytes_of[layer]:
                room += held.pop(next(key for key in held if key not in needed))
            held[layer, expert] = int(bytes_of[layer])
            room -= int(bytes_of[layer])
    return hits, accesses


@pytest.mark.parametrize("name", COUNTED)
def test_an_lru_of_the_engines_bytes_has_the_engines_hits(name):
    _, _, hits, accesses = COUNTED[name]
    found, of_all = hits_of_bytes(name)
    assert of_all == accesses
    assert abs(found - hits) <= 5
    assert round(100 * found / of_all, 1) == round(100 * hits / accesses, 1)


def run_in_one_pool(name, slots):
    """The summary of both phases with ``slots`` for all layers, given in bytes."""
    moe = load_model(name).moe_layers[0].moe
    assert moe is not None
    experiment = {
        "model": name,
        "hardware": "h200-sxm",
        "trace": name,
        "workload": {"phase": "all"},
        "experts": {
            "capacity": f"{slots * moe.expert.bytes} B",
            "policy": {"kind": "lru", "scope": "global"},
        },
    }
    return run(experiment).summary


@pytest.mark.parametrize(
    ("name", "slots", "hits"),
    [
        # 3,000 MiB hold 237 experts; 4,000 MiB hold 1,468 and 1,064 of the mean size
        ("gpt-oss-120b", 237, 2065),
        ("qwen3-30b-a3b", 1468, 29678),
        ("gemma-4-26b-a4b", 1064, 18873),
    ],
)
def test_a_replay_has_nearly_the_engines_hits(name, slots, hits):
    """The hits are what a replay gave, and the quarter of a percent was chosen after it: Qwen3's
    experts have two sizes, a pool of moesim's one.
    """
    summary = run_in_one_pool(name, slots)
    assert summary["hits"] == hits
    assert summary["hits"] + summary["misses"] == COUNTED[name][3]
    assert summary["hits"] / COUNTED[name][3] == pytest.approx(
        COUNTED[name][2] / COUNTED[name][3], abs=0.0025
    )


@pytest.mark.parametrize("name", COUNTED)
def test_a_card_says_what_was_left_out(name):
    notes = read_trace(name).metadata.notes
    hits, accesses = COUNTED[name][2:]
    assert notes.startswith("recorded with top-")
    assert "one prompt" in notes
    assert f"had {hits} of {accesses} accesses" in notes


def test_a_name_is_a_card_whatever_lies_in_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small-moe").mkdir()
    traces = shipped_folder() / "traces"
    assert find_trace("small-moe") == traces / "small-moe.parquet"
    assert trace_card("GPT-OSS-20B") == traces / "quickstart.parquet"
    assert trace_card("mixtral") is None
    assert set(COUNTED) <= set(card_names())
    with pytest.raises(InputError, match="there is no file 'mixtral'"):
        find_trace("mixtral")
