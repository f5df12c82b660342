"""Every registered engine's command lines: its options, and what is made of any words."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moesim.experiment.engine_commands import (
    Configuration,
    Engine,
    EngineCommand,
    read_command,
    registry,
)
from moesim.experiment.engine_commands.words import Effect, Option
from moesim.experiment.loading.resolve import load_experiment
from moesim.hardware import software_names
from moesim.testing.engine_commands import (
    knows_its_options,
    reads_what_it_writes,
    refuses_with_an_input_error,
    says_what_it_cannot_model,
)

KINDS = list(registry.components)
MODELS = {"llama.cpp": "gpt-oss-20b@mxfp4_moe", "ik_llama.cpp": "gpt-oss-20b@mxfp4_moe"}


def engine(kind: str) -> Engine:
    return registry.get(kind)()


def plain(kind: str, **more: Any) -> Any:
    said = {
        "model": MODELS.get(kind, "gpt-oss-20b"),
        "hardware": "rtx-4090",
        "software": (*engine(kind).softwares, "vllm")[0],
        "workload": {"batching": {"kind": "refill", "batch_size": 4}, "prefill": {"chunk": 512}},
    }
    return load_experiment({**said, **more}).experiment


def test_the_engines_are_found() -> None:
    assert KINDS == ["ik_llama.cpp", "ktransformers", "llama.cpp", "sglang", "vllm"]


@pytest.mark.parametrize("kind", KINDS)
def test_options(kind: str) -> None:
    one = engine(kind)
    knows_its_options(one)
    assert set(one.softwares) <= set(software_names())
    for row in one.options:
        if row.effect is not Effect.READ:
            says_what_it_cannot_model(one, row)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_words_are_read_or_refused(kind: str, data: st.DataObject) -> None:
    names = [name for row in engine(kind).options for name in row.names.split()]
    values = st.sampled_from(["0", "1", "-1", "8", "x", "a=b", "exps=CPU", "gpt-oss-20b.gguf", ""])
    words = data.draw(st.lists(st.sampled_from(names) | values | st.text(max_size=4), max_size=8))
    refuses_with_an_input_error(engine(kind), words)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_resident_reads_as_it_is_written(kind: str) -> None:
    found = reads_what_it_writes(engine(kind), plain(kind), 4096)
    assert found is not None


@pytest.mark.parametrize("kind", KINDS)
def test_its_line_is_read_by_it_alone(kind: str) -> None:
    text = engine(kind).write(Configuration(plain(kind), 4096)).text
    assert text is not None
    line = text.replace("llama-server", "ik_llama.cpp/llama-server") if "ik" in kind else text
    assert read_command(line).engine == kind
    words = shlex.split(line)
    begin = [one for one in KINDS if engine(one).begins(words) is not None]
    assert [one for one in begin if engine(one).claims(words)] == [kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_cache_of_experts_that_loads_runs_in_no_release(kind: str) -> None:
    assert (
        reads_what_it_writes(engine(kind), plain(kind, experts={"capacity": "4 slots/layer"}), 9)
        is None
    )


class Careless(Engine):
    """Drops what it does not know, and writes what it does not read."""

    kind = "careless"
    options = (Option("-x", Effect.NOT_MODELLED), Option("-x", Effect.READ))

    def begins(self, words):
        return 1

    def write(self, asked):
        return EngineCommand("careless", "careless -c 1" if asked.context_tokens else None, ())

    def understand(self, reading, folders):
        reading.line.strange.clear()
        reading.put("model", "gpt-oss-120b")


def test_one_that_breaks_the_rules_is_named() -> None:
    with pytest.raises(AssertionError, match=r"careless: \['-x'\]"):
        knows_its_options(Careless())
    with pytest.raises(AssertionError, match="careless drops an unknown option"):
        says_what_it_cannot_model(Careless(), Careless.options[0])
    with pytest.raises(AssertionError, match="careless: model gpt-oss-20b reads as gpt-oss-120b"):
        reads_what_it_writes(Careless(), plain("vllm"), 1)
    with pytest.raises(AssertionError, match="careless does not say why"):
        reads_what_it_writes(Careless(), plain("vllm"), 0)
