"""The shipped traces by name, and what the engine that recorded three of them counted."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest

from moesim import run
from moesim.config.amounts.sizes import MIB
from moesim.config.errors import InputError
from moesim.config.files.paths import shipped_folder
from moesim.engine.des.run import run_des
from moesim.engine.replay.run import run_replay
from moesim.experiment.building.build import build
from moesim.experiment.loading.resolve import load_experiment
from moesim.memory.footprint.footprint import expert_bytes
from moesim.trace import NO_EXPERT, Phase, read_trace
from moesim.trace.cards import card_names, find_trace, trace_card

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


def in_the_engines_pool(name, model):
    """Both phases in one pool of the engine's bytes."""
    return {
        "model": model,
        "hardware": "h200-sxm",
        "trace": name,
        "workload": {"phase": "all"},
        "experts": {
            "capacity": f"{COUNTED[name][0]} MiB",
            "policy": {"kind": "lru", "scope": "global"},
        },
    }


def with_sizes(model, of_layers):
    """``model`` with experts of these bytes, by MoE layer."""

    def sized(layer):
        if layer.moe is None:
            return layer
        size = int(of_layers[model.moe_layers.index(layer)])
        return replace(layer, moe=replace(layer.moe, expert=replace(layer.moe.expert, bytes=size)))

    return replace(model, layers=tuple(map(sized, model.layers)))


@pytest.mark.parametrize("engine", [run_des, run_replay])
@pytest.mark.parametrize("name", COUNTED)
def test_a_replay_has_the_engines_hits(name, engine):
    """Within five, and the digits that it published: experts have the bytes of the engine's file.
    What differs is the order of a step's experts, which the engine takes by gate weight.
    """
    case = build(load_experiment(in_the_engines_pool(name, name)).experiment).case
    case = replace(case, model=with_sizes(case.model, sizes(name)))
    case = replace(case, pool_bytes=np.array([COUNTED[name][0] * MIB]))
    counts = engine(case).counts
    hits, accesses = int(counts.hits.sum()), int(counts.activations.sum())
    assert accesses == COUNTED[name][3]
    assert abs(hits - COUNTED[name][2]) <= 5
    assert round(100 * hits / accesses, 1) == round(100 * COUNTED[name][2] / accesses, 1)


def test_a_format_has_the_bytes_of_the_engines_file():
    """Q4_K_M gives Qwen3's layers experts of two sizes, in the layers where the file has them."""
    name = "qwen3-30b-a3b"
    experiment = in_the_engines_pool(name, {"base": name, "format": "q4_k_m"})
    built = build(load_experiment(experiment).experiment)
    assert expert_bytes(built.case.model) == sizes(name).tolist()
    assert run(experiment).summary["hits"] == 29596


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
