"""vLLM's, SGLang's and ktransformers' command lines, read and written."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moesim.config.errors import InputError
from moesim.experiment.engine_commands import ReadCommand, command_of, read_command
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.schema.experiment import Experiment


def experiment(**more: Any) -> Experiment:
    plain = {"model": "gpt-oss-120b", "hardware": "dgx-h100", "software": "vllm"}
    return load_experiment({**plain, **more}).experiment


def warnings(found: ReadCommand) -> str:
    return "\n".join(note for note in found.notes if note.startswith("warning: "))


def refill(batch: int) -> dict[str, Any]:
    return {"kind": "refill", "batch_size": batch}


@pytest.mark.parametrize(
    ("model", "written"),
    [
        ("deepseek-ai/DeepSeek-V3.1", "deepseek-ai/DeepSeek-V3.1 --"),
        ("Qwen/Qwen3-30B-A3B-FP8", "Qwen/Qwen3-30B-A3B-FP8 --"),
        ("Qwen/Qwen3-30B-A3B@fp8", "Qwen/Qwen3-30B-A3B --quantization fp8 --"),
        ("unsloth/gpt-oss-20b-GGUF", "openai/gpt-oss-20b --"),
        ("deepseek-v3", "deepseek-ai/DeepSeek-V3 --"),
        # in 16 bits, which the repository alone has, it may not fit
        (
            "qwen3-235b-a22b@fp8_block,kv_cache=fp8",
            "Qwen/Qwen3-235B-A22B-FP8 --kv-cache-dtype fp8 --",
        ),
        ("qwen3-30b-a3b@int4", "Qwen/Qwen3-30B-A3B-INT4 --"),
        ("qwen3-30b-a3b@q4_k_m", "Qwen/Qwen3-30B-A3B --"),
    ],
)
def test_the_repository_of_an_experiment_is_that_of_its_line(model: str, written: str) -> None:
    """deepseek-v3 is the card of V3.1, and another checkpoint."""
    source = {"model": model, "hardware": "dgx-h200", "parallelism": {"expert": 8}}
    one = load_experiment(source | {"software": "vllm"}).experiment
    made = command_of(one)
    assert made.text is not None
    assert made.text.startswith(f"vllm serve {written}")
    if "INT4" in written or "FP8" in written:
        again = load_experiment({**source, **read_command(made.text).experiment}).experiment
        assert again.named.model == one.named.model


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"parallelism": {"expert": 4, "dense": "data"}}, "enable_attention_dp"),
        ({"execution": "eager"}, "cuda_graph_config"),
        (
            {"parallelism": {"expert": 4, "dense": "tensor"}, "placement": {"kind": "eplb"}},
            "placement: eplb",
        ),
    ],
)
def test_what_stands_in_a_file_of_tensorrt_llm_is_in_no_line(more: Any, told: str) -> None:
    made = command_of(experiment(**more), engine="trtllm", context_tokens=4096)
    assert made.text is None
    assert told in " ".join(made.notes)


def test_a_benchmark_without_a_server_is_a_batch_of_its_lengths() -> None:
    line = "vllm bench latency --model openai/gpt-oss-20b --batch-size 8 --output-len 100"
    found = read_command(line)
    assert found.context_tokens == 132
    assert found.experiment["workload"]["batching"] == {"kind": "static", "batch_size": 8}
    assert not warnings(found)
    with pytest.raises(InputError, match="vllm bench serve: sends requests to a server, of which"):
        read_command("vllm bench serve --model openai/gpt-oss-20b --request-rate 4")


def test_kt_kernel_makes_its_own_weights_of_the_repository() -> None:
    host = {"gpu": "rtx-4090", "host": "ddr5-5600-2ch-64gb"}
    experts = {"capacity": "40 slots/layer", "miss": {"kind": "cpu"}}
    one = experiment(model="qwen3-30b-a3b@int4", hardware=host, experts=experts)
    made = command_of(one, engine="ktransformers", context_tokens=4096)
    assert made.text is not None
    assert "--model-path Qwen/Qwen3-30B-A3B --kt-weight-path" in made.text
    assert "--kt-method AMXINT4" in made.text


def test_keys_of_options_in_json_may_stand_behind_a_dot() -> None:
    line = "vllm serve openai/gpt-oss-120b -dp 8 -ep --enable-eplb"
    dotted = "--eplb-config.window_size 100 --eplb-config.num_redundant_experts=8"
    for more in (dotted, "--eplb-config '{\"num_redundant_experts\": 8}'"):
        found = read_command(f"{line} {more} --compilation-config.cudagraph_mode PIECEWISE")
        assert found.experiment["placement"] == {"kind": "eplb", "redundant": 8}
        assert found.experiment["execution"] == "piecewise"
        assert not warnings(found)
    drafts = read_command(f"{line} --speculative-config.num_speculative_tokens 3")
    assert "speculative decoding" in warnings(drafts)
    assert "--what.is 3: not understood" in warnings(read_command(f"{line} --what.is 3"))
    with pytest.raises(InputError, match="has no value"):
        read_command(f"{line} --eplb-config.window_size")


_SGLANG = "python -m sglang.launch_server --model deepseek-ai/DeepSeek-V3 --tp 8"


@pytest.mark.parametrize(
    ("line", "written"),
    [
        ("""vllm serve zai-org/GLM-4.6 -sc '{"method": "mtp", "num_speculative_tokens": 1}'""",
         "{kind: mtp, num_speculative_tokens: 1, acceptance: ...}; only the acceptance"),
        ("""vllm serve x --speculative-config '{"method": "ngram", "num_speculative_tokens": 4}'""",
         "{kind: ngram, num_speculative_tokens: 4, acceptance: ...}; only"),
        ("""vllm serve x -sc '{"model": "Qwen/Qwen3-0.6B", "num_speculative_tokens": 3}'""",
         "{kind: draft, num_speculative_tokens: 3, model: Qwen/Qwen3-0.6B, acceptance: ...}; only"),
        ("vllm serve x --speculative-config '[3'",
         "{kind: ..., num_speculative_tokens: ..., acceptance: ...}; what is open"),
        ((f"{_SGLANG} --speculative-algorithm EAGLE --speculative-num-steps 3"
          " --speculative-eagle-topk 1 --speculative-num-draft-tokens 4"),
         "{kind: mtp, num_speculative_tokens: 3, acceptance: ...}; only"),
        (f"{_SGLANG} --speculative-algo NEXTN --speculative-num-draft-tokens 2",
         "{kind: mtp, num_speculative_tokens: 1, acceptance: ...}; only"),
        ((f"{_SGLANG} --speculative-algorithm EAGLE3 --speculative-num-steps 5"
          " --speculative-eagle-topk 4 --speculative-num-draft-tokens 8"),
         "{kind: tree, num_speculative_tokens: 5, width: 4, acceptance: ...}; only"),
        ("llama-server -m Qwen3-30B-A3B-Q4_K_M.gguf -ngl 99 -md Qwen3-0.6B-Q8_0.gguf --draft 8",
         "{kind: draft, num_speculative_tokens: 8, model: Qwen3-0.6B-Q8_0.gguf, acceptance: ...}"),
    ],
)  # fmt: skip
def test_drafts_of_a_line_are_told_once_with_what_to_write(line: str, written: str) -> None:
    (told,) = (one for one in read_command(line).notes if "speculative decoding" in one)
    assert told.startswith("warning: ")
    assert f"write workload.speculative: {written}" in told


@pytest.mark.parametrize(
    ("line", "written"),
    [
        (f"{_SGLANG} --disaggregation-mode prefill --disaggregation-ib-device mlx5_0",
         "{prefill: 1, decode: 1}"),
        ("""vllm serve x --kv-transfer-config '{"kv_connector": "NixlConnector"}'""",
         "{prefill: 1, decode: 1, first_token: decode}"),
    ],
)  # fmt: skip
def test_a_line_of_one_of_several_instances_names_the_key(line: str, written: str) -> None:
    (told,) = (one for one in read_command(line).notes if "instances of their own" in one)
    assert told.startswith("warning: ")
    assert f"write serving.disaggregation: {written}" in told
    host = """vllm serve x --kv-transfer-config '{"kv_connector": "OffloadingConnector"}'"""
    assert "a KV cache on the host" in warnings(read_command(host))
    assert "disaggregation" not in warnings(read_command(host))
    assert "disaggregation" not in warnings(read_command(f"{_SGLANG} --disaggregation-mode null"))


def test_the_variable_that_picks_kernels_is_read_as_it_is_written() -> None:
    for software in ("vllm-marlin", "vllm-mxfp8"):
        made = command_of(experiment(software=software), context_tokens=4096)
        (setting,) = (note.split()[3] for note in made.notes if note.startswith("note: software"))
        found = read_command(f"VLLM_LOGGING_LEVEL=INFO {setting} {made.text}")
        assert found.experiment["software"] == software
        assert "VLLM_LOGGING_LEVEL=INFO" in warnings(found)
        assert not warnings(read_command(f"{setting} {made.text}"))


READ: list[tuple[str, dict[str, Any], list[str]]] = [
    (("vllm serve openai/gpt-oss-120b --tensor-parallel-size 8 --max-model-len 16k "
     "--max-num-seqs 32 --cpu-offload-gb 10 --quantization fp8"),
     {"software": "vllm", "model": "gpt-oss-120b@fp8",
      "parallelism": {"expert": 8, "dense": "tensor", "experts": "tensor"},
      "workload": {"batching": refill(32)}},
     ["--cpu-offload-gb 10: not modelled: weights on the host"]),
    (("python -m vllm.entrypoints.openai.api_server --model Qwen/Qwen3-30B-A3B-FP8 -dp 4 -ep "
     "--max_num_seqs 16 --enforce-eager --kv-cache-dtype fp8"),
     {"software": "vllm", "model": "qwen3-30b-a3b@fp8_block,kv_cache=fp8", "execution": "eager",
      "parallelism": {"expert": 4, "dense": "data", "exchange": "all_gather"},
      "workload": {"batching": refill(64)}}, []),
    (("docker run --gpus all vllm/vllm-openai:v0.20.2 --model deepseek-ai/DeepSeek-V3 -tp 8 -dp 2 "
     "--data-parallel-size-local 1 -ep --max-num-seqs 8 --enable-eplb "
     """--eplb-config '{"num_redundant_experts": 32}'"""),
     {"software": "vllm", "model": "deepseek-v3", "decide": "device",
      "parallelism": {"expert": 16, "nodes": 2, "dense": "tensor"},
      "workload": {"batching": refill(16)}, "placement": {"kind": "eplb", "redundant": 32}},
     []),
    (("vllm serve Qwen/Qwen3-30B-A3B --speculative-config '{}' --max-num-seqs 1 -tp 4 -ep "
     "--expert-placement-strategy round_robin"),
     {"software": "vllm", "model": "qwen3-30b-a3b", "placement": {"kind": "round_robin"},
      "parallelism": {"expert": 4, "dense": "tensor"}, "workload": {"batching": refill(1)}},
     ["--speculative-config {}", "write workload.speculative"]),
    ("""vllm serve some/model --compilation-config '{"cudagraph_mode": "PIECEWISE"}'""",
     {"software": "vllm", "model": "some/model", "execution": "piecewise"},
     ["'some/model' is not here, and its name is of no card"]),
    (("python3 -m sglang.launch_server --model deepseek-ai/DeepSeek-V3-0324 --tp 8 --ep-size 8 "
     "--max-running-requests 64 --chunked-prefill-size 8192"),
     {"software": "sglang", "model": "deepseek-v3", "parallelism": {"expert": 8, "dense": "tensor"},
      "workload": {"batching": refill(64), "prefill": {"chunk": 1024}}}, []),
    (("python -m sglang.launch_server --model-path Qwen/Qwen3-235B-A22B --tp-size 16 --ep 16 "
     "--dp 16 --enable-dp-attention --nnodes 2 --disable-cuda-graph --max-running-requests 32"),
     {"software": "sglang", "model": "qwen3-235b-a22b", "execution": "eager",
      "parallelism": {"expert": 16, "nodes": 2, "dense": "data"},
      "workload": {"batching": refill(32)}}, []),
    (("python -m sglang.launch_server --model-path Qwen/Qwen3-30B-A3B --tp 4 --dp 2 "
     "--max-running-requests 8"),
     {"software": "sglang", "model": "qwen3-30b-a3b", "workload": {"batching": refill(8)},
      "parallelism": {"expert": 4, "dense": "tensor", "experts": "tensor"}},
     ["--dp-size 2: not modelled: 2 replicas"]),
    ("vllm serve deepseek-ai/DeepSeek-V3 -tp 16 --max-num-seqs 8",
     {"software": "vllm", "model": "deepseek-v3", "workload": {"batching": refill(8)},
      "parallelism": {"expert": 16, "dense": "tensor"}},
     ["each expert is sliced over 16 GPUs, of several nodes"]),
    (("python -m sglang.launch_server --model Qwen/Qwen3-30B-A3B-Instruct-2507 --kt-method BF16 "
     "--kt-num-gpu-experts 28 --kt-cpuinfer 16 --kt-weight-path /w --max-running-requests 1 "
     "--kt-max-deferred-experts-per-token 2"),
     {"software": "ktransformers@0.7", "model": "qwen3-30b-a3b-2507",
      "workload": {"batching": refill(1)},
      "experts": {"capacity": "28 slots/layer", "miss": {"kind": "cpu"},
                  "initial": "lowest_ids"}},
     ["--kt-max-deferred-experts-per-token 2"]),
    (("python -m sglang.launch_server --model deepseek-ai/DeepSeek-V3 --kt-method FP8 "
     "--kt-num-gpu-experts 0 --kt-weight-path /w --max-running-requests 1"),
     {"software": "ktransformers@0.7", "model": "deepseek-v3", "workload": {"batching": refill(1)},
      "experts": {"on_cpu": {"layers": 58}}}, []),
    (("python -m sglang.launch_server --model Qwen/Qwen3-30B-A3B --kt-method AMXINT4 "
     "--kt-gpu-experts-ratio 0.25 --kt-expert-placement-strategy front-loading "
     "--kt-weight-path /w --max-running-requests 1"),
     {"software": "ktransformers@0.7", "model": "qwen3-30b-a3b@experts=int4",
      "workload": {"batching": refill(1)},
      "experts": {"on_cpu": {"layers": list(range(12, 48))}}}, []),
    (("python ktransformers/local_chat.py --model_path deepseek-ai/DeepSeek-V3 --gguf_path "
      "./DeepSeek-V3-Q4_K_M --cpu_infer 33 --max_new_tokens 1000"),
     {"software": "ktransformers@0.2", "model": "deepseek-v3@q4_k_m",
      "experts": {"on_cpu": {"layers": 58}}},
     []),
    (("python ktransformers/local_chat.py --model_path deepseek-ai/DeepSeek-R1 --gguf_path "
      "./DeepSeek-R1-UD-Q2_K_XL"),
     {"software": "ktransformers@0.2", "model": "deepseek-r1@q2_k",
      "experts": {"on_cpu": {"layers": 58}}},
     ["'ud-q2_k_xl' is its publisher's own mix, taken for q2_k"]),
    (("python -m ktransformers.local_chat --model_path deepseek-ai/DeepSeek-V3 --gguf_path ./files "
      "--optimize_config_path rules.yaml"),
     {"software": "ktransformers@0.2", "model": "deepseek-v3",
      "experts": {"on_cpu": {"layers": 58}}},
     ["the format of --gguf_path is not known", "--optimize_config_path rules.yaml"]),
]  # fmt: skip


@pytest.mark.parametrize(("line", "read", "told"), READ)
def test_lines_of_servers(line: str, read: dict[str, Any], told: list[str]) -> None:
    found = read_command(line)
    assert found.experiment == read
    assert [words for words in told if words not in warnings(found)] == []
    assert bool(told) == bool(warnings(found)), warnings(found)


def test_a_server_in_an_environment_of_that_name_is_sglangs() -> None:
    line = "conda run -n ktransformers python -m sglang.launch_server --model Qwen/Qwen3-30B-A3B"
    assert read_command(line).engine == "sglang"
    assert read_command(f"{line} --kt-num-gpu-experts 0").engine == "ktransformers"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("vllm serve m --max-num-seqs many", "--max-num-seqs: 'many' is no whole number from 1"),
        ("vllm serve m --max-num-seqs", "--max-num-seqs: has no value"),
        ("vllm serve m --enable-eplb --eplb-config '{\n'", "--eplb-config: '{ ' is no JSON object"),
        ("vllm serve m --enable-eplb --eplb-config x", "--eplb-config: 'x' is no JSON object"),
        ("python -m sglang.launch_server --tp-size 0", "--tp-size: '0' is no whole number from 1"),
        ("python -m sglang.launch_server --kt-gpu-experts-ratio a", "--kt-gpu-experts-ratio: 'a'"),
    ],
)
def test_a_broken_line_gets_one_clear_error(line: str, told: str) -> None:
    with pytest.raises(InputError) as caught:
        read_command(line)
    (problem,) = caught.value.problems
    assert str(problem).startswith(told)


def test_the_line_of_experts_on_the_cpu() -> None:
    """The machine's 16 cores, and as many experts of each layer as there are slots."""
    experts = {"capacity": "28 slots/layer", "miss": {"kind": "cpu"}, "initial": "most_used"}
    one = experiment(model="qwen3-30b-a3b", hardware="rtx-5090", experts=experts)
    found = command_of(one, "ktransformers", 2048)
    assert found.text == (
        "python -m sglang.launch_server --model-path Qwen/Qwen3-30B-A3B --kt-weight-path"
        " Qwen/Qwen3-30B-A3B --kt-method BF16 --kt-num-gpu-experts 28"
        " --kt-expert-placement-strategy frequency --kt-cpuinfer 16"
        " --kt-threadpool-count 1 --context-length 2048 --max-running-requests 1"
    )
    assert any("kt-kernel those of a recorded file" in note for note in found.notes)


