import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.config.strict_yaml.yaml import parse_document
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.schema.text import annotated_text, flow, mapping_text

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12),
    st.sampled_from(
        ["1e9", "no", "null", "0x1F", "- a", "a: b", "a #b", "", " a", "8 GiB", "25 %"]
    ),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(values)
def test_what_is_written_reads_as_the_same(value):
    assert parse_document(f"a: {flow(value)}", "f.yaml").data == {"a": value}


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["name='1e9'", "warm_up=12.5 %", "workload.requests=3", "experts.capacity=12 GiB"],
        ["gating={kind: static, capacity_fraction: 30 %}", "parallelism.expert=8"],
        ["sweep={'seed, records': [[1, step], [2, layer]], gating.kind: [static]}"],
        ["figures=[memory_over_time]", "experts.policy.kind=min"],
    ],
)
def test_a_resolved_experiment_reads_as_itself(required, folder, overrides):
    first = load_experiment(required, overrides)
    for text in (
        mapping_text(first.experiment.model_dump(mode="json")),
        annotated_text(first.experiment, first.origins),
    ):
        (folder / "again.yaml").write_text(text, encoding="utf-8")
        again = load_experiment(folder / "again.yaml").experiment
        assert again.model_dump() == first.experiment.model_dump()


def test_every_value_is_shown_with_its_origin(required):
    resolved = load_experiment(required, ["seed=3"])
    lines = annotated_text(resolved.experiment, resolved.origins).splitlines()
    shown = dict(line.split("#") for line in lines if "#" in line)
    assert {text.strip(): origin.strip() for text, origin in shown.items()}["seed: 3"] == "--set"
    assert len([line for line in lines if "#" in line]) == len(resolved.origins)
