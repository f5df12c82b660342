"""How a pasted text becomes commands: several lines, variables, shells, what editors change."""

from __future__ import annotations

import pytest

from moesim.experiment.engine_commands import ReadCommand, read_command

SERVER = "llama-server -m Qwen3-30B-A3B-Q4_K_M.gguf -ngl 99 -c 8192"


def warnings(found: ReadCommand) -> list[str]:
    return [note for note in found.notes if note.startswith("warning: ")]


@pytest.mark.parametrize(
    "behind",
    [
        "vllm bench serve --model openai/gpt-oss-20b --random-input-len 1000 --max-num-seqs 2",
        'curl http://localhost:8000/v1/completions -d \'{"model": "x",\n"max_tokens": 32}\'',
    ],
)
@pytest.mark.parametrize("between", ["\n", "\n\n", "; ", " &\n", "\n# then\n$ "])
def test_a_line_ends_a_command(behind: str, between: str) -> None:
    found = read_command(f"vllm serve openai/gpt-oss-20b --max-num-seqs 64{between}{behind}")
    assert found.experiment["workload"]["batching"]["batch_size"] == 64
    assert warnings(found) == []


@pytest.mark.parametrize("fold", [" \\\n", "\n  ", "\n", " ^\n"])
def test_options_on_lines_of_their_own_go_on(fold: str) -> None:
    text = fold.join(["  vllm serve openai/gpt-oss-20b", "  --max-num-seqs 64", "  -tp 2"])
    found = read_command(text)
    assert found.experiment["parallelism"]["expert"] == 2
    assert found.experiment["workload"]["batching"]["batch_size"] == 64


def test_an_object_may_go_over_several_lines() -> None:
    found = read_command('vllm serve openai/gpt-oss-20b -sc \'{\n"method": "mtp"\n}\' -tp 2')
    assert found.experiment["parallelism"]["expert"] == 2
    assert "{kind: mtp" in warnings(found)[0]


@pytest.mark.parametrize(
    "before",
    [
        "export CUDA_VISIBLE_DEVICES=0,1 && ",
        "export CUDA_VISIBLE_DEVICES=0,1; ",
        "export CUDA_VISIBLE_DEVICES=0,1\ncd llama.cpp\n",
        "CUDA_VISIBLE_DEVICES=0,1\n",
        '$env:CUDA_VISIBLE_DEVICES="0,1"; ',
        "set CUDA_VISIBLE_DEVICES=0,1\n",
        'CUDA_VISIBLE_DEVICES="0,1," ',
        "docker run --gpus '\"device=0,1\"' x ",
        "CUDA_VISIBLE_DEVICES=0,1 sudo ",
    ],
)
def test_variables_hold_for_the_commands_behind_them(before: str) -> None:
    assert read_command(before + SERVER).experiment["parallelism"] == {"pipeline": 2}


def test_a_variable_of_another_command_is_its_own() -> None:
    found = read_command(f"CUDA_VISIBLE_DEVICES=0,1 nvidia-smi\n{SERVER}")
    assert "parallelism" not in found.experiment


@pytest.mark.parametrize("front", ["bash -c", "docker run -e A=1 x:1 bash -lc", "sh -c"])
def test_a_line_for_a_shell_is_read(front: str) -> None:
    found = read_command(f'{front} "cd /app && vllm serve openai/gpt-oss-120b -tp 2"')
    assert found.experiment["model"] == "gpt-oss-120b"
    assert found.experiment["parallelism"]["expert"] == 2


def test_a_program_counts_before_an_image() -> None:
    line = "docker run --entrypoint bash vllm/vllm-openai -c 'vllm serve openai/gpt-oss-20b'"
    assert read_command(line).experiment["model"] == "gpt-oss-20b"


@pytest.mark.parametrize("dash", ["\u2013", "\u2014"])
def test_what_editors_make_of_two_hyphens_is_read(dash: str) -> None:
    found = read_command(f"{SERVER} {dash}n-cpu-moe 20 -ot \u201cblk.4=CUDA0\u201d")
    assert found.experiment["experts"] == {"on_cpu": {"layers": 20}}
    assert warnings(found) == []


def test_llama_cpp_takes_underscores() -> None:
    found = read_command(f"{SERVER} --n_cpu_moe 20 --top_p 0.95")
    assert found.experiment["experts"] == {"on_cpu": {"layers": 20}}
    assert warnings(found) == []


