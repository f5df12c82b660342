"""Experiments that name no trace: the shipped one of the model, else a stand-in that says so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from moesim.config.errors import InputError
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.loading.traces import shared_traces, trace_of, write_shared
from moesim.experiment.loading.warnings import of_inputs
from moesim.model import load_model
from moesim.trace import Phase, read_trace, write_trace
from moesim.trace.rules import read_rules
from moesim.trace.statistics.overlap import overlap_previous
from moesim.trace.synthesis.stand_in import RECORDED, nearest_trace, stand_in
from moesim.trace.transforming import transform
from moesim.trace.validate import findings

EMPTY = {"hardware": "h200-sxm"}


def loaded(model, *settings, **keys):
    return load_experiment({**EMPTY, "model": model, **keys}, settings)


def test_the_models_own_trace_is_taken_and_told():
    found = loaded("gpt-oss-20b")
    assert found.experiment.trace == "gpt-oss-20b"
    assert found.origins["trace"] == "default"
    (note,) = of_inputs([found.experiment])
    assert note == "note: trace: none is named: 'gpt-oss-20b', the shipped one of the model"


@pytest.mark.parametrize(
    ("model", "own", "model_top_k"), [("qwen3-30b-a3b", 6, 8), ("gpt-oss-120b", 2, 4)]
)
def test_a_recording_of_fewer_choices_is_scaled_to_the_models(model, own, model_top_k):
    """gpt-oss-120b is as near to the recording of qwen3-30b-a3b as to its own."""
    found = loaded(model).experiment
    assert found.trace == f"stand-in:{model}"
    assert trace_of(found).top_k == model_top_k
    (told,) = of_inputs([found])
    assert f"the recording of {model} has {own} of {model_top_k} experts a token" in told
    (warning,) = of_inputs([loaded(model, trace=model).experiment])
    assert f"has {own} experts a token, the model {model_top_k}" in warning
    (named,) = of_inputs([loaded(model, trace=f"stand-in:{model}").experiment])
    assert "the recording of" not in named


def test_a_trace_without_some_experts_is_told(tmp_path):
    file, own = tmp_path / "pruned.parquet", read_trace("traces/quickstart.parquet")
    write_trace(transform(own, read_rules("{kind: prune, keep: 50 %}")).trace, file)
    (told,) = of_inputs([loaded("gpt-oss-20b", trace=str(file)).experiment])
    assert "has 16 experts a layer, the model 32: it holds all of them" in told


def test_a_recording_of_another_model_is_told(tmp_path):
    """By the name that both have in the end, whatever format and repository they are of."""
    file, own = tmp_path / "mine.parquet", read_trace("traces/quickstart.parquet")

    def told(recorded, experts=32, model="gpt-oss-20b@mxfp4_moe"):
        metadata = replace(own.metadata, model=recorded, experts=experts)
        write_trace(replace(own, metadata=metadata), file)
        return of_inputs([loaded(model, trace=str(file)).experiment])

    for name in (None, "gpt-oss-20b", "openai/gpt-oss-20b", "GPT-OSS-20B"):
        assert told(name) == []
    recorded = f"trace: '{file}' was recorded from mine, and the model is gpt-oss-20b"
    (note,) = told("mine")
    assert note == f"note: {recorded}: experts are those that another model chose"
    (warning,) = told("mine", experts=64)
    assert warning.startswith(f"warning: {recorded}, of 64 and 32 experts a layer: ")


def test_a_model_in_another_format_has_the_same_trace():
    for model in ("gpt-oss-20b", "qwen3-30b-a3b"):
        found = loaded({"base": model, "format": "q4_k_m"}).experiment
        assert found.trace == loaded(model).experiment.trace


def test_another_model_gets_a_stand_in_and_is_told():
    found = loaded("mixtral-8x7b").experiment
    assert found.trace == "stand-in:gpt-oss-20b"
    trace = trace_of(found)
    assert trace.metadata.notes.startswith("no recording: synthetic, seed 0: stand-in for mixtral")
    assert trace.metadata.source.startswith("stand-in scaled from gpt-oss-20b (")
    (told,) = of_inputs([found])
    said = "'stand-in:gpt-oss-20b' is no recording: drawn for mixtral-8x7b, scaled from gpt-oss-20b"
    assert told == f"warning: trace: {said}'s routing"


def test_a_trace_without_prompts_stands_not_for_prompts():
    assert loaded("gpt-oss-20b").experiment.trace == "gpt-oss-20b"
    with_prompts = loaded("gpt-oss-20b", "workload.phase=all").experiment
    assert with_prompts.trace == "stand-in:gpt-oss-20b"
    assert set(trace_of(with_prompts).phase.tolist()) == {Phase.PREFILL, Phase.DECODE}


def test_each_point_of_a_sweep_has_its_own():
    models = ["gpt-oss-20b", "mixtral-8x7b", "olmoe-1b-7b"]
    found = loaded("gpt-oss-20b", sweep={"model": models})
    traces = [one.trace for _, one in found.points]
    assert traces == ["gpt-oss-20b", "stand-in:gpt-oss-20b", "stand-in:gemma-4-26b-a4b"]


def test_one_trace_scaled_for_two_models_is_two_traces(tmp_path):
    one, other = (
        loaded(model, trace="stand-in:gpt-oss-20b").experiment
        for model in ("mixtral-8x7b", "olmoe-1b-7b")
    )
    shared = write_shared([one, other], tmp_path)
    assert len(shared) == 2
    with shared_traces(shared):
        assert (trace_of(one).top_k, trace_of(other).top_k) == (2, 8)


@pytest.mark.parametrize(
    ("model", "trace", "what"),
    [
        (
            "nllb-moe-54b",
            "auto",
            "there is none of 'nllb-moe-54b', .*; write an experiment with 'trace: FILE",
        ),
        (
            "mixtral-8x7b",
            "stand-in:gpt",
            "there is no shipped trace 'gpt' to scale; .* did you mean",
        ),
        ("llama-3.1-8b", "auto", "has no MoE layer; name"),
    ],
)
def test_where_there_is_none_one_line_says_so(model, trace, what):
    with pytest.raises(InputError, match=what) as error:
        loaded(model, trace=trace)
    assert len(error.value.problems) == 1


@pytest.mark.parametrize("name", ["mixtral-8x7b", "olmoe-1b-7b", "deepseek-v2-lite"])
def test_a_stand_in_fits_its_model_and_is_drawn_alike(name):
    model = load_model(name)
    recorded = nearest_trace(model)
    trace = stand_in(model, read_trace(recorded), recorded)
    assert not findings(trace)
    trace.check_fits(model)
    moe = model.moe_layers[0].moe
    assert moe is not None
    assert trace.top_k == moe.top_k
    assert trace.gate_weights is not None
    again = stand_in(model, read_trace(recorded), recorded)
    assert np.array_equal(trace.expert_ids, again.expert_ids)


def test_a_stand_in_is_as_sticky_as_what_it_is_scaled_from():
    recorded = read_trace("gpt-oss-20b")
    drawn = stand_in(load_model("gpt-oss-20b"), recorded, "gpt-oss-20b")
    found, wanted = overlap_previous(drawn), overlap_previous(recorded)
    assert abs(found.mean() - wanted.mean()) < 0.03
    assert abs(found - wanted).max() < 0.1
    assert np.corrcoef(found, wanted)[0, 1] > 0.8


def test_every_recorded_trace_is_the_nearest_of_its_own_shape():
    shapes = {name: read_trace(name) for name in RECORDED}
    assert nearest_trace(load_model("gpt-oss-20b")) == "gpt-oss-20b"
    assert {trace.metadata.model for trace in shapes.values()} == set(RECORDED)


@pytest.mark.parametrize(("batch", "requests"), [(1, 32), (64, 64), (5_000, 1_024)])
def test_a_stand_in_has_as_many_requests_as_a_batch(batch, requests):
    found = loaded("mixtral-8x7b", workload={"batching": {"kind": "static", "batch_size": batch}})
    trace = trace_of(found.experiment)
    assert len(trace.request_offsets()) - 1 == requests
    first = trace_of(loaded("mixtral-8x7b").experiment)
    assert np.array_equal(trace.expert_ids[: first.tokens], first.expert_ids)


def test_a_recording_of_fewer_requests_than_run_at_once_is_scaled():
    batching = {"kind": "static", "batch_size": 24}
    found = loaded("gpt-oss-20b", workload={"batching": batching}).experiment
    assert found.trace == "stand-in:gpt-oss-20b"
    told = of_inputs([found])[0]
    assert told.endswith("as the recording of gpt-oss-20b has 20 requests, and 24 run at once")
    few = loaded("gpt-oss-20b", workload={"batching": batching, "requests": 3}).experiment
    assert few.trace == "gpt-oss-20b"


@pytest.mark.parametrize(
    ("workload", "at_once"),
    [
        ({"batching": {"kind": "refill", "batch_size": 8}}, 8),
        ({"batching": {"kind": "static", "batch_size": 8}, "requests": 3}, 3),
        ({"batching": "continuous"}, 2),
        ({"batching": "continuous", "requests": 1}, 1),
        ({"batching": "continuous", "arrivals": {"kind": "closed_loop", "max_concurrency": 8}}, 8),
    ],
)
def test_how_many_requests_run_at_once_as_far_as_is_said(workload, at_once):
    assert loaded("mixtral-8x7b", workload=workload).experiment.workload.at_once == at_once


def test_all_points_of_a_sweep_have_one_trace():
    sweep = {"workload.batching.batch_size": [1, 8, 24]}
    points = loaded("gpt-oss-20b", sweep=sweep).points
    assert {one.trace for _, one in points} == {"stand-in:gpt-oss-20b"}
    fewer = loaded("gpt-oss-20b", sweep={"workload.batching.batch_size": [1, 8]}).points
    assert {one.trace for _, one in fewer} == {"gpt-oss-20b"}


def test_a_recorded_request_that_always_chooses_the_same_can_be_scaled():
    """All that its tokens share is chance, of a layer of small-moe, so that 0 was divided by 0."""
    trace = trace_of(loaded("mixtral-8x7b", trace="stand-in:small-moe").experiment)
    assert (trace.moe_layers, trace.experts, trace.top_k) == (32, 8, 2)