CPU = {"miss": {"kind": "cpu"}, "capacity": "8 slots/layer"}


@pytest.mark.parametrize(
    ("engine", "more", "told"),
    [
        ("vllm", {"experts": {"capacity": "8 slots/layer"}}, "no release of vLLM keeps some"),
        ("sglang", {"experts": {"on_cpu": {"layers": 3}}}, "SGLang computes no experts on the CPU"),
        (
            "vllm",
            {"model": "gpt-oss-20b@kv_cache=q8_0"},
            "llama.cpp has such; vLLM has kv_cache=fp8",
        ),
        ("vllm", {"parallelism": {"expert": 2}, "placement": {"kind": "greedy"}}, "linear, round_"),
        ("sglang", {"parallelism": {"expert": 2}, "placement": {"kind": "greedy"}}, "and EPLB"),
        ("vllm", {"gating": {"kind": "static"}}, "neither pads nor drops"),
        ("ktransformers", {"experts": {"on_cpu": {"layers": 3}}}, "3 of 36 layers"),
        ("ktransformers", {"model": "gpt-oss-20b@kv_cache=q4_0"}, "SGLang has kv_cache=fp8"),
        ("ktransformers", {"experts": {"capacity": "8 slots/layer"}}, "loads no experts in decode"),
        ("ktransformers", {"experts": CPU, "parallelism": {"expert": 2}}, "slices experts over"),
        ("ktransformers", {"gating": {"kind": "static"}}, "neither pads nor drops"),
    ],
)
def test_what_a_server_cannot_run_has_no_line(engine: str, more: dict[str, Any], told: str) -> None:
    found = command_of(experiment(**more), engine, 512)
    assert found.text is None
    assert told in "\n".join(found.notes)


