"""How GPUs share a model in the lines of servers: attention, experts, layers, and what is sent."""

from __future__ import annotations

from typing import Any

import pytest

from moesim.config.errors import InputError
from moesim.experiment.engine_commands import command_of, read_command
from moesim.experiment.loading.resolve import load_experiment

from .test_servers import experiment, refill, warnings


@pytest.mark.parametrize(
    ("line", "where", "instead"),
    [
        ("vllm serve openai/gpt-oss-120b -tp 2 -dp 2", "-tp 2 -dp 2",
         "'-tp 4 -dp 1' or '-tp 1 -dp 4'"),
        ("vllm serve openai/gpt-oss-120b -tp 2 -dp 4 -ep", "-tp 2 -dp 4",
         "'-tp 8 -dp 1' or '-tp 1 -dp 8'"),
        (("python -m sglang.launch_server --model openai/gpt-oss-120b --tp 4 --dp 2"
          " --enable-dp-attention"), "--tp 4 --dp 2 --enable-dp-attention",
         "'--tp 4 --dp 1 --enable-dp-attention' or '--tp 4 --dp 4 --enable-dp-attention'"),
    ],
)  # fmt: skip
def test_attention_over_some_of_a_node_s_gpus_is_refused(
    line: str, where: str, instead: str
) -> None:
    with pytest.raises(InputError) as error:
        read_command(line)
    (problem,) = error.value.problems
    assert problem.where == where
    assert "groups of 2 GPUs, each with requests of its own" in problem.what
    assert problem.what.endswith(f"write {instead}")


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("python -m sglang.launch_server --model deepseek-ai/DeepSeek-V3 --tp 16 --nnodes 2",
         ("'--tp 16 --dp 2 --enable-dp-attention' or '--tp 16 --dp 16 --enable-dp-attention'")),
        ("trtllm-serve deepseek-ai/DeepSeek-R1 --tp_size 16 --gpus_per_node 8", "'--tp_size 8'"),
    ],
)  # fmt: skip
def test_attention_over_several_nodes_is_told_with_what_to_write(line: str, instead: str) -> None:
    """It was told as one group of 16 GPUs with requests of its own."""
    with pytest.raises(InputError) as error:
        read_command(line)
    (problem,) = error.value.problems
    assert problem.what.startswith("attention over GPUs of several nodes is not modelled")
    assert problem.what.endswith(f"write {instead}")


def test_groups_of_eight_gpus_are_a_node_each() -> None:
    """Two nodes of 8, which was refused as 2 groups of a node of 16."""
    line = "vllm serve deepseek-ai/DeepSeek-V3 -tp 8 -dp 2 -ep"
    found = read_command(line)
    assert found.experiment["parallelism"] == {"expert": 16, "nodes": 2, "dense": "tensor"}
    assert found.experiment == read_command(f"{line} --data-parallel-size-local 1").experiment
    assert "note: parallelism.nodes: 2, of 8 GPUs each" in found.notes


@pytest.mark.parametrize(("gpus", "told"), [(8, False), (16, True)])
def test_attention_over_more_gpus_than_a_node_has_is_warned_of(gpus: int, told: bool) -> None:
    found = read_command(f"vllm serve deepseek-ai/DeepSeek-V3 -tp {gpus} -ep")
    assert found.experiment["parallelism"] == {"expert": gpus, "dense": "tensor"}
    assert ("attention over 16 GPUs is of one node so large" in warnings(found)) == told


def test_data_parallel_ranks_of_sglang_are_replicas_where_requests_are_served() -> None:
    line = "python -m sglang.launch_server --model openai/gpt-oss-120b --tp 2 --dp-size 3"
    assert "3 replicas of the model: one is read" in warnings(read_command(line))
    served = read_command(line, served=True)
    assert served.experiment["serving"] == {"replicas": 3}
    assert served.experiment["parallelism"]["expert"] == 2
    assert "replicas" not in warnings(served)


