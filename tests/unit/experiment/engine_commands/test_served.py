"""Lines of servers whose schedulers decide, and what is said of what no line has."""

from __future__ import annotations

from typing import Any

import pytest

from moesim.config.errors import InputError
from moesim.experiment.building.of_card import of_card
from moesim.experiment.engine_commands import command_of, read_command
from moesim.experiment.engine_commands.file import filled_in, with_settings
from moesim.experiment.loading.resolve import load_experiment
from moesim.workload.serving.run import Serving

VLLM = (
    "vllm serve openai/gpt-oss-20b --max-num-seqs 64 --max-num-batched-tokens 8k"
    " --gpu-memory-utilization 0.92 --scheduling-policy priority --kv-cache-memory-bytes 4000000000"
)
CONTINUOUS = {"batching": {"kind": "continuous"}}
PASSES = ("kv_unified", "recurrent", "checkpoints")


def test_a_line_is_a_scheduler_and_a_room_where_requests_are_served() -> None:
    found = read_command(VLLM, served=True)
    scheduler = {"kind": "vllm", "max_num_seqs": 64, "policy": "priority"}
    scheduler["max_num_batched_tokens"] = 8000
    batching = {"kind": "continuous", "scheduler": scheduler}
    assert found.experiment["workload"] == {"batching": batching}
    room = {"gpu_memory_utilization": "92 %", "kv": "4000000000 B"}
    assert found.experiment["memory"] == room
    assert not found.notes
    full = read_command(VLLM)
    assert full.experiment["workload"]["batching"] == {"kind": "refill", "batch_size": 64}
    left_out = [note for note in full.notes if note.startswith("warning: ")]
    assert len(left_out) == 3
    assert all("--served" in note for note in left_out)


def test_the_longest_request_of_vllm_is_a_limit_and_no_length() -> None:
    found = read_command(f"{VLLM} --max-model-len 8192", served=True).experiment
    assert found["workload"]["batching"]["scheduler"]["max_model_len"] == 8192
    assert "context" not in found["workload"]


def test_limits_of_sglang_are_those_of_all_ranks() -> None:
    line = "python -m sglang.launch_server --model-path openai/gpt-oss-120b --tp 8 --ep 8 --dp 8"
    line += " --enable-dp-attention --max-running-requests 512 --chunked-prefill-size 32768"
    line += " --page-size 64 --max-total-tokens 6400 --disable-radix-cache"
    found = read_command(line, served=True).experiment
    scheduler = {"kind": "sglang", "max_num_seqs": 64, "chunked_prefill_size": 4096}
    assert found["workload"]["batching"]["scheduler"] == scheduler
    assert found["memory"] == {"block_size": 64, "kv": "100 blocks", "prefix_caching": False}


def test_a_slot_of_llama_cpp_has_its_share_of_the_context() -> None:
    line = "llama-server -hf ggml-org/gpt-oss-20b-GGUF -ngl 99 -c 32768"
    for more, tokens in (
        ("", 32768), (" -np 2", 16384), (" -np 2 -kvu", 32768),
        (" -np 2 -kvu --kv-unified-per-slot 8192", 8192),
    ):  # fmt: skip
        found = read_command(line + more, served=True)
        scheduler = found.experiment["workload"]["batching"]["scheduler"]
        assert scheduler["slot_context"] == found.context_tokens == tokens


@pytest.mark.parametrize(
    ("line", "said", "taken"),
    [
        ("llama-server -m gpt-oss-20b-mxfp4.gguf -np 2", {}, {"checkpoints"}),
        ("llama-server -m gpt-oss-20b-mxfp4.gguf -np 2 -ctxcp 0", {"checkpoints": False}, set()),
        (
            "llama-server -m Qwen3-30B-A3B-Q4_K_M.gguf -np 2 -kvu",
            {"kv_unified": True},
            {"kv_unified"},
        ),
        ("llama-server -m Qwen3-Next-80B-A3B-Q4_K_M.gguf", {}, {*PASSES}),
        ("ik_llama.cpp/llama-server -m gpt-oss-20b-mxfp4.gguf -np 2", {}, {"kv_unified"}),
    ],
)
def test_passes_of_llama_cpp_s_server_are_by_the_model_and_its_cache(
    line: str, said: dict[str, bool], taken: set[str]
) -> None:
    """gpt-oss has a sliding window, Qwen3-30B-A3B none, and Qwen3-Next recurrent layers; the fork's
    server knows nothing of them. What a line does not say follows as in a file.
    """
    found = read_command(line, served=True).experiment
    scheduler = found["workload"]["batching"]["scheduler"]
    assert {key: value for key, value in scheduler.items() if key in PASSES} == said
    own = scheduler_of({**found, "hardware": "rtx-4090", "trace": "traces/quickstart.parquet"})
    assert {key for key in PASSES if getattr(own, key)} == taken


def scheduler_of(said: dict[str, Any]) -> Any:
    """What a run of it takes."""
    batching: Any = of_card(load_experiment(said).experiment).workload.batching
    return batching.scheduler


@pytest.mark.parametrize("key", PASSES)
@pytest.mark.parametrize("software", ["llama.cpp", "ik_llama.cpp"])
def test_passes_that_no_server_makes_have_no_line(software: str, key: str) -> None:
    """What its server does by itself with gpt-oss-20b, and what llama.cpp's has options for."""
    words = {"kv_unified": "-kvu", "checkpoints": "-ctxcp 0"}
    scheduler = {"kind": "llama.cpp", "max_num_seqs": 2}
    one = {"model": "gpt-oss-20b", "hardware": "rtx-4090", "software": software}

    def line(**passes: bool) -> Any:
        batching = {"kind": "continuous", "scheduler": scheduler | passes}
        said = {**one, "workload": {"batching": batching}}
        return command_of(load_experiment(said).experiment, context_tokens=4096)

    own = key == ("checkpoints" if software == "llama.cpp" else "kv_unified")
    assert line(**{key: own}).text == line().text
    other = line(**{key: not own})
    if software == "llama.cpp" and key in words:
        assert words[key] in str(other.text)
    else:
        assert other.text is None
        said = f"scheduler.{key}: {not own}: {software}'s server has {own}".replace("T", "t")
        assert said.replace("F", "f") in other.notes[0]