def test_no_host_decides_in_steps_that_a_line_captures() -> None:
    """gpt-oss-120b over four ranks took 16 % longer a token than as vLLM runs it."""
    line = "vllm serve openai/gpt-oss-120b -dp 4 -ep"
    assert read_command(line).experiment["decide"] == "device"
    assert "decide" not in read_command(f"{line} --enforce-eager").experiment
    assert "decide" not in read_command(line.replace("-dp", "-tp")).experiment
    ranks = {"software": "vllm", "parallelism": {"expert": 4}}
    told = [
        command_of(experiment(**ranks, **more), "vllm", 512).notes
        for more in ({}, {"decide": "device"}, {"execution": "eager"})
    ]
    assert ["decide: host" in " ".join(notes) for notes in told] == [True, False, False]


@settings(max_examples=40, deadline=None)
@given(
    engine=st.sampled_from(["vllm", "sglang"]),
    model=st.sampled_from(["gpt-oss-20b", "qwen3-30b-a3b@fp8", "deepseek-v3", "mixtral-8x7b"]),
    gpus=st.sampled_from([1, 2, 4, 8]),
    dense=st.sampled_from(["data", "tensor"]),
    rank_batch=st.integers(1, 64),
    chunk=st.integers(1, 8192),
    context=st.integers(1, 1 << 20),
    eager=st.booleans(),
)
def test_a_line_that_is_written_reads_as_the_same_experiment(
    engine: str, model: str, gpus: int, dense: str, rank_batch: int, chunk: int, context: int,
    eager: bool,
) -> None:  # fmt: skip
    workload = {"batching": refill(gpus * rank_batch), "prefill": {"chunk": chunk}}
    said: dict[str, Any] = {"model": model, "software": engine, "workload": workload}
    said |= {"parallelism": {"expert": gpus, "dense": dense}} if gpus > 1 else {}
    if (engine, model, dense) == ("vllm", "deepseek-v3", "data") and gpus > 1:
        said["parallelism"]["dispatch_dtype"] = "fp8_block"  # as DeepEP's kernels send it
    captured = gpus > 1 and dense == "data" and not eager
    said |= {"decide": "device"} if captured else {}
    said |= {"execution": "eager"} if eager else {}
    found = read_command(str(command_of(experiment(**said), engine, context).text))
    assert (found.engine, found.experiment, found.context_tokens) == (engine, said, context)
    assert not warnings(found)