def test_vllm_with_whole_experts() -> None:
    found = read_command(
        "vllm serve openai/gpt-oss-120b --tensor-parallel-size 8 --enable-expert-parallel"
        " --max-model-len 16384 --max-num-seqs 32 --max-num-batched-tokens=8192 --port 8000"
    )
    assert (found.engine, found.context_tokens) == ("vllm", 16384)
    assert found.experiment == {
        "software": "vllm",
        "model": "gpt-oss-120b",
        "parallelism": {"expert": 8, "dense": "tensor"},
        "workload": {"batching": refill(32), "prefill": {"chunk": 1024}},
    }
    assert not warnings(found)


def test_tensorrt_llm_slices_experts_unless_it_is_told() -> None:
    line = "trtllm-serve serve openai/gpt-oss-120b --tp_size 4 --max_batch_size 8"
    found = read_command(f"{line} --max_num_tokens 4096 --max_seq_len 9000 --backend pytorch")
    assert (found.engine, found.context_tokens) == ("trtllm", 9000)
    assert found.experiment == {
        "software": "trtllm",
        "model": "gpt-oss-120b",
        "parallelism": {"expert": 4, "dense": "tensor", "experts": "tensor"},
        "workload": {"batching": refill(8), "prefill": {"chunk": 1024}},
    }
    assert not warnings(found)
    whole = read_command(f"{line} --ep_size 4").experiment["parallelism"]
    assert whole == {"expert": 4, "dense": "tensor"}
    both = read_command(f"{line} --ep_size 2 --extra_llm_api_options more.yaml")
    assert both.experiment["parallelism"] == {"expert": 4, "dense": "tensor", "slice": 2}
    assert "attention DP, CUDA graphs, EPLB and drafts" in warnings(both)


@pytest.mark.parametrize(
    ("words", "parallelism"),
    [
        ("--ep-size 4", {"dense": "tensor", "slice": 2}),
        ("--ep-size 4 --dp-size 8 --enable-dp-attention",
         {"dense": "data", "slice": 2, "exchange": "all_gather"}),
        ("", {"dense": "tensor", "experts": "tensor"}),
    ],
)  # fmt: skip
def test_sglang_slices_experts_over_some(words, parallelism):
    """Expert parallelism of fewer ranks than tensor parallelism, which was read as none."""
    line = f"python -m sglang.launch_server --model-path openai/gpt-oss-120b --tp-size 8 {words}"
    found = read_command(f"{line} --max-running-requests 8")
    assert found.experiment["parallelism"] == {"expert": 8, **parallelism}
    assert not warnings(found)
    one = load_experiment({**found.experiment, "hardware": "h100-sxm"}).experiment
    assert words in str(command_of(one, "sglang").text)
    told = command_of(one, "vllm").notes
    assert any("parallelism.slice: 2" in one for one in told) == ("slice" in parallelism)


@pytest.mark.parametrize("attention", ["", " --dp 8 --enable-dp-attention"])
@pytest.mark.parametrize(
    "whole",
    [
        *(f"--moe-a2a-backend {name}" for name in ("deepep", "mooncake", "nixl", "flashinfer")),
        "--moe-a2a-backend megamoe --ep-size 2", "--enable-deepep-moe", "--enable-ep-moe",
    ],
)  # fmt: skip
def test_sglang_has_whole_experts_where_rows_are_dispatched(whole: str, attention: str) -> None:
    """As with --ep-size of all GPUs, which these backends make of it."""
    line = f"python -m sglang.launch_server --model deepseek-ai/DeepSeek-V3 --tp 8{attention}"
    found = read_command(f"{line} {whole}")
    dtype = found.experiment["parallelism"].pop("dispatch_dtype", None)
    assert dtype == ("fp8_block" if "backend deepep" in whole and attention else None)
    assert found.experiment == read_command(f"{line} --ep-size 8").experiment
    assert "experts" not in found.experiment["parallelism"]
    assert ("which kernels are taken" in warnings(found)) == (whole != "--enable-ep-moe")
    assert "not understood" not in warnings(found)
    assert ("--ep-size 2: " in "".join(found.notes)) == ("--ep-size" in whole)
    sliced = read_command(f"{line} --moe-a2a-backend none").experiment
    assert sliced["parallelism"]["experts"] == "tensor"
    assert sliced == read_command(line).experiment