def test_options_of_llama_cpp_as_variables() -> None:
    line = """docker run -e LLAMA_ARG_MODEL=/m/Qwen3-30B-A3B-Q4_K_M.gguf -e LLAMA_ARG_CPU_MOE=1
      -e LLAMA_ARG_CTX_SIZE=32768 -e LLAMA_ARG_N_GPU_LAYERS=99 -e LLAMA_ARG_NO_MMAP=0
      ghcr.io/ggml-org/llama.cpp:server-cuda -c 8192"""
    found = read_command(line)
    assert found.experiment["model"] == "qwen3-30b-a3b@q4_k_m"
    assert found.experiment["experts"] == {"on_cpu": {"layers": 48}}
    assert found.experiment["software"] == "llama.cpp"  # mapped
    assert found.context_tokens == 8192


def test_commands_of_engines_that_are_not_read_are_counted() -> None:
    line = "vllm serve openai/gpt-oss-20b\nsleep 9\n"
    assert not [note for note in read_command(line).notes if "more command" in note]
    found = read_command(f"{line}vllm serve openai/gpt-oss-120b --headless\n{SERVER}")
    assert found.experiment["model"] == "gpt-oss-20b"
    assert "note: 2 more commands of an engine: not read; read each alone" in found.notes


IMAGE = "vllm/vllm-openai:latest --model openai/gpt-oss-20b"
FRONT = "what is set in front is not read"


@pytest.mark.parametrize(
    "front",
    [
        "docker run -it --rm --gpus all --ipc=host -v ~/.cache:/cache -p 8000:8000",
        "sudo docker run -d --network host -e HF_TOKEN=$HF_TOKEN --env HF_HUB_OFFLINE=1 -e HF_HOME",
        "podman run -p8000:8000 --device nvidia.com/gpu=all --shm-size=32g --ulimit memlock=-1",
        "HF_TOKEN=abc docker run --runtime nvidia --gpus '\"device=0\"' --name x",
        "docker run --mount type=bind,source=/a,target=/b -e NVIDIA_VISIBLE_DEVICES=all",
    ],
)
def test_a_container_that_changes_no_speed_is_not_told(front: str) -> None:
    found = read_command(f"{front} {IMAGE}")
    assert found.experiment["model"] == "gpt-oss-20b"
    assert warnings(found) == []


@pytest.mark.parametrize(
    "front",
    [
        "docker run --rm --cpuset-cpus 0-7 --gpus all",
        "docker run --gpus all -e VLLM_USE_V1=0",
        "docker run -e OMP_NUM_THREADS",
        "docker run --gpus 2",
        "docker run --env-file more.env",
        "numactl --cpunodebind=0 docker run --rm",
        "HF_TOKEN=abc VLLM_USE_V1=0 docker run --rm",
        "docker compose run",
    ],
)
def test_a_container_that_may_change_speed_is_told(front: str) -> None:
    told = warnings(read_command(f"{front} {IMAGE}"))
    assert [one for one in told if FRONT in one]


@pytest.mark.parametrize(
    ("before", "line"),
    [
        ("MODEL=openai/gpt-oss-20b\nexport TP=2\n", "vllm serve $MODEL -tp ${TP}"),
        ('ARGS="-tp 2 --max-num-seqs 64"; ', "vllm serve openai/gpt-oss-20b $ARGS"),
        ("A=openai && B=$A/gpt-oss-20b\n", 'vllm serve "$B" -tp 2'),
        ("$ export MODEL='openai/gpt-oss-20b'\n$ ", 'bash -c "vllm serve $MODEL -tp 2"'),
    ],
)
def test_variables_of_a_text_are_their_values(before: str, line: str) -> None:
    found = read_command(f"{before}{line}")
    assert found.experiment["model"] == "gpt-oss-20b"
    assert found.experiment["parallelism"]["expert"] == 2
    assert warnings(found) == []


def test_a_variable_that_a_program_looks_at_stays_in_front() -> None:
    before = "export CUDA_VISIBLE_DEVICES=0,1\necho $CUDA_VISIBLE_DEVICES\n"
    assert read_command(before + SERVER).experiment["parallelism"] == {"pipeline": 2}
    told = warnings(read_command(f"MODEL=$OTHER\n{SERVER} --host $MODELS --port $MODEL"))
    assert any("MODEL=$OTHER" in one and FRONT in one for one in told)
