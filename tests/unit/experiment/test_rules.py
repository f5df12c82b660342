import pytest

from moesim.config.errors import InputError
from moesim.experiment.resolve import load_experiment

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
        (["experts.capacity=15 slots/layer", "parallelism.expert=2"], "missing experts"),
        (["parallelism.expert=2"], "unevenly"),
    ],
)
def test_a_graph_cannot_wait_for_the_host(required, changes, words):
    ((path, what),) = wrong(required, GRAPH + changes)
    assert path == "execution"
    assert words in what


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
