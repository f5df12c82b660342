import re

import pytest

from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.schema.json_schema import json_schema
from moesim.gating import registry as gatings
from moesim.memory.policies import registry as policies
from moesim.placement import registry as planners
from moesim.workload.batching import registry as batchings


@pytest.fixture(scope="module")
def schema():
    return json_schema()


def objects(schema):
    return [schema, *schema["$defs"].values()]


def everywhere(value):
    yield value
    children = value.values() if isinstance(value, dict) else value
    for child in children if isinstance(value, dict | list) else ():
        yield from everywhere(child)


def kinds(schema, section, key):
    choices = schema["$defs"][section]["properties"][key] if section else schema["properties"][key]
    *named, _words = choices["oneOf"]
    names = [choice["$ref"].removeprefix("#/$defs/") for choice in named]
    return {schema["$defs"][name]["properties"]["kind"]["const"] for name in names}


def test_it_lists_every_registered_component(schema):
    assert kinds(schema, "Experts", "policy") == set(policies.components)
    assert kinds(schema, None, "gating") == set(gatings.components)
    assert kinds(schema, None, "placement") == set(planners.components)
    assert kinds(schema, "Workload", "batching") == set(batchings.components)


def test_a_kind_alone_stands_for_a_component_that_needs_no_more(schema):
    assert {"dynamic", "static"} <= set(schema["properties"]["gating"]["oneOf"][-1]["enum"])
    words = schema["$defs"]["Workload"]["properties"]["arrivals"]["oneOf"][-1]["enum"]
    assert "at_once" in words
    assert "poisson" not in words  # it needs a rate


def test_every_key_is_described(schema):
    silent = [
        (part.get("title"), key)
        for part in objects(schema)
        for key, entry in part["properties"].items()
        if not entry.get("description")
    ]
    assert silent == []


def test_it_says_what_the_reader_says(schema):
    assert set(schema["required"]) == {"model", "hardware"}
    assert all(part["additionalProperties"] is False for part in objects(schema))


def test_references_and_patterns_hold(schema):
    for part in everywhere(schema):
        if isinstance(part, dict) and isinstance(part.get("$ref"), str):
            assert part["$ref"].removeprefix("#/$defs/") in schema["$defs"]
        if isinstance(part, dict) and isinstance(part.get("pattern"), str):
            for text in (*part["examples"], part.get("default", part["examples"][0])):
                assert re.search(part["pattern"], text)
            assert not re.search(part["pattern"], "8")


def test_capacities_follow_the_pattern(schema):
    pattern = schema["$defs"]["Experts"]["properties"]["capacity"]["pattern"]
    for good in ("8 slots/layer", "12 GiB", "500 MB", "12.5 %", "auto", "all"):
        assert re.search(pattern, good)
    for bad in ("8", "8 Gb", "-4 slots/layer", "8 slot", "25", "most"):
        assert not re.search(pattern, bad)


def test_it_is_a_valid_schema_that_takes_a_resolved_experiment(schema, required):
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(load_experiment(required).experiment.model_dump(mode="json"))
    assert not validator.is_valid({**required, "seed": "1"})
    assert not validator.is_valid({**required, "gating": {"kind": "static", "x": 1}})
