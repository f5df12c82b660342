from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from moesim.config.errors import InputError
from moesim.experiment.loading.inputs import check_columns
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.loading.rules import conflicts
from moesim.model import load_model
from moesim.testing.traces import toy_trace

GRAPH = ["execution=graph"]


def wrong(required, overrides):
    with pytest.raises(InputError) as error:
        load_experiment(required, overrides)
    return [(problem.path, problem.what) for problem in error.value.problems]


@pytest.mark.parametrize(
    "fixed",
    [
        [],
        ["experts.capacity=100 %"],
        ["experts.capacity=32 slots/layer"],  # all of the model's 32 experts
        ["experts.capacity=16 slots/layer", "parallelism.expert=2", "gating.kind=static"],
        ["experts.capacity=8 slots/layer", "decide=device"],
        ["parallelism.expert=2", "gating.kind=static"],
        ["parallelism.expert=2", "decide=device"],
        ["experts.kernels=serial", "decide=device"],
        ["experts.kernels=serial", "gating.kind=static"],
        ["experts.kernels=block_sparse"],
    ],
)
def test_a_graph_whose_course_is_fixed(required, fixed):
    assert load_experiment(required, GRAPH + fixed).experiment.execution == "graph"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["experts.capacity=31 slots/layer"], "missing experts"),
        (["experts.capacity=99 %"], "missing experts"),
        (["experts.capacity=1 GiB"], "missing experts"),
        (["experts.capacity=auto"], "missing experts"),
        (["experts.capacity=15 slots/layer", "parallelism.expert=2"], "missing experts"),
        (["parallelism.expert=2"], "unevenly"),
        (["experts.kernels=serial"], "one by one"),
    ],
)
def test_a_graph_cannot_wait_for_the_host(required, changes, words):
    ((path, what),) = wrong(required, GRAPH + changes)
    assert path == "execution"
    assert words in what


def test_too_many_gpus_for_the_experts_are_told_once(required):
    """64 are too many for the nodes of a machine as well, which had told another number."""
    for hardware in ("rtx-4060-8gb", "dgx-h100"):
        ((path, what),) = wrong(required, [f"hardware={hardware}", "parallelism.expert=64"])
        assert (path, what.partition(" GPUs ")[0]) == ("parallelism.expert", "64")
        assert "32 or less" in what


def test_min_goes_with_the_batchings_of_today(required):
    for batching in ("static", "refill"):
        overrides = ["experts.policy.kind=min", f"workload.batching.kind={batching}"]
        assert load_experiment(required, overrides)


def test_encode_needs_an_encoder(required):
    encode = ["workload.phase=encode"]
    ((path, what),) = wrong(required, encode)
    assert path == "workload.phase"
    assert "gpt-oss-20b has none" in what
    assert load_experiment(required, [*encode, "model=nllb-moe-54b"])


def test_a_model_without_experts_has_nothing_to_route(required):
    ((path, what),) = wrong(required, ["model=llama-3.1-8b"])
    assert path == "model"
    assert "no MoE layer" in what


def with_a_large_layer(model):
    last = model.layers[-1]
    expert = replace(last.moe.expert, bytes=2 * last.moe.expert.bytes)
    layers = (*model.layers[:-1], replace(last, moe=replace(last.moe, expert=expert)))
    return replace(model, layers=layers)


@pytest.mark.parametrize(
    ("change", "key", "words"),
    [
        ("experts.policy.kind=arc", "experts.policy", "without 'arc' yet; write lru, fifo"),
        ("experts.policy.kind=min", "experts.policy", "without 'min' yet"),
        ("experts.policy.kind=random", "experts.policy", "without 'random' yet"),
        ("experts.policy.kind=lfu_decay", "experts.policy", "without 'lfu_decay' yet"),
        ("experts.miss.kind=cheapest", "experts.miss", "without 'cheapest' yet; write load, cpu"),
        ("experts.miss.kind=background", "experts.miss", "without 'background' yet"),
        ("experts.prefetch.kind=history", "experts.prefetch", "without prefetch yet; write none"),
    ],
)
def test_a_pool_by_bytes_says_what_it_is_not_for_yet(required, change, key, words):
    model = load_model("gpt-oss-20b")
    experiment = load_experiment(required, ["experts.policy.scope=global", change]).experiment
    found = [one for one in conflicts(experiment, with_a_large_layer(model)) if key in one.keys]
    (what,) = [one.what for one in found if one.keys[0] == "experts.policy.scope"]
    assert words in what
    assert what.startswith("'global' pools experts of 13236480 to 26472960 bytes, as gpt-oss-20b")
    assert what.endswith("scope: layer")
    assert not list(conflicts(experiment, model))
    assert not list(conflicts(load_experiment(required, [change]).experiment, model))


