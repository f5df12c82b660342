import pytest

from moesim.config.document import Document, Mark
from moesim.config.errors import InputError
from moesim.config.strict_yaml.overrides import parse_override, parse_path
from moesim.config.strict_yaml.yaml import parse_document


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("seed=3", ("seed",), 3),
        ("experts.capacity=8 slots/layer", ("experts", "capacity"), "8 slots/layer"),
        ("name=a=b", ("name",), "a=b"),
        ("figures=[a, b]", ("figures",), ["a", "b"]),
        ("figures.0=a", ("figures", 0), "a"),
        ("workload.requests=", ("workload", "requests"), None),
        ("workload.requests= null", ("workload", "requests"), None),
        ("sweep.experts.capacity=[1]", ("sweep", "experts.capacity"), [1]),
        ("gating={kind: static}", ("gating",), {"kind": "static"}),
    ],
)
def test_an_override_is_a_path_and_a_yaml_value(text, path, value):
    steps, found, mark = parse_override(text)
    assert (steps, found, str(mark)) == (path, value, f"--set {text}")
    assert mark.origin == "--set"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed", "has no '='"),
        ("=3", "the path is empty"),
        ("a..b=3", "the path is empty"),
        ("seed=[1", "not YAML"),
        ("seed=&x 1", "anchor"),
    ],
)
def test_a_broken_override_names_the_option(text, words):
    with pytest.raises(InputError) as error:
        parse_override(text)
    (problem,) = error.value.problems
    assert problem.where == f"--set {text}"
    assert words in problem.what


def test_values_are_set_without_touching_the_original():
    document = parse_document("a: {b: 1}\nl: [1, 2]", "f.yaml")
    mark = Mark("--set x")
    changed = document.with_value(("a", "c", "d"), 2, mark).with_value(("l", 1), 5, mark)
    assert changed.data == {"a": {"b": 1, "c": {"d": 2}}, "l": [1, 5]}
    assert document.data == {"a": {"b": 1}, "l": [1, 2]}
    assert changed.value_mark(("a", "c", "d")) == mark
    assert changed.key_mark(("a", "c")) == mark
    assert str(changed.value_mark(("a", "b"))) == "f.yaml:1:8"


def test_a_value_has_no_keys():
    document = Document({"a": 1, "l": [1]}, Mark("f.yaml"))
    for path in ("a.b", "l.x", "l.7"):
        with pytest.raises(InputError, match="has no keys"):
            document.with_value(parse_path(path), 2, Mark("--set x"))
