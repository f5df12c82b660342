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
    engine_of,
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


MODELLED = [kind for kind in KINDS if engine(kind).softwares]
"""Those whose software is known: how they batch, and by whom they are served, too."""


def test_the_engines_are_found() -> None:
    shipped = {"ik_llama.cpp", "ktransformers", "llama.cpp", "sglang", "trtllm", "vllm"}
    assert shipped <= set(MODELLED)


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


@pytest.mark.parametrize("kind", MODELLED)
def test_what_is_resident_reads_as_it_is_written(kind: str) -> None:
    found = reads_what_it_writes(engine(kind), plain(kind), 4096)
    assert found is not None


WHOLE = st.integers(1, 40_000)
FLAG = st.booleans()
SCHEDULERS: dict[str, dict[str, Any]] = {
    "vllm": {
        "max_num_seqs": st.integers(1, 256), "async_scheduling": FLAG,
        "max_num_batched_tokens": st.integers(1024, 40_000),
        "enable_chunked_prefill": FLAG, "long_prefill_token_threshold": WHOLE,
        "policy": st.sampled_from(["fcfs", "priority"]),
    },
    "sglang": {
        "max_num_seqs": WHOLE, "max_prefill_tokens": WHOLE, "async_scheduling": FLAG,
        "chunked_prefill_size": st.none() | WHOLE, "enable_mixed_chunk": FLAG,
        "schedule_policy": st.sampled_from(["fcfs", "lpm"]),
        "schedule_conservativeness": st.sampled_from([0.3, 1.0, 2.5]),
    },
    "trtllm": {
        "max_num_seqs": WHOLE, "max_num_tokens": WHOLE, "enable_chunked_context": FLAG,
    },
    "llama.cpp": {
        "max_num_seqs": st.integers(1, 64), "n_batch": st.integers(64, 4096),
        "n_ubatch": st.integers(64, 4096), "kv_unified": FLAG, "checkpoints": FLAG,
    },
    "ik_llama.cpp": {
        "max_num_seqs": st.integers(1, 64), "n_batch": st.integers(64, 4096),
        "n_ubatch": st.integers(64, 4096),
    },
}  # fmt: skip
ROOMS = st.fixed_dictionaries(
    {},
    optional={
        "gpu_memory_utilization": st.integers(1, 100).map("{} %".format),
        "block_size": st.sampled_from([1, 16, 64]),
        "kv": st.integers(1, 10**6).map("{} blocks".format),
        "prefix_caching": FLAG,
    },
)


@pytest.mark.parametrize("kind", SCHEDULERS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_what_is_served_reads_as_it_is_written(kind: str, data: st.DataObject) -> None:
    """llama.cpp's slots and vLLM's longest request are what the line says; llama.cpp and
    TensorRT-LLM have no words for memory.
    """
    scheduler = data.draw(st.fixed_dictionaries({}, optional=SCHEDULERS[kind]))
    scheduler["kind"] = kind.removeprefix("ik_")
    wordless = kind in ("llama.cpp", "ik_llama.cpp", "trtllm")
    more: dict[str, Any] = {} if wordless else {"memory": data.draw(ROOMS)}
    if kind == "vllm":
        scheduler["max_model_len"] = 4096
    if "llama.cpp" in kind:
        scheduler["slot_context"] = 4096
    elif data.draw(FLAG):
        dense = "tensor" if kind == "trtllm" else "data"
        more |= {"hardware": "dgx-h100", "parallelism": {"expert": 4, "dense": dense}}
    batching = {"kind": "continuous", "scheduler": scheduler}
    found = reads_what_it_writes(
        engine(kind), plain(kind, workload={"batching": batching}, **more), 4096
    )
    assert found is not None
    assert found.served


@pytest.mark.parametrize("kind", MODELLED)
def test_another_engine_s_scheduler_has_no_line(kind: str) -> None:
    scheduler = {"kind": "vllm" if kind == "sglang" else "sglang"}
    one = plain(kind, workload={"batching": {"kind": "continuous", "scheduler": scheduler}})
    made = engine(kind).write(Configuration(one, 4096))
    assert made.text is None
    assert made.notes[0].startswith("workload.batching")


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
def test_a_software_is_of_one_engine(kind: str) -> None:
    """ktransformers' class is SGLang's, and had its software: every line of that was its."""
    for software in engine(kind).softwares:
        one = plain(kind, model="gpt-oss-20b", software=software)
        assert engine_of(one) == kind


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