@pytest.mark.parametrize("miss", ["load", "cpu", "zero_copy", "skip"])
@pytest.mark.parametrize("policy", ["lru", "fifo", "lifo", "lfu", "static"])
def test_a_pool_by_bytes_takes_what_it_can_ask_several_times(required, policy, miss):
    one_pool = [f"experts.policy={{kind: {policy}, scope: global}}", f"experts.miss.kind={miss}"]
    experiment = load_experiment(required, one_pool).experiment
    assert not list(conflicts(experiment, with_a_large_layer(load_model("gpt-oss-20b"))))


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("{kind: lru, scope: global}", "one pool of them all; write equal, or scope: layer"),
        ("{kind: stream}", "buffers of all layers; write equal"),
    ],
)
def test_slots_by_layer_need_a_cache_of_each_layer(required, policy, words):
    by_layer = ["experts.slots.kind=by_layer"]
    ((path, what),) = wrong(required, [*by_layer, f"experts.policy={policy}"])
    assert path == "experts.slots"
    assert words in what
    slots: Any = load_experiment(required, by_layer).experiment.experts.slots
    assert slots.first_part == 0.25


def test_gate_scores_need_a_trace_with_weights(required):
    experiment = load_experiment(required, ["experts.policy.kind=gate_score"]).experiment
    trace = toy_trace([(0, 3)])
    with pytest.raises(InputError, match="'gate_score' reads gate weights, and the trace has none"):
        check_columns(experiment, trace)
    check_columns(load_experiment(required).experiment, trace)


def test_a_recorded_look_ahead_needs_a_trace_with_one(required):
    experiment = load_experiment(required, ["experts.prefetch.kind=recorded"]).experiment
    with pytest.raises(InputError, match="'recorded' reads the experts"):
        check_columns(experiment, toy_trace([(0, 3)]))


def test_the_host_computes_only_beside_the_gpu(required):
    computed = ["experts.miss.kind=cheapest", "software=synchronous"]
    ((path, what),) = wrong(required, computed)
    assert path == "experts.miss"
    assert "'cheapest' computes experts beside the GPU" in what
    assert load_experiment(required, computed[:1]).experiment.experts.miss.uses_host
    assert load_experiment(required, ["experts.miss.kind=zero_copy", computed[1]])


@pytest.mark.parametrize(
    ("changes", "path", "words"),
    [
        (["experts.order=least_makespan"], "experts.order", "policy: stream"),
        (["experts.prefetch={kind: oracle, every: 4}"], "experts.prefetch", "when: before_pass"),
        (
            ["experts.prefetch={kind: next_layer, when: before_pass}"],
            "experts.prefetch",
            "no layer has run yet",
        ),
        (
            ["experts.prefetch={kind: history, when: before_pass, every: 2}"],
            "experts.prefetch",
            "knows the next pass alone",
        ),
        (
            ["experts.prefetch={kind: oracle, when: before_pass, layers: 2}"],
            "experts.prefetch",
            "leave out layers and stop",
        ),
        (
            ["experts.prefetch={kind: oracle, layers: 3, recall: [96 %, 90 %]}"],
            "experts.prefetch",
            "'recall' has 2 shares, and 'layers' is 3",
        ),
        (["experts.prefetch={kind: oracle, recall: []}"], "experts.prefetch.recall", "is empty"),
    ],
)
def test_orders_and_predictions_that_cannot_be(required, changes, path, words):
    ((where, what), *_) = wrong(required, changes)
    assert where.startswith(path)
    assert words in what


def test_what_is_predicted_before_passes_goes_with_software_that_copies_beside_nothing(required):
    predicted = ["experts.prefetch={kind: oracle, when: before_pass}", "software=hf-eager"]
    assert load_experiment(required, predicted).experiment.experts.prefetch.before_pass
    ((path, what),) = wrong(required, ["experts.prefetch.kind=oracle", predicted[1]])
    assert path == "experts.prefetch"
    assert "when: before_pass" in what


def test_a_look_ahead_reaches_as_far_as_it_was_recorded(required):
    trace = toy_trace([(0, 3)])
    predicted = np.stack([trace.expert_ids] * 2, axis=1)
    trace = replace(trace, predicted_ids=predicted)
    deep = ["experts.prefetch={kind: recorded, layers: 3}"]
    with pytest.raises(InputError, match="is 3, and the look-ahead of the trace reaches 2"):
        check_columns(load_experiment(required, deep).experiment, trace)
    near = ["experts.prefetch={kind: recorded, layers: 2}"]
    check_columns(load_experiment(required, near).experiment, trace)
