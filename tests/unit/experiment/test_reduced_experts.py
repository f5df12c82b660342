"""Whole experts whose GPUs all have the same tokens; embedding and head in parts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from moesim.config.errors import InputError
from moesim.experiment.building.build import build
from moesim.experiment.building.footprints import footprint_of
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.running.run import run
from moesim.experiment.schema.experiment import Experiment
from moesim.hardware import CostModel
from moesim.model import load_model
from moesim.model.slicing import sliced

BASE: dict[str, Any] = {
    "model": "gpt-oss-20b",
    "hardware": "h100-sxm",
    "trace": "traces/quickstart.parquet",
    "workload": {"batching": {"kind": "static", "batch_size": 8}, "requests": 8},
}
TWO_CARDS: dict[str, Any] = {
    "model": "small-moe",
    "hardware": {"gpu": "rtx-3090", "host": "ddr4-3200-2ch-64gb"},
    "trace": "small-moe",
    "workload": {"batching": {"kind": "static", "batch_size": 2}, "requests": 2},
}


def split(gpus: int, base: dict[str, Any] = BASE, **parallelism: Any) -> Experiment:
    asked = {"expert": gpus, "dense": "tensor", **parallelism}
    return load_experiment({**base, "parallelism": asked}).experiment


def test_an_all_reduce_in_place_of_an_exchange() -> None:
    """The same experts do the same work; no counts are exchanged and no rows dispatched."""
    reduced = run(split(4), limit_steps=10).summary
    sent = run(split(4, exchange="all_to_all"), limit_steps=10).summary
    for same in ("hits", "tokens", "balancedness", "max_load"):
        assert reduced[same] == sent[same]
    assert reduced["duration_ms"] < sent["duration_ms"]
    assert reduced["time_share"]["host"] < sent["time_share"]["host"]
    assert (
        run(split(4, exchange="all_reduce"), limit_steps=10).summary["duration_ms"]
        == (reduced["duration_ms"])
    )


def test_nothing_keeps_a_step_out_of_a_graph() -> None:
    captured = load_experiment(
        {**BASE, "software": "vllm", "parallelism": {"expert": 4, "dense": "tensor"}}
    ).experiment
    assert build(captured).case.execution == "graph"
    written = split(2, {**BASE, "execution": "graph"})
    assert run(written, limit_steps=2).summary["time_share"]["host"] == 0


@pytest.mark.parametrize(
    ("base", "parallelism"),
    [
        ({}, {"experts": "tensor"}),
        ({"hardware": "dgx-h100"}, {"expert": 16}),
        ({"gating": {"kind": "static"}}, {}),
    ],
)
@pytest.mark.parametrize(("exchange", "dense"), [("all_reduce", "tensor"), ("all_gather", "data")])
def test_where_nothing_adds_up(
    exchange: str, dense: str, base: dict[str, Any], parallelism: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=rf"parallelism.exchange: '{exchange}' .* one node"):
        build(split(2, {**BASE, **base}, exchange=exchange, dense=dense, **parallelism))
    assert not build(split(2, {**BASE, **base}, dense=dense, **parallelism)).case.reduces


def test_each_goes_with_what_attention_leaves() -> None:
    for exchange, dense in (("all_reduce", "data"), ("all_gather", "tensor")):
        with pytest.raises(InputError, match=rf"'{exchange}' adds up .* dense: "):
            build(split(2, exchange=exchange, dense=dense))
    assert not build(split(2, dense="data")).case.reduces


def test_tokens_are_gathered_once_where_rows_would_go_to_each_expert() -> None:
    """A token of gpt-oss-20b has four experts, on three of four GPUs in the mean: its row goes to
    all of them, and is priced as an exchange of as many bytes.
    """
    gathered = build(split(4, dense="data", exchange="all_gather")).case
    assert gathered.gathers_tokens
    assert not gathered.needs_decision
    one, other = (
        run(split(4, dense="data", exchange=exchange), limit_steps=10)
        for exchange in ("all_gather", "all_to_all")
    )
    for same in ("hits", "tokens", "balancedness", "max_load"):
        assert one.summary[same] == other.summary[same]
    step = run(split(2, TWO_CARDS, dense="data", exchange="all_gather"), limit_steps=1)
    assert step.summary["tokens"] == 2


def test_a_gathered_layer_by_hand() -> None:
    """A token each of 512 bytes on two RTX 3090: there, and back as part of a sum. Both order the
    8 rows of both tokens.
    """
    experiment = split(2, TWO_CARDS, dense="data", exchange="all_gather")
    built = build(experiment)
    prices = CostModel(built.hardware, built.case.model)
    way = int(prices.all_to_all_ns(np.array([[[0, 512], [512, 0]]]))[0])
    ordering = int(prices.permute_ns(built.case.model.moe_layers[0], np.array([8]))[0])
    step = run(experiment, limit_steps=1, records="layer")
    assert set(step.steps["dispatch_combine_ns"]) == {2 * 8 * (2 * way + ordering)}


def test_one_layer_by_hand() -> None:
    """Two tokens with 4 of 32 experts over two RTX 3090: both order all 8 rows, run those of their
    own experts, and add up 1,024 bytes in a ring.
    """
    experiment = split(2, TWO_CARDS)
    built = build(experiment)
    case = built.case
    assert [case.local_experts(gpu).size for gpu in (0, 1)] == [16, 16]
    prices = CostModel(built.hardware, case.model)
    ring_ns = 40_000 + math.ceil(2 * (2 * 128 * 4) / 2 / (0.5 * 26.2))
    assert prices.all_reduce_ns(2, 2 * 128 * 4) == ring_ns
    ordering = int(prices.permute_ns(case.model.moe_layers[0], np.array([8]))[0])
    step = run(experiment, limit_steps=1, records="layer")
    assert set(step.steps["dispatch_combine_ns"]) == {2 * 8 * (ring_ns + ordering)}


@pytest.mark.parametrize("model", ["gpt-oss-120b", "qwen3-30b-a3b", "gemma-4-26b-a4b"])
def test_embedding_and_head_are_in_parts(model: str) -> None:
    whole = load_model(model)
    part = sliced(whole, 8)
    assert part.embedding_bytes == -(-whole.embedding_bytes // 8)
    assert part.head_bytes == -(-whole.head_bytes // 8)
    assert (part.vocab_size, part.vocab_parts) == (whole.vocab_size, 8)


def test_the_ends_of_a_pass_by_hand() -> None:
    """128 of 256 bytes' rows on each of two cards in fp32: a lookup that a ring adds up, half of
    the matrix, and all logits to both.
    """
    experiment = split(2, TWO_CARDS)
    built = build(experiment)
    prices, model = CostModel(built.hardware, built.case.model), built.case.model
    assert (model.vocab_size, model.hidden_size) == (256, 128)
    read_ns, moved_ns = 128 * 128 * 4 / (0.9 * 936), 2 * (5 * 128 + 128) * 4 / (0.5 * 936)
    assert prices.head_ns([2]).tolist() == [round(3 * 4_000 + read_ns + moved_ns)]
    gathered_ns = 40_000 + 2 * 256 * 4 / 2 / (0.5 * 26.2)
    assert prices.price("gather_logits", 2, np.array([2, 0])).tolist() == [
        math.ceil(gathered_ns),
        0,
    ]


def test_logits_are_of_the_nodes_tokens() -> None:
    """Both GPUs get all logits: twice those of the one that has half of the requests."""
    whole = build(load_experiment({**BASE, "parallelism": {"expert": 2}}).experiment)
    both = build(split(2))
    mine, theirs = (
        footprint_of(one.case, one.residences).parts["activations"].max() for one in (whole, both)
    )
    assert theirs > mine
