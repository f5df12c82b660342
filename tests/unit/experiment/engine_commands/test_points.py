"""Lines that ask for several runs are one experiment with its points as a sweep."""

from __future__ import annotations

from typing import Any

import pytest

from moesim.config.errors import InputError
from moesim.experiment.engine_commands import read_command
from moesim.experiment.engine_commands.file import with_settings
from moesim.experiment.loading.resolve import load_experiment

OSS, QWEN = "-m gpt-oss-20b-mxfp4.gguf", "-m Qwen3-30B-A3B-Q4_K_M.gguf"
LAYERS, CONTEXT = "experts.on_cpu.layers", "workload.context"


def sweep_of(options: str) -> dict[str, list[Any]]:
    found = read_command(f"llama-bench {options}")
    experiment = with_settings(found, {"gpu": "rtx-3090"})
    assert load_experiment(experiment).experiment.sweep == experiment.get("sweep")
    axes: dict[str, list[Any]] = experiment.get("sweep", {})
    assert any("'moesim sweep' runs all" in note for note in found.notes) is bool(axes)
    return axes


@pytest.mark.parametrize(
    ("options", "axes"),
    [
        (f"{OSS} -ngl 99 -ncmoe 10,12", {LAYERS: [10, 12]}),
        (f"{OSS} -ngl 99 -ncmoe 10 -ncmoe 12", {LAYERS: [10, 12]}),
        (f"{OSS} -ngl 99 -ncmoe 0-4+2", {LAYERS: [0, 2, 4]}),
        (f"{QWEN} -ngl 20,99", {"host_layers": [29, 0]}),
        (f"{OSS} -ub 256-1024*2", {"workload.prefill.chunk": [256, 512, 1024]}),
        (f"{OSS} -p 512 -n 128 -d 0,4096", {CONTEXT: [128, 4224]}),
        (f"{OSS} -ncmoe 10,12 -d 0,4096", {LAYERS: [10, 12], CONTEXT: [128, 4224]}),
        (f"{QWEN} -mmp 0,1", {"software": ["llama.cpp-no-mmap", "llama.cpp"]}),
        (f"{QWEN} -dev CUDA0,CUDA0/CUDA1", {"parallelism.pipeline": [1, 2]}),
        (f"{QWEN} -ngl 99 -ot exps=CPU,blk=CUDA0", {LAYERS: [48, 0]}),
        (
            "-m DeepSeek-V3-Q4_K_M.gguf,gpt-oss-20b-mxfp4.gguf -ngl 99 -ncmoe 10",
            {
                f"model, {LAYERS}": [["deepseek-v3@q4_k_m", 7], ["gpt-oss-20b@mxfp4_moe", 10]],
            },
        ),
        (f"{QWEN} -p 512,2048 -n 32,128 -t 4,8 -fa 0,1 -ts 1/1", {}),
    ],
)
def test_lists_of_llama_bench_are_axes(options: str, axes: dict[str, list[Any]]) -> None:
    assert sweep_of(options) == axes


def test_patterns_of_one_run_stand_between_semicolons() -> None:
    found = read_command(rf"llama-bench {QWEN} -ngl 99 -ot 'blk\.[01]\.=CUDA0;exps=CPU'")
    assert found.experiment["experts"]["on_cpu"]["layers"] == list(range(2, 48))
    assert "sweep" not in found.experiment


def test_each_point_takes_its_own_trace() -> None:
    line = f"llama-bench {OSS} {QWEN}"
    assert "trace" not in with_settings(read_command(line), {"gpu": "rtx-3090"})


def test_prompts_of_experts_on_the_cpu_by_a_number() -> None:
    def miss(options: str) -> Any:
        line = f"llama-bench {QWEN} -ngl 99 -ncmoe 9 {options}"
        return read_command(line).experiment["experts"].get("miss")

    assert (miss("-nopo 0"), miss("")) == (None, None)
    assert miss("-nopo 1") == {"kind": "cpu", "copies_from": "never"}


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ("-ngl 99-20", "-ngl: '99-20' is no whole number"),
        ("-ncmoe 10,many", "-ncmoe: 'many' is no whole number"),
        ("-ngl 0-9999", "the command line: 1001 combinations of its lists; write at most 1000"),
        ("-ngl 0-48*2", "write at most 1000"),
    ],
)
def test_lists_that_are_none(options: str, what: str) -> None:
    with pytest.raises(InputError) as raised:
        read_command(f"llama-bench {QWEN} {options}")
    assert what in str(raised.value)


def test_lists_are_of_llama_bench_alone() -> None:
    with pytest.raises(InputError, match="-ncmoe: '10,12' is a list; write one number of it"):
        read_command(f"llama-server {OSS} -ncmoe 10,12")


SGLANG = "python3 -m sglang.bench_one_batch --model-path Qwen/Qwen3-30B-A3B --tp 1"


@pytest.mark.parametrize(
    ("line", "axes"),
    [
        (
            f"llama-batched-bench {QWEN} -ngl 99 -npp 512,1024 -ntg 128 -npl 1,8",
            {CONTEXT: [640, 1152], "workload.batching.batch_size": [1, 8]},
        ),
        (
            f"{SGLANG} --batch-size 1 16 --input-len 256 --output-len 32",
            {"workload.batching.batch_size": [1, 16]},
        ),
        (f"{SGLANG} --batch 4 --input-len 256 512", {CONTEXT: [272, 528]}),
    ],
)
def test_lists_of_other_benchmarks_are_axes(line: str, axes: dict[str, list[Any]]) -> None:
    found = read_command(line).experiment
    assert found["sweep"] == axes
    assert found["workload"]["batching"]["kind"] == "static"


def test_the_benchmark_of_tensorrt_llm_is_read() -> None:
    line = "trtllm-bench --model deepseek-ai/DeepSeek-R1 throughput --dataset d.txt --tp 8 --ep 8"
    found = read_command(f"{line} --model_path nvidia/DeepSeek-R1-FP4 --concurrency 32")
    assert found.experiment["model"] == "deepseek-r1@nvfp4"
    assert found.experiment["parallelism"]["expert"] == 8
    assert found.experiment["workload"]["batching"] == {"kind": "refill", "batch_size": 32}
    assert not [note for note in found.notes if note.startswith("warning: ")]
    plain = read_command(f"{line} --model_path /data/engine --max_batch_size 8 --concurrency -1")
    assert plain.experiment["model"] == "deepseek-r1"
    assert plain.experiment["workload"]["batching"]["batch_size"] == 8