@settings(max_examples=30, deadline=None)
@given(
    model=st.sampled_from(["qwen3-30b-a3b", "qwen3-30b-a3b@experts=int4", "deepseek-v3"]),
    slots=st.integers(1, 127),
    context=st.integers(1, 1 << 20),
    batch=st.integers(1, 64),
)
def test_experts_on_the_cpu_that_are_written_read_the_same(
    model: str, slots: int, context: int, batch: int
) -> None:
    experts = {"capacity": f"{slots} slots/layer", "miss": {"kind": "cpu"}, "initial": "most_used"}
    said = {"model": model, "software": "ktransformers@0.7", "experts": experts}
    said["workload"] = {"batching": refill(batch)}
    one = experiment(**said, hardware="rtx-4090")
    found = read_command(str(command_of(one, "ktransformers", context).text))
    assert found.engine == "ktransformers"
    assert (found.experiment, found.context_tokens) == (said, context)


GPT_OSS = "vllm serve openai/gpt-oss-20b --max-num-seqs 1 --cpu-offload-gb"


def test_gib_on_the_host_are_whole_layers() -> None:
    """A layer of gpt-oss-20b has 0.45 GiB; vLLM reads weights in place, SGLang copies layers."""
    vllm = read_command(f"{GPT_OSS} 4")
    assert vllm.experiment["offload_layers"] == 9
    assert vllm.experiment["experts"] == {"miss": {"kind": "zero_copy"}}
    assert any("the first 9 layers" in note for note in vllm.notes)
    line = "python -m sglang.launch_server --model openai/gpt-oss-20b --cpu-offload-gb 4"
    sglang = read_command(f"{line} --max-running-requests 1")
    assert (sglang.experiment["offload_layers"], "experts" in sglang.experiment) == (9, False)
    assert read_command(f"{GPT_OSS} 1000").experiment["offload_layers"] == 24
    assert "offload_layers" not in read_command(f"{GPT_OSS} 0").experiment
    with pytest.raises(InputError, match="'many' is no number of GiB"):
        read_command(f"{GPT_OSS} many")