def test_the_file_says_what_no_line_has_of_requests() -> None:
    found = read_command(VLLM, served=True)
    made = with_settings(found, {"gpu": "h100-sxm"}, ["workload.arrivals={kind: at_once}"])
    assert "context" not in made["workload"]
    told = " ".join(filled_in(found, made))
    assert "workload.lengths: no line has it" in told
    assert "workload.arrivals: " not in told


def test_the_share_of_what_is_free_is_trtllms() -> None:
    line = "trtllm-serve openai/gpt-oss-120b"
    found = read_command(f"{line} --kv_cache_free_gpu_memory_fraction 0.75", served=True)
    assert found.experiment["memory"] == {"kv": "75 %"}
    assert not [note for note in found.notes if "fraction" in note]
    one = load_experiment({**found.experiment, "hardware": "h100-sxm"}).experiment
    assert "--kv_cache_free_gpu_memory_fraction 0.75" in str(command_of(one).text)
    with pytest.raises(InputError, match="'2' is not a share, as"):
        read_command(f"{line} --kv_cache_free_gpu_memory_fraction 2", served=True)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (VLLM.replace("0.92", "92"), "'92' is not a share, as 0.9; write one"),
        (VLLM.replace("64", "many"), "'many' is no whole number from 1 on"),
        (
            "python -m sglang.launch_server --model x --kt-weight-path x --kt-num-gpu-experts 8",
            "ktransformers: its options of served requests are not known here",
        ),
    ],
)
def test_what_is_broken_is_told(line: str, what: str) -> None:
    with pytest.raises(InputError, match=what):
        read_command(line, served=True)


def test_the_longest_request_is_the_room_that_a_line_asks_for() -> None:
    lengths = {"kind": "fixed", "input_len": 300, "output_len": 41}
    workload = {**CONTINUOUS, "requests": 3, "lengths": lengths}
    workload["routing"] = {"kind": "draw", "prompts_from": "decode"}
    one = {"model": "gpt-oss-20b", "hardware": "h100-sxm", "software": "vllm"}
    made = command_of(load_experiment({**one, "workload": workload}).experiment)
    assert made.text is not None
    assert "--max-model-len 341 --max-num-seqs 1024 --max-num-batched-tokens 8192" in made.text
    assert "requests are the clients'" in " ".join(made.notes)


def test_the_longest_request_asks_for_no_plan_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line of 1,000 requests to eight GPUs took 15 s of planning and counting them."""
    monkeypatch.setattr(Serving, "as_if_at_once", None)
    lengths = {"kind": "fixed", "input_len": 512, "output_len": 64}
    workload = {**CONTINUOUS, "requests": 4, "lengths": lengths}
    workload |= {"arrivals": {"kind": "poisson", "request_rate": "1 requests/s"}}
    one = {"model": "gpt-oss-20b", "hardware": "h100-sxm", "software": "vllm"}
    made = command_of(load_experiment({**one, "workload": workload}).experiment)
    assert "--max-model-len 576 " in str(made.text)


def test_a_scheduler_says_itself_how_llama_cpp_takes_prompts_and_fills_slots() -> None:
    one = {"model": "gpt-oss-20b", "hardware": "rtx-4090", "software": "llama.cpp"}

    def told(workload: dict[str, Any]) -> str:
        asked = load_experiment({**one, "workload": workload}).experiment
        return " ".join(command_of(asked, context_tokens=4096).notes)

    assert "(kind: refill)" in told({"batching": {"kind": "static", "batch_size": 4}})
    lengths = {"kind": "fixed", "input_len": 512, "output_len": 64}
    batching = {"kind": "continuous", "scheduler": {"kind": "llama.cpp"}}
    served = told({"batching": batching, "requests": 4, "lengths": lengths})
    assert "(kind: refill)" not in served
    assert "prompts run whole" not in served


def test_what_no_option_says_is_told() -> None:
    batching = {"kind": "continuous", "scheduler": {"kind": "vllm", "watermark": "2 %"}}
    more = {"workload": {"batching": batching}, "serving": {"replicas": 2}}
    one = {"model": "gpt-oss-20b", "hardware": "h100-sxm", "software": "vllm", **more}
    made = command_of(load_experiment(one).experiment, context_tokens=4096)
    told = " ".join(made.notes)
    assert "workload.batching.scheduler.watermark: no option" in told
    assert "serving.replicas: 2 such servers" in told


@pytest.mark.parametrize("engine", ["vllm", "sglang", "llama.cpp"])
def test_drafts_and_other_choices_are_in_no_line(engine: str) -> None:
    drafts = {"kind": "ngram", "num_speculative_tokens": 3, "acceptance": "80 %"}
    one: dict[str, Any] = {"model": "gpt-oss-20b", "hardware": "h100-sxm", "software": engine}
    one |= {"workload": {"speculative": drafts}}
    one["routing"] = [{"kind": "top_k", "k": 2}]
    told = " ".join(command_of(load_experiment(one).experiment, context_tokens=4096).notes)
    assert "note: routing: " in told
    assert "note: workload.speculative: " in told