@pytest.mark.parametrize(
    ("backend", "exchange"),
    [
        ("", "all_gather"),
        ("--all2all-backend allgather_reducescatter", "all_gather"),
        ("--all2all-backend deepep_low_latency", None),
        ("--all2all-backend deepep_high_throughput", "deduplicated"),
    ],
)
def test_vllm_gathers_unless_it_is_told_to_dispatch(backend: str, exchange: str | None) -> None:
    line = f"vllm serve openai/gpt-oss-120b -dp 8 -ep --max-num-seqs 8 {backend}"
    found = read_command(line)
    assert found.experiment["parallelism"].get("exchange") == exchange
    one = load_experiment({**found.experiment, "hardware": "h100-sxm"}).experiment
    written = str(command_of(one, "vllm").text)
    assert ("--all2all-backend deepep" in written) == (exchange != "all_gather")
    assert read_command(written).experiment["parallelism"] == found.experiment["parallelism"]


@pytest.mark.parametrize(
    ("more", "exchange", "dtype"),
    [
        ("--enable-dp-attention --deepep-mode normal", "deduplicated", "fp8_block"),
        ("--enable-dp-attention", None, "fp8_block"),
        ("", None, None),
    ],
)
def test_rows_are_dispatched_as_deepep_does(
    more: str, exchange: str | None, dtype: str | None
) -> None:
    """In blocks of 8 bits, as the checkpoint has them; nothing is where attention is sliced."""
    line = "python -m sglang.launch_server --model deepseek-ai/DeepSeek-V3 --tp 8"
    dp = "--dp 8 " if more else ""
    asked = read_command(f"{line} {dp}--moe-a2a-backend deepep {more}").experiment["parallelism"]
    assert (asked.get("exchange"), asked.get("dispatch_dtype")) == (exchange, dtype)


def test_vllm_rounds_what_deepep_dispatches() -> None:
    line = "vllm serve deepseek-ai/DeepSeek-V3 -dp 16 -dpl 8 -ep --all2all-backend deepep_"
    high, low = (
        read_command(f"{line}{kind}").experiment["parallelism"]
        for kind in ("high_throughput", "low_latency")
    )
    assert high == {**low, "exchange": "deduplicated"}
    assert low["dispatch_dtype"] == "fp8_block"


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
@pytest.mark.parametrize("gpus", [8, 16])
@pytest.mark.parametrize("exchange", [None, "deduplicated"])
def test_what_deepep_dispatches_is_written_as_it_is_read(
    engine: str, gpus: int, exchange: str | None
) -> None:
    asked = {"expert": gpus, "exchange": exchange, "dispatch_dtype": "fp8_block"}
    said = {"model": "deepseek-v3", "hardware": "dgx-h100", "software": engine}
    line = command_of(load_experiment({**said, "parallelism": asked}).experiment, engine)
    found = read_command(str(line.text)).experiment["parallelism"]
    assert (found.get("exchange"), found["dispatch_dtype"]) == (exchange, "fp8_block")
    assert not any("parallelism" in note for note in line.notes)


@pytest.mark.parametrize(
    ("engine", "asked", "told"),
    [
        ("trtllm", {"dense": "tensor", "exchange": "deduplicated"}, "exchange: deduplicated"),
        ("sglang", {"dispatch_dtype": "nvfp4"}, "dispatch_dtype 'nvfp4'"),
        ("vllm", {"dispatch_dtype": "nvfp4"}, "dispatch_dtype 'nvfp4'"),
        ("vllm", {}, "dispatch_dtype is left out: DeepEP dispatches rows in fp8_block"),
        ("sglang", {}, None),
        ("vllm", {"exchange": "all_gather"}, None),
    ],
)
def test_rows_that_a_line_dispatches_otherwise_are_told(
    engine: str, asked: dict[str, Any], told: str | None
) -> None:
    said = {"model": "deepseek-v3", "hardware": "dgx-h100", "software": engine}
    one = load_experiment({**said, "parallelism": {"expert": 8, **asked}}).experiment
    notes = [note for note in command_of(one, engine).notes if "parallelism" in note]
    assert len(notes) == (told is not None)
    assert told is None or told in notes[0]