@pytest.mark.parametrize(("engine", "how"), [("vllm", "zero_copy"), ("sglang", "load")])
@pytest.mark.parametrize("layers", [1, 7, 24])
def test_layers_on_the_host_are_written_as_they_are_read(
    engine: str, how: str, layers: int
) -> None:
    source = {
        "model": "gpt-oss-20b",
        "hardware": "rtx-4090",
        "software": "vllm",
        "offload_layers": layers,
        "experts": {"miss": {"kind": how}},
        "workload": {"batching": refill(1)},
    }
    text = command_of(load_experiment(source).experiment, engine).text
    assert text is not None
    assert "--cpu-offload-gb" in text
    found = read_command(text).experiment
    assert found["offload_layers"] == layers
    other = "zero_copy" if how == "load" else "load"
    asked = load_experiment(source | {"experts": {"miss": {"kind": other}}}).experiment
    assert command_of(asked, engine).text is None


def test_kernels_that_vllm_has_to_be_told_of() -> None:
    said = {"model": "gpt-oss-120b", "workload": {"batching": refill(4)}}
    found = command_of(experiment(**said, software="vllm-marlin"))
    assert found.engine == "vllm"
    assert any("VLLM_MXFP4_USE_MARLIN=1" in note for note in found.notes)
    plain = command_of(experiment(**said, software="vllm"))
    assert not any("VLLM_MXFP4" in note for note in plain.notes)


