"""Gatings in whole runs: the reference study's language model on its machine, synthetic routing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import moesim
from moesim.config.amounts.sizes import GIB
from moesim.config.errors import InputError
from moesim.engine.des.run import run_des
from moesim.engine.pricing.host_times import host_times
from moesim.engine.program import Program
from moesim.experiment.building.build import build
from moesim.experiment.questions.fit import largest_fit
from moesim.trace import RoutingTrace, TraceMetadata, write_trace
from moesim.trace.routing import Phase

LAYERS = tuple(range(1, 24, 2))
PADDED = ("gshard", "no_drop", "static", "tutel")


def routing(requests, tokens, *, seed, skew=0.0, weights=True):
    """Prompts for lm-52b: two experts a token and layer, low ids likelier with more ``skew``."""
    draw = np.random.default_rng(seed)
    shape = (requests * tokens, len(LAYERS))
    first = (512 * draw.random(shape) ** (1 + skew)).astype(np.int64)
    second = (first + 1 + draw.integers(0, 511, shape)) % 512
    larger = draw.uniform(0.5, 1, shape)
    return RoutingTrace(
        expert_ids=np.stack((first, second), axis=2).astype(np.uint16),
        request_id=np.repeat(np.arange(requests, dtype=np.int32), tokens),
        position=np.tile(np.arange(tokens, dtype=np.int32), requests),
        phase=np.full(shape[0], Phase.PREFILL, np.uint8),
        gate_weights=np.stack((larger, 1 - larger), axis=2).astype(np.float16) if weights else None,
        predicted_ids=None,
        metadata=TraceMetadata("lm-52b", 512, 2, LAYERS, "numpy", "synthetic", "none"),
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """An experiment over a trace; gating and more are given."""
    folder = tmp_path_factory.mktemp("traces")
    known: dict[Any, Any] = {}

    def made(gating, *, trace=(8, 20), gpus=4, kernels="serial", weights=True, **choices):
        key = (trace, tuple(sorted(choices.pop("routing", {"seed": 1}).items())), weights)
        if key not in known:
            known[key] = str(folder / f"{len(known)}.parquet")
            write_trace(routing(*trace, **dict(key[1]), weights=weights), known[key])
        given = {
            "model": "lm-52b",
            "hardware": "dgx-1-v100",
            "software": "fairseq",
            "trace": known[key],
            "workload": {
                "phase": "prefill",
                "batching": {"kind": "static", "batch_size": trace[0]},
            },
            "parallelism": {"expert": gpus},
            "gating": gating,
            "experts": {"kernels": kernels},
        }
        return {**given, **choices}

    return made


def timed(given):
    """The run, its memory left out: half of the model is more than one card holds."""
    case = build(moesim.load_experiment(given).experiment).case
    return case, run_des(case, records="layer", check=True)


@pytest.mark.parametrize("kernels", ["serial", "grouped", "batched", "block_sparse"])
@pytest.mark.parametrize("kind", ["static", "gshard"])
def test_static_time_does_not_depend_on_the_trace(source, kind, kernels):
    first, second = (
        timed(source({"kind": kind}, kernels=kernels, routing={"seed": seed, "skew": skew}))[1]
        for seed, skew in ((1, 0.0), (2, 3.0))
    )
    np.testing.assert_array_equal(first.ends, second.ends)
    np.testing.assert_array_equal(first.charges, second.charges)
    assert not np.array_equal(first.counts.dropped_choices, second.counts.dropped_choices)


def test_dynamic_time_follows_the_trace(source):
    even, skewed = (
        timed(source({"kind": "dynamic"}, software="ideal", routing={"seed": 1, "skew": skew}))[1]
        for skew in (0.0, 3.0)
    )
    assert even.duration_ns != skewed.duration_ns


@pytest.mark.parametrize("kind", ["dynamic", *PADDED])
def test_one_gpu_needs_no_all_to_all(source, kind):
    case, _ = timed(source({"kind": kind}, gpus=1))
    assert case.exchange_ns == 0
    chunks = list(Program(case).chunks())
    assert all(not chunk.dispatch and not chunk.combine for chunk in chunks)
    together, _ = timed(source({"kind": kind}))
    assert all(chunk.dispatch and chunk.combine for chunk in Program(together).chunks())
    assert (together.exchange_ns > 0) == (kind in ("dynamic", "no_drop"))


def test_only_a_capacity_loses_tokens(source):
    tight = {"capacity_fraction": "5 %"}
    ways = {
        "static": {"kind": "static", **tight},
        "tutel": {"kind": "tutel", **tight},
        "gshard": {"kind": "gshard", "min_capacity": 1},
        "tutel, no_drop": {"kind": "tutel", "capacity": "no_drop"},
        "no_drop": {"kind": "no_drop"},
        "dynamic": {"kind": "dynamic"},
    }
    routed = {"seed": 1, "skew": 3.0}
    counts = {name: timed(source(way, routing=routed))[1].counts for name, way in ways.items()}
    lost = {name: int(of.dropped_choices.sum()) for name, of in counts.items()}
    assert lost["static"] == lost["tutel"] > 0 < lost["gshard"]
    assert lost["no_drop"] == lost["tutel, no_drop"] == lost["dynamic"] == 0
    choices = {int(of.kept_rows.sum()) + lost[name] for name, of in counts.items()}
    assert choices == {8 * 20 * len(LAYERS) * 2}


def test_sparse_kernels_spare_the_masks_alone(source):
    """Tutel moves and computes what static gating does; its gate and its combine are cheaper."""
    share = {"capacity_fraction": "5 %"}
    static, tutel = (
        timed(source({"kind": kind, **share}, trace=(8, 200), software="ideal"))[1]
        for kind in ("static", "tutel")
    )
    np.testing.assert_array_equal(static.counts.rows, tutel.counts.rows)
    charges = [one.charges.sum(axis=(0, 1)) for one in (static, tutel)]
    attention, gate, dispatch, experts = range(4)
    assert charges[0][attention] == charges[1][attention]
    assert charges[0][experts] == charges[1][experts]
    assert charges[0][gate] > charges[1][gate]
    assert charges[0][dispatch] > charges[1][dispatch]


def test_the_highest_gates_first_lose_least(source):
    lost = {}
    for drop in ("first_come", "random", "highest_gate_first", "batch_prioritised"):
        gating = {"kind": "gshard", "min_capacity": 1, "drop": drop}
        given = source(gating, trace=(8, 40), routing={"seed": 1, "skew": 3.0})
        outcome = timed(given)[1]
        lost[drop] = outcome.counts.lost_weight.sum(axis=(0, 1)).tolist()
    whole = {of for _, of in lost.values()}
    assert len(whole) == 1
    assert min(lost, key=lambda drop: lost[drop][0]) == "highest_gate_first"
    assert len({of for of, _ in lost.values()}) == len(lost)


def test_random_drops_have_a_stream_of_their_own(source):
    gating = {"kind": "gshard", "min_capacity": 1, "drop": "random"}
    given = source(gating, trace=(8, 40), routing={"seed": 1, "skew": 3.0})
    one, again, other = (timed({**given, "seed": seed})[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.counts.lost_weight, again.counts.lost_weight)
    assert not np.array_equal(one.counts.lost_weight, other.counts.lost_weight)
    np.testing.assert_array_equal(one.ends, other.ends)


def dropped_late(case):
    """Of the dropped choices of one pass, how many there are, and the share that is of the second
    half of its tokens: what is lost where their weights alone are not 0.
    """
    assert case.trace.gate_weights is not None
    late = np.arange(case.trace.tokens) >= case.trace.tokens // 2
    weights = np.broadcast_to(late[:, None, None] / 2, case.trace.gate_weights.shape)
    traced = replace(case.trace, gate_weights=weights.astype(np.float16))
    counts = run_des(replace(case, trace=traced), records="layer").counts
    dropped = case.trace.expert_ids.size - counts.kept_rows.sum()
    return dropped, 2 * counts.lost_weight[..., 0].sum() / 2**24 / dropped


def test_random_token_selection_drops_late_tokens_no_more_than_early_ones(source):
    """It drops as many as the order of arrival, which drops the late ones."""
    gating = {"kind": "gshard", "min_capacity": 1}
    given = source(gating, gpus=1, trace=(8, 40), routing={"seed": 1, "skew": 3.0})
    drops = ({**given, "gating": {**gating, "drop": drop}} for drop in ("first_come", "random"))
    (first, of_first), (chosen, of_chosen) = (dropped_late(timed(one)[0]) for one in drops)
    assert first == chosen > 0
    assert of_first > 0.6
    assert of_chosen == pytest.approx(0.5, abs=0.02)


def test_the_summary_says_what_is_lost_and_wasted(source):
    given = source({"kind": "static", "capacity_fraction": "5 %"}, gpus=8, trace=(8, 20))
    summary = moesim.run(given).summary
    # 8 GPUs x 1 row for each of 512 experts; 8 x 20 tokens choose two
    assert summary["waste_factor"] == pytest.approx(8 * 512 / (8 * 20 * 2), rel=1e-12)
    assert 0 < summary["dropped_gate_weight_share"] < 1
    unknown = moesim.run({**given, **source(given["gating"], gpus=8, weights=False)}).summary
    assert unknown["dropped_gate_weight_share"] is None
    assert unknown["dropped_choices"] == summary["dropped_choices"] > 0
    dynamic = moesim.run({**given, "gating": {"kind": "dynamic"}}).summary
    assert dynamic["waste_factor"] == 1.0
    assert dynamic["dropped_gate_weight_share"] == 0.0


def test_block_sparse_kernels_pad_every_expert_to_128_rows(source):
    given = source({"kind": "dynamic"}, gpus=1, kernels="block_sparse")
    (_, padded), (_, plain) = timed(given), timed({**given, "experts": {"kernels": "grouped"}})
    assert (padded.counts.rows % 128 == 0).all()
    assert (padded.counts.rows >= 128 * padded.counts.activations).all()
    np.testing.assert_array_equal(padded.counts.kept_rows, plain.counts.rows)
    assert padded.duration_ns >= plain.duration_ns


@pytest.mark.parametrize(
    ("gating", "published"),
    [({"kind": "static", "capacity_fraction": "5 %"}, 6.29), ({"kind": "dynamic"}, 1.28)],
    ids=["static", "dynamic"],
)
def test_activations_of_the_reference_study_follow_from_its_tensors(source, gating, published):
    """8 sentences of 512 tokens a GPU, 8 GPUs: masks of 15 bytes an element and the positions that
    they are built from, or logits of 6.
    """
    given = source(gating, trace=(64, 512), gpus=8, weights=False)
    parts = build(moesim.load_experiment(given).experiment).footprint.at_peak()
    live = sum(parts[name] for name in ("activations", "masks", "all_to_all_buffers"))
    tokens, hidden = 8 * 512, 4 * 1024 * 2
    masks = (512 * 205 * 15 + 2 * 512 * 26 + 2 * 205 * 8) * tokens
    largest = masks if gating["kind"] == "static" else tokens * 51_200 * 6
    assert live == largest + tokens * hidden
    assert live / GIB == pytest.approx(published, rel=0.07)


def test_rows_of_the_busiest_gpu_need_room(source):
    """Without logits, what dynamic gating holds follows the counts: skewed routing needs more."""
    even, skewed = (
        build(moesim.load_experiment(given).experiment).footprint
        for given in (
            source({"kind": "dynamic"}, software="ideal", routing={"seed": 1, "skew": skew})
            for skew in (0.0, 3.0)
        )
    )
    buffers = [one.parts["all_to_all_buffers"].max() for one in (even, skewed)]
    assert buffers[0] < buffers[1]


def test_the_largest_batch_is_smaller_with_masks(source):
    batches = {}
    for kind in ("static", "dynamic", "no_drop"):
        given = source({"kind": kind}, gpus=8, kernels="grouped")
        batches[kind] = largest_fit(moesim.load_experiment(given).experiment)
    largest = {kind: fit["largest_batch"] for kind, fit in batches.items()}
    assert largest["static"] < largest["no_drop"] <= largest["dynamic"]


@pytest.mark.parametrize("drop", ["highest_gate_first", "batch_prioritised"])
def test_rules_by_weight_need_a_trace_with_weights(source, drop):
    given = source({"kind": "gshard", "drop": drop}, weights=False)
    with pytest.raises(InputError, match=rf"gating.drop.*'{drop}' reads gate weights.*random"):
        moesim.run(given)


def test_a_batched_product_needs_equal_rows(source):
    with pytest.raises(InputError, match=r"experts.kernels.*equal rows.*'dynamic' gating"):
        moesim.load_experiment(source({"kind": "dynamic"}, kernels="batched"))


def test_a_graph_cannot_wait_for_a_capacity(source):
    given = source({"kind": "tutel", "capacity": "no_drop"}, execution="graph")
    with pytest.raises(InputError, match="cannot wait for the largest count"):
        moesim.load_experiment(given)
    assert moesim.load_experiment({**given, "decide": "device"}).experiment.gating.agrees


def test_the_host_launches_what_the_gating_needs(source):
    """In eager mode static gating's 110 kernels a gate outweigh Tutel's 95."""
    share = {"capacity_fraction": "5 %"}
    static, tutel = (
        timed(source({"kind": kind, **share}, trace=(4, 2)))[1].duration_ns
        for kind in ("static", "tutel")
    )
    assert static - tutel == 12 * 15 * 25_000


@pytest.mark.parametrize(("kernels", "waits"), [("serial", 1), ("grouped", 0)])
def test_one_gpu_waits_for_the_rows_of_experts_called_one_by_one(source, kernels, waits):
    """The copy of 512 counts and fairseq's wait, in each of 12 layers, though it calls them all."""
    given = source({"kind": "dynamic"}, gpus=1, trace=(2, 2), kernels=kernels, decide="host")
    case, outcome = timed(given)
    quick = replace(case, decide="device", execution="graph")
    assert case.needs_decision == bool(waits)
    ready = replace(case, software=case.software.model_copy(update={"synchronisation_ns": 0.0}))
    sooner = run_des(ready, records="summary").duration_ns
    assert outcome.duration_ns - sooner == waits * 12 * case.software.synchronisation_ns
    moe = [layer.index for layer in case.model.moe_layers]
    assert {host_times(quick)[layer].waits for layer in moe} == {0}
    assert {host_times(case)[layer].waits for layer in moe} == {waits}


def test_a_step_without_rows_calls_every_expert(source):
    """128 resident experts a GPU and layer, five launches each, whatever tokens choose."""
    given = source({"kind": "dynamic"}, trace=(4, 1))
    case, outcome = timed(given)
    quiet = replace(case, software=case.software.model_copy(update={"calls_empty": False}))
    fewer = run_des(quiet, records="layer")
    assert outcome.duration_ns > fewer.duration_ns
    activations = fewer.counts.activations.sum(axis=(0, 1))
    host = outcome.charges[..., 4].sum(axis=0) - fewer.charges[..., 4].sum(axis=0)
    assert (activations < 12 * 128).all()
    assert (host > 0).all()