def test_ranks_that_divide_nothing_are_told() -> None:
    line = "python -m sglang.launch_server --model-path openai/gpt-oss-120b --tp-size 8 --ep-size 3"
    found = read_command(f"{line} --max-running-requests 8")
    assert found.experiment["parallelism"]["experts"] == "tensor"
    assert "8 GPUs are no 3 groups" in warnings(found)


def test_the_line_of_two_nodes() -> None:
    """Eight GPUs of a node share attention: two data-parallel ranks, half of the requests each."""
    two = {"parallelism": {"expert": 16, "dense": "tensor"}, "execution": "eager"}
    workload = {"batching": refill(32), "prefill": {"chunk": 512}}
    one = experiment(**two, workload=workload)
    assert command_of(one, context_tokens=4096).text == (
        "vllm serve openai/gpt-oss-120b --tensor-parallel-size 8 --data-parallel-size 2"
        " --data-parallel-size-local 1 --enable-expert-parallel --max-model-len 4096"
        " --max-num-seqs 16 --max-num-batched-tokens 4096 --enforce-eager"
    )
    assert command_of(one, "sglang", 4096).text == (
        "python -m sglang.launch_server --model-path openai/gpt-oss-120b --tp-size 16 --ep-size 16"
        " --dp-size 2 --enable-dp-attention --nnodes 2 --context-length 4096"
        " --max-running-requests 32 --chunked-prefill-size 8192 --disable-cuda-graph"
    )


@pytest.mark.parametrize("options", ["-pp 2", "-pp 2 -tp 4 -ep"])
def test_layers_over_gpus_are_read(options: str) -> None:
    """Alone; beside GPUs that share layers those are read, and how many are left out is told."""
    found = read_command(f"vllm serve openai/gpt-oss-120b {options} --max-num-seqs 4")
    alone = "-tp" not in options
    assert found.experiment["parallelism"] == (
        {"pipeline": 2} if alone else {"expert": 4, "dense": "tensor"}
    )
    words = "servers overlap batches" if alone else "2 stages of 4 GPUs; read as 4 GPUs that"
    assert words in warnings(found)
    assert ("write all 8 as stages or" in warnings(found)) != alone


def test_layers_over_gpus_are_written() -> None:
    asked = experiment(parallelism={"pipeline": 4})
    found = {one: command_of(asked, one) for one in ("vllm", "sglang", "ktransformers")}
    for engine, words in (("vllm", "--pipeline-parallel-size 4"), ("sglang", "--pp-size 4")):
        text = found[engine].text
        assert text is not None
        assert f" {words} " in text
        assert any("servers overlap batches" in note for note in found[engine].notes)
    refused = found["ktransformers"]
    assert refused.text is None
    assert any("experts are beside one GPU; write 1" in note for note in refused.notes)


def test_nodes_of_sglang_are_those_of_all_stages() -> None:
    line = "python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp 8 --pp-size 2"
    found = read_command(f"{line} --nnodes 2")
    assert found.experiment["parallelism"]["expert"] == 8
    assert found.experiment["parallelism"]["nodes"] == 1
    assert any("2 stages of 8 GPUs" in note for note in found.notes)


def test_the_variable_of_vllms_exchange_is_read() -> None:
    line = "vllm serve Qwen/Qwen3-30B-A3B -dp 8 -ep"
    assert read_command(line).experiment["parallelism"]["exchange"] == "all_gather"
    found = read_command(f"VLLM_ALL2ALL_BACKEND=deepep_low_latency {line}")
    assert "exchange" not in found.experiment["parallelism"]
    assert not [note for note in found.notes if "in front" in note]