@pytest.mark.parametrize(
    ("options", "execution", "told"),
    [
        ("-cc.cudagraph_mode=PIECEWISE", "piecewise", False),
        ("-cc.cudagraph_mode NONE", "eager", False),
        ("""--compilation-config '{"cudagraph_mode": "FULL_AND_PIECEWISE"}'""", None, False),
        ("""--compilation-config '{"cudagraph_mode": "none", "mode": 3}'""", "eager", True),
        ("""--compilation-config '{"mode": 3}'""", None, True),
        ("--compilation-config 3", None, True),
        ("--no-enable-expert-parallel", None, False),
    ],
)
def test_modes_of_vllms_graphs(options: str, execution: str | None, told: bool) -> None:
    found = read_command(f"vllm serve Qwen/Qwen3-30B-A3B {options}")
    assert found.experiment.get("execution") == execution
    assert any(note.startswith("warning: ") for note in found.notes) is told


def test_the_server_of_older_ktransformers() -> None:
    line = "python ktransformers/server/main.py --model_path deepseek-ai/DeepSeek-V3 --gguf_path"
    options = "--cpu_infer 64 --cache_lens 32768 --chunk_size 256 --max_batch_size 4"
    found = read_command(f"{line} /m/DeepSeek-V3-Q4_K_M {options} --backend_type balance_serve")
    assert (found.engine, found.experiment["model"]) == ("ktransformers", "deepseek-v3@q4_k_m")
    assert found.experiment["workload"] == {
        "batching": {"kind": "refill", "batch_size": 4},
        "prefill": {"chunk": 256},
    }
    assert found.context_tokens == 8192
    assert found.experiment["experts"] == {"on_cpu": {"layers": 58}}
