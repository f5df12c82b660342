"""llama.cpp's command lines, read and written: lines of published runs, and laws of both ways."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moesim.config.errors import InputError
from moesim.experiment.engine_commands import ReadCommand, command_of, read_command
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.schema.experiment import Experiment
from moesim.model.chosen import GGML_CACHES
from moesim.model.loader import CARDS
from tests.gguf_files import Row, write

HIDDEN, INNER, COUNT, LAYERS = 256, 256, 8, 4
F16 = 1
EXPERTS_OF_5_ON = r"blk\.([5-9]|[1-3][0-9])\.ffn_.*_exps\.=CPU"


def experiment(**more: Any) -> Experiment:
    plain = {"model": "gpt-oss-20b", "hardware": "rtx-4090", "software": "llama.cpp"}
    return load_experiment({**plain, **more}).experiment


def write_gguf(path: Path) -> Path:
    """Four layers of eight experts each."""
    numbers = {
        "embedding_length": HIDDEN, "block_count": LAYERS, "expert_count": COUNT,
        "expert_used_count": 2, "attention.head_count": 4, "context_length": 2048,
    }  # fmt: skip
    metadata = {"general.architecture": "mine", **{f"mine.{k}": v for k, v in numbers.items()}}
    names = ("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps")
    shape, size = (HIDDEN, INNER, COUNT), HIDDEN * INNER * COUNT * 2
    rows: list[Row] = [
        (f"blk.{layer}.{name}.weight", shape, F16, size)
        for layer in range(LAYERS)
        for name in names
    ]
    rows += [(f"blk.{layer}.attn_q.weight", (HIDDEN, HIDDEN), F16, HIDDEN * HIDDEN * 2)
             for layer in range(LAYERS)]  # fmt: skip
    rows.append(("token_embd.weight", (HIDDEN, 320), F16, HIDDEN * 320 * 2))
    return write(path, metadata, rows)


def warnings(found: ReadCommand) -> str:
    return "\n".join(note for note in found.notes if note.startswith("warning: "))


PUBLISHED = [
    # line, engine, model, MoE layers on the CPU (the first, or which), words of its warnings
    ("llama-server -hf Qwen/Qwen3-30B-A3B-GGUF:Q4_K_M -ngl 999 -ncmoe 48 -fa on -c 4096 --no-mmap",
     "llama.cpp", "qwen3-30b-a3b@q4_k_m", 48, []),
    (f"./llama-server -m gpt-oss-120b-mxfp4.gguf -ngl 99 -ot '{EXPERTS_OF_5_ON}' -fa -c 32768",
     "llama.cpp", "gpt-oss-120b@mxfp4_moe", list(range(5, 36)), []),
    ("llama-server -m /models/gpt-oss-120b-F16.gguf --n-cpu-moe 25 -ub 4096 -fa on -t 8",
     "llama.cpp", "gpt-oss-120b", 25, []),
    ("llama-cli -m Qwen3-30B-A3B-Instruct-2507-Q4_K_M.gguf -ngl 99 --n-cpu-moe 36",
     "llama.cpp", "qwen3-30b-a3b-2507@q4_k_m", 36, []),
    ("llama-bench -m Qwen3-30B-A3B-UD-Q4_K_XL.gguf -ngl 99 --n-cpu-moe 99 -p 512 -n 128 -fa 1",
     "llama.cpp", "qwen3-30b-a3b@q4_k_m", 48, ["'ud-q4_k_xl' is its publisher's own mix"]),
    (("llama-sweep-bench -m Qwen3-30B-A3B-Q8_0.gguf -ngl 99 -ot exps=CPU -ser 6,1 -fmoe --no-mmap"
     " -t 16"), "ik_llama.cpp", "qwen3-30b-a3b@q8_0", 48, ["-ser 6,1", "-fmoe"]),
    (("./ik_llama.cpp/build/bin/llama-server -ngl 99 -ot exps=CPU -rtr -t 52 -m "
     "Qwen3-235B-A22B-UD-Q4_K_XL-00001-of-00003.gguf"),
     "ik_llama.cpp", "qwen3-235b-a22b@q4_k_m", 94, ["publisher's own mix"]),
    ("llama-server -m Qwen_Qwen3-30B-A3B-IQ4_XS.gguf -ngl 99 -ot exps=CPU",
     "llama.cpp", "qwen3-30b-a3b@iq4_xs", 48, []),
    (("docker run --gpus all -v /m:/m ghcr.io/ggml-org/llama.cpp:server-cuda -m "
     "/m/gpt-oss-20b-Q4_K_M.gguf -ngl 99"),
     "llama.cpp", "gpt-oss-20b@mxfp4_moe", 0, ["experts stay in mxfp4"]),
    (("cd llama.cpp && numactl -N 0 ./build/bin/llama-server -hf unsloth/gpt-oss-20b-GGUF:Q8_0 "
     "-ngl 99 -ncmoe 3 2>&1 | tee log"),
     "llama.cpp", "gpt-oss-20b@mxfp4_moe", 3, ["numactl -N 0"]),
    ("llama-server -hf ggml-org/gpt-oss-120b-GGUF -ngl 99 -ncmoe 27",
     "llama.cpp", "gpt-oss-120b@mxfp4_moe", 27, []),
    ("CUDA_VISIBLE_DEVICES=0 llama-server -m DeepSeek-V3-0324-Q4_K_M.gguf -ngl 99 -cmoe",
     "llama.cpp", "deepseek-v3@q4_k_m", 58, []),
    ("llama-server -m Qwen3-30B-A3B-Q4_K_M.gguf -ngl 99", "llama.cpp", "qwen3-30b-a3b@q4_k_m", 0,
     []),
]  # fmt: skip


PROMPTS = {"miss": {"kind": "cpu", "copies_from": "never"}}
"""On the CPU, too."""


@pytest.mark.parametrize(("line", "engine", "model", "layers", "told"), PUBLISHED)
def test_lines_of_published_runs(
    line: str, engine: str, model: str, layers: int | list[int], told: list[str]
) -> None:
    found = read_command(line)
    assert (found.engine, found.experiment["model"]) == (engine, model)
    experts = {"on_cpu": {"layers": layers}} if layers else {}
    assert found.experiment.get("experts", {}) == experts | (PROMPTS if "-rtr" in line else {})
    unmapped = "--no-mmap" in line or "-rtr" in line
    assert found.experiment["software"] == engine + "-no-mmap" * unmapped
    assert [words for words in told if words not in warnings(found)] == []
    assert bool(told) == bool(warnings(found)), warnings(found)


def test_the_line_of_a_server_is_read_key_by_key() -> None:
    line = r"""llama-server -m gpt-oss-120b-mxfp4.gguf -ngl 99 --n-cpu-moe 25 -c 16384 -ub 4096 \
      -b 4096 -fa on -t 8 -ctk q8_0 -np 4 -ts 1,1 --port 8080 --jinja --foo 3"""
    found = read_command(line)
    assert found.experiment == {
        "software": "llama.cpp",
        "model": "gpt-oss-120b@mxfp4_moe",
        "experts": {"on_cpu": {"layers": 25}},
        "workload": {
            "batching": {"kind": "refill", "batch_size": 4},
            "prefill": {"chunk": 4096},
        },
        "parallelism": {"pipeline": 2},
    }
    assert found.context_tokens == 4096  # of each of the four slots
    told = "-ctk q8_0: not modelled: keys and values have one format here (q8_0, q5_1, q5_0, q4_1"
    assert told in warnings(found)
    assert "-ts 1,1: not modelled: read as the layers on each GPU" in warnings(found)
    assert "--foo 3: not understood" in warnings(found)
    assert "note: nothing that moesim looks at: --port 8080, --jinja" in found.notes
    assert any("hardware.host.threads=8" in note for note in found.notes)


@pytest.mark.parametrize(
    ("options", "tokens"),
    [("-c 16384", 16384), ("-c 16384 -np 4", 4096), ("-c 16384 -np 4 -kvu", 16384),
     ("-c 0", 131072), ("", None)],
)  # fmt: skip
def test_the_context_is_that_of_one_slot(options: str, tokens: int | None) -> None:
    line = f"llama-server -m gpt-oss-20b-mxfp4.gguf -ngl 99 {options}"
    assert read_command(line).context_tokens == tokens


def test_blocks_are_counted_over_dense_layers_too() -> None:
    """DeepSeek-V3's first three layers of 61 are dense."""
    line = "llama-server -m DeepSeek-V3-Q4_K_M.gguf -ngl 99 -ncmoe {}"
    read = [read_command(line.format(count)).experiment.get("experts") for count in (3, 4, 10)]
    assert read == [None, {"on_cpu": {"layers": 1}}, {"on_cpu": {"layers": 7}}]
    one = experiment(model="deepseek-v3@q4_k_m", experts={"on_cpu": {"layers": 7}})
    assert "--n-cpu-moe 10 " in str(command_of(one, context_tokens=4096).text)
    all_of_them = experiment(model="deepseek-v3@q4_k_m", experts={"on_cpu": {"layers": 58}})
    assert " --cpu-moe " in str(command_of(all_of_them, context_tokens=4096).text)


@pytest.mark.parametrize(
    ("overrides", "layers", "told"),
    [
        (r"-ot 'blk\.[0-9]\.ffn_.*_exps=CPU'", 10, ""),
        (r"-ot 'blk\.[0-9]\.ffn_.*_exps=CPU' -ncmoe 12", 12, ""),
        (
            r"-ot 'blk\.[0-4]\..*exps=CUDA0,exps=CPU'",
            list(range(5, 36)),
            "",
        ),
        (r"-ot 'exps=CPU,blk\.[0-4]\..*exps=CUDA0'", 36, ""),
        (r"-ot 'ffn_(up|gate)_exps=CPU'", 36, "only parts of the experts of 36 layers"),
        (r"-ot 'ffn_up_exps=CPU'", 0, "only parts of the experts of 36 layers"),
        (r"-ot 'blk\.0\.=CPU'", 1, "what is on the CPU beside experts"),
        (r"-ot 'blk\.3[0-5]\..*exps=CUDA1'", 0, "experts on CUDA1"),
    ],
)
def test_the_first_override_that_is_found_wins(
    overrides: str, layers: int | list[int], told: str
) -> None:
    found = read_command(f"llama-server -m gpt-oss-120b-mxfp4.gguf -ngl 99 {overrides}")
    read = found.experiment.get("experts", {"on_cpu": {"layers": 0}})
    assert read == {"on_cpu": {"layers": layers}}
    assert told in warnings(found)
    assert bool(told) == bool(warnings(found))


def test_layers_that_are_not_on_the_gpu_run_on_the_cpu() -> None:
    """Of 24 layers and the output, -ngl 20 leaves the first five (24 + 1 - 20)."""
    line = "llama-server -m gpt-oss-20b-mxfp4.gguf -ngl {}"
    found = read_command(line.format(20))
    assert (found.experiment["host_layers"], warnings(found)) == (5, "")
    assert "experts" not in found.experiment
    again = command_of(experiment(**found.experiment), context_tokens=512)
    assert "-ngl 20 " in str(again.text)
    assert "host_layers" not in read_command(line.format(25)).experiment
    none = read_command(line.format(0))
    assert none.experiment["host_layers"] == 24
    assert "the output's product on the CPU" in warnings(none)


def test_a_file_that_is_here_is_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_gguf(tmp_path / "mine.gguf")
    found = read_command("llama-server -m mine.gguf -ngl 99 -cmoe")
    assert found.experiment["model"] == "mine.gguf"
    assert not warnings(found)


def test_a_model_that_nobody_knows_is_said_so() -> None:
    found = read_command("llama-server -m X.gguf -ngl 99 -ncmoe 9")
    assert found.experiment["experts"] == {"on_cpu": {"layers": 9}}
    assert "'X.gguf' is not here, and its name is of no card" in warnings(found)
    found = read_command("llama-server -m X.gguf -ngl 99 -ot exps=CPU")
    assert "experts" not in found.experiment
    assert "only the model's file says" in warnings(found)


@pytest.mark.parametrize(
    "line",
    [
        "llama-server \\\n  -m gpt-oss-20b-mxfp4.gguf \\\n  -ngl 99 -ncmoe 3",
        "$ llama-server -m gpt-oss-20b-mxfp4.gguf -ngl 99 -ncmoe 3 2>&1 | tee log",
        "# mine\nllama-server -m gpt-oss-20b-mxfp4.gguf -ngl 99 -ncmoe 3",
        "llama-server.exe ^\r\n -m C:\\models\\gpt-oss-20b-mxfp4.gguf -ngl 99 -ncmoe 3",
        "llama-server `\n -m 'D:\\gpt-oss-20b-mxfp4.gguf' -ngl 99 -ncmoe 3 && echo done",
    ],
)
def test_a_line_is_read_as_a_shell_has_it(line: str) -> None:
    found = read_command(line)
    assert found.experiment["model"] == "gpt-oss-20b@mxfp4_moe"
    assert found.experiment["experts"] == {"on_cpu": {"layers": 3}}
    assert not warnings(found)


def test_a_room_that_holds_all_experts_has_a_line() -> None:
    text = {"trace": "traces/quickstart.parquet", "experts": {"capacity": "auto"}}
    assert command_of(experiment(**text), context_tokens=512).text is not None
    small = experiment(**text | {"hardware": "rtx-4060-8gb"})
    assert command_of(small, context_tokens=512).text is None


def test_without_a_word_recent_releases_fit_a_model_by_themselves() -> None:
    assert "(--fit)" in warnings(read_command("llama-server -m gpt-oss-20b-mxfp4.gguf"))
    assert not warnings(read_command("llama-server -m gpt-oss-20b-mxfp4.gguf -ncmoe 3"))


def test_layers_anywhere_are_a_pattern() -> None:
    layers = {"on_cpu": {"layers": [3, 7, 20]}}
    found = command_of(experiment(experts=layers), context_tokens=512)
    assert r"-ot 'blk\.(3|7|20)\.ffn_.*_exps=CPU'" in str(found.text)
    assert read_command(str(found.text)).experiment["experts"] == layers
    pattern = {"on_cpu": {"pattern": r"blk[.]([0-4])[.]ffn_.*_exps"}}
    found = command_of(experiment(experts=pattern), context_tokens=512)
    assert " --n-cpu-moe 5 " in str(found.text)


BROKEN = [
    ("llama-server -m x\\", "the command line: ends with a backslash; leave it out"),
    ("llama-server -m 'x.gguf", "the command line: a quote is not closed; close it"),
    ("llama-server -m", "-m: has no value; write it behind the option"),
    ("llama-server -m -ngl 99", "-m: has no value; write it behind the option"),
    ("llama-server -m x.gguf -c 16k", "-c: '16k' is no whole number from 0 on; write one"),
    ("llama-server -m x.gguf -ncmoe 20,24", "-ncmoe: '20,24' is a list; write one number"),
    ("llama-server -m x.gguf -ot exps", "-ot: 'exps' has no buffer; write PATTERN=CPU"),
    ("llama-server -m x.gguf -ot 'blk.(1=CPU'", "-ot: 'blk.(1' is no regular expression"),
    (
        "llama-server -m x.gguf -ot '[[:digit:]].*exps=CPU'",
        "-ot: '[[:digit:]].*exps' is no regular",
    ),
    ("ollama serve", "ollama: is no program of an engine that moesim reads; it runs llama.cpp: "),
    (
        "python3 train.py --model x",
        (
            "train.py: is no program of an engine that moesim reads; allowed: llama-server, "
            "python -m sglang.launch_server, trtllm-serve, vllm serve; options alone"
        ),
    ),
    ("./llama-run x.gguf", "llama-run: is no program of an engine that moesim reads; allowed: "),
    ("mlx_lm.server --model x", "mlx_lm.server: runs MLX, whose kernels moesim has no prices of"),
    ("python -m mlx_lm generate --model x", "mlx_lm: runs MLX, whose kernels moesim has no"),
    ("genai-perf profile -m x", "genai-perf: sends requests to a server, of which it says nothing"),
    ("vllm bench serve --model x", "vllm bench serve: sends requests to a server, of which it"),
    ("python3 -m sglang.bench_serving --num-prompts 9", "sglang.bench_serving: sends requests"),
    ("A=1 lmdeploy serve api_server x", "lmdeploy: runs an engine whose kernels moesim has no"),
    ("", "the command line is empty"),
]


@pytest.mark.parametrize(("line", "told"), BROKEN)
def test_a_broken_line_gets_one_clear_error(line: str, told: str) -> None:
    with pytest.raises(InputError) as caught:
        read_command(line)
    (problem,) = caught.value.problems
    assert str(problem).startswith(told)


def test_an_unknown_engine_is_an_error() -> None:
    with pytest.raises(InputError, match=r"--engine: 'llamacpp' is not known; .*llama\.cpp"):
        read_command("llama-server", "llamacpp")
    with pytest.raises(InputError, match="software 'ideal' is of no engine"):
        command_of(experiment(software="ideal"))


def test_options_alone_are_read_where_the_engine_is_named() -> None:
    found = read_command("-m gpt-oss-20b-mxfp4.gguf -ngl 99 -ncmoe 9", "llama.cpp")
    assert found.experiment["experts"] == {"on_cpu": {"layers": 9}}


def test_the_line_of_an_experiment() -> None:
    more = {
        "workload": {"batching": {"kind": "refill", "batch_size": 4}, "prefill": {"chunk": 4096}}
    }
    one = experiment(model="gpt-oss-20b@mxfp4_moe", experts={"on_cpu": {"layers": 14}}, **more)
    found = command_of(one, context_tokens=4096)
    assert found.text == (
        "llama-server -m gpt-oss-20b-mxfp4_moe.gguf -ngl 99 --n-cpu-moe 14 -c 16384 -np 4"
        " -b 4096 -ub 4096 -fa on"
    )
    assert any("stands for your GGUF file of gpt-oss-20b, in mxfp4_moe" in n for n in found.notes)


def test_a_config_s_ending_is_no_part_of_the_file_s_name(tmp_path: Path) -> None:
    config = tmp_path / "mine.json"
    config.write_text((CARDS / "gpt-oss-20b.json").read_text())
    line = command_of(experiment(model=f"{config}@q8_0", trace="stand-in:gpt-oss-20b")).text
    assert line is not None
    assert line.startswith("llama-server -m mine-q8_0.gguf ")


def test_the_words_of_a_line_are_quoted(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "my $model.gguf")
    found = command_of(experiment(model=str(path)), context_tokens=512)
    assert shlex.split(str(found.text))[2] == str(path)


def test_the_context_of_a_line_is_that_of_the_trace() -> None:
    """The shipped trace's longest request; two slots need twice as much."""
    quick = {"trace": "traces/quickstart.parquet"}
    two = {"batching": {"kind": "refill", "batch_size": 2}}
    one = command_of(experiment(**quick))
    both = command_of(experiment(**quick, workload=two))
    tokens = [int(shlex.split(str(found.text))[6]) for found in (one, both)]
    assert tokens[1] == 2 * tokens[0]
    assert any(f"context: {tokens[0]} tokens a request" in note for note in one.notes)


@pytest.mark.parametrize(("context", "warned"), [(None, True), (96, False), (16384, False)])
def test_a_trace_that_is_cut_short_gives_no_context_to_use(
    context: int | None, warned: bool
) -> None:
    """'-c 96' stood there as if a server could be started with it; asked for, it is the user's."""
    one = command_of(experiment(model="qwen3-30b-a3b@q4_k_m"), context_tokens=context)
    told = [note for note in one.notes if note.startswith("warning: context: ")]
    assert bool(told) == warned
    assert all("too few to use; ask for yours, as --context 16k" in note for note in told)


@pytest.mark.parametrize(
    ("words", "software"),
    [
        ("", "llama.cpp"),
        ("--no-mmap", "llama.cpp-no-mmap"),
        ("-mmp 0", "llama.cpp-no-mmap"),
        ("-mmp 1", "llama.cpp"),
        ("-lm none", "llama.cpp-no-mmap"),
        ("--load-mode mmap", "llama.cpp"),
    ],
)
def test_where_weights_on_the_cpu_lie_is_read_and_written(words: str, software: str) -> None:
    found = read_command(f"llama-server -m Qwen3-30B-A3B-Q4_K_M.gguf -ngl 99 -ncmoe 48 {words}")
    assert (found.experiment["software"], warnings(found)) == (software, "")
    again = str(command_of(experiment(**found.experiment)).text)
    assert ("-lm none" in again) == (software == "llama.cpp-no-mmap")


def test_a_mode_that_is_none_is_told() -> None:
    found = read_command("llama-server -m Qwen3-30B-A3B-Q4_K_M.gguf -ngl 99 -lm fast")
    assert "-lm fast: not read: no such mode; mapped, as by default" in warnings(found)


def test_prompts_that_the_cpu_computes_are_read_and_written() -> None:
    line = "llama-server -m Qwen3-30B-A3B-Q4_K_M.gguf -ngl 99 -ncmoe 48 --no-op-offload"
    found = read_command(line)
    assert found.experiment["experts"]["miss"] == {"kind": "cpu", "copies_from": "never"}
    assert "--no-op-offload" in str(command_of(experiment(**found.experiment)).text)
    found.experiment["experts"]["miss"]["copies_from"] = 64
    other = command_of(experiment(**found.experiment))
    assert "--no-op-offload" not in str(other.text)
    assert any("GGML_OP_OFFLOAD_MIN_BATCH=64" in note for note in other.notes)


def test_an_expert_cache_is_read_and_written() -> None:
    """Pull request 27861: the CPU computes misses, and copies in the background fill the slots."""
    line = "llama-server -m Qwen3-30B-A3B-Q4_K_M.gguf -ngl 99 -ncmoe 48 --moe-expert-cache 72"
    found = read_command(line)
    cached = {"capacity": "72 slots/layer", "miss": {"kind": "background"}}
    assert (found.experiment["experts"], warnings(found)) == (cached, "")
    assert found.experiment["software"] == "llama.cpp-cache"
    again = command_of(experiment(**found.experiment), context_tokens=4096)
    assert again.text is not None
    assert "--cpu-moe --moe-expert-cache 72" in again.text
    assert any("in no release" in note for note in again.notes)
    beside = read_command(line.replace("48", "12"))
    assert "slots beside layers that are whole on the GPU are not modelled" in warnings(beside)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"experts": {"capacity": "8 slots/layer"}}, "no release of llama.cpp keeps"),
        ({"experts": {"capacity": "8 slots/layer", "miss": {"kind": "cpu"}}}, "--moe-expert-cache"),
        ({"hardware": "dgx-h100", "parallelism": {"expert": 2}}, "splits layers over GPUs"),
        ({"gating": {"kind": "static"}}, "neither pads nor drops"),
    ],
)
def test_what_llama_cpp_cannot_run_has_no_line(more: dict[str, Any], told: str) -> None:
    found = command_of(experiment(**more), context_tokens=512)
    assert found.text is None
    assert told in "\n".join(found.notes)


@settings(max_examples=40, deadline=None)
@given(
    engine=st.sampled_from(["llama.cpp", "ik_llama.cpp"]),
    model=st.sampled_from(["gpt-oss-20b@mxfp4_moe", "qwen3-30b-a3b@q4_k_m", "deepseek-v3@q8_0",
                           "glm-4.7-flash"]),
    layers=st.integers(0, 24) | st.lists(st.integers(5, 23), min_size=1, unique=True).map(sorted),
    context=st.integers(1, 1 << 20),
    parallel=st.integers(1, 64),
    chunk=st.integers(1, 8192),
    host=st.integers(0, 3),
    prompts=st.booleans(),
    cache=st.sampled_from(["", *GGML_CACHES]),
)  # fmt: skip
def test_a_line_that_is_written_reads_as_the_same_experiment(
    engine: str, model: str, layers: int | list[int], context: int, parallel: int, chunk: int,
    host: int, *, prompts: bool, cache: str,
) -> None:  # fmt: skip
    workload = {
        "batching": {"kind": "refill", "batch_size": parallel},
        "prefill": {"chunk": chunk},
    }
    if cache:
        model = f"{model}{',' if '@' in model else '@'}kv_cache={cache}"
    software = engine + "-no-mmap" * prompts
    said: dict[str, Any] = {"model": model, "software": software, "workload": workload}
    experts = {"on_cpu": {"layers": layers}} | (PROMPTS if prompts else {})
    said |= {"experts": experts} if layers else {}
    said |= {"host_layers": host} if host else {}
    written = command_of(experiment(**said), engine, context)
    found = read_command(str(written.text), engine)
    assert found.experiment == said
    assert found.context_tokens == context
    assert not warnings(found)


@pytest.mark.parametrize(
    ("options", "gpus", "told"),
    [
        ("-ts 1,1", 2, []),
        ("-ts 12/13 -sm layer", 2, []),
        ("-ts 0,1,1,1", 3, []),
        ("-dev CUDA0,CUDA1", 2, []),
        ("-ts 3,1", 2, ["-ts 3,1: not modelled: read as the layers on each GPU"]),
        ("-ts 1,1 -sm none", 1, []),
        ("-ts 1,1 -sm row", 2, ["-sm row: not modelled: parts of each layer on every GPU"]),
        ("-ts 1", 1, []),
        ("-dev none", 1, ["-dev none: not modelled: the output's product on the CPU"]),
        ("-ngl 20 -ts 1,1", 1, ["-ts 1,1: not modelled: 2 GPUs beside layers on the CPU (-ngl)"]),
    ],
)
def test_layers_over_gpus(options: str, gpus: int, told: list[str]) -> None:
    """gpt-oss-20b has 24 layers, which count as 25 with the output."""
    found = read_command(f"llama-server -m gpt-oss-20b-mxfp4.gguf -ngl 99 -c 4096 {options}")
    assert found.experiment.get("parallelism", {}) == ({"pipeline": gpus} if gpus > 1 else {})
    assert [words for words in told if words not in warnings(found)] == []
    assert bool(told) == bool(warnings(found)), warnings(found)
    assert any("llama.cpp overlaps parts of a prompt" in note for note in found.notes) is (gpus > 1)


@pytest.mark.parametrize(
    ("options", "host", "copies"),
    [
        ("-dev none", 24, False),
        ("-ngl 0 --no-op-offload", 24, False),
        ("-ngl 5 --no-op-offload", 20, False),
        ("-ngl 5", 20, True),
    ],
)
def test_the_cpu_computes_prompts_where_nothing_copies_them(
    options: str, host: int, copies: bool
) -> None:
    found = read_command(f"llama-server -m gpt-oss-20b-mxfp4.gguf -c 4096 {options}").experiment
    never = {"kind": "cpu", "copies_from": "never"}
    assert found["host_layers"] == host
    assert found.get("experts", {}).get("miss") == (None if copies else never)
    written = str(command_of(experiment(**found), "llama.cpp").text)
    assert ("--no-op-offload" in written or "-dev none" in written) is not copies


@pytest.mark.parametrize(
    ("line", "software"),
    [
        ("llama-server {} -dev none", "llama.cpp-cpu"),
        ("llama-server {} -dev none -nr", "llama.cpp"),
        ("llama-server {} -ngl 0 -nr", "llama.cpp"),
        ("./ik_llama.cpp/build/bin/llama-server {} -dev none", "ik_llama.cpp"),
    ],
)
def test_weights_are_interleaved_where_there_is_no_gpu(line: str, software: str) -> None:
    found = read_command(line.format("-m gpt-oss-20b-mxfp4.gguf -c 4096"))
    assert found.experiment["software"] == software
    written = command_of(experiment(**found.experiment), found.engine)
    assert ("-dev none" in str(written.text)) == (software == "llama.cpp-cpu")
    assert "no-repack" not in warnings(found)


def test_a_profile_without_a_gpu_is_for_all_layers() -> None:
    one = command_of(experiment(software="llama.cpp-cpu", host_layers=3), "llama.cpp")
    assert one.text is None
    assert "it is of machines without a GPU, and host_layers leaves it some" in one.notes[0]


def test_shares_that_are_none_are_refused() -> None:
    for shares in ("1,x", "0,0", "-1,1", "inf,1", ","):
        with pytest.raises(InputError, match="has no share of each GPU; write 1,1"):
            read_command(f"llama-server -m gpt-oss-20b-mxfp4.gguf -ngl 99 -ts {shares}")


@pytest.mark.parametrize(("layers", "shares"), [(0, "12,13"), (12, "17,8")])
def test_written_shares_are_the_layers_of_each_gpu(layers: int, shares: str) -> None:
    """With the output as one more of the last; read again, they are as moesim divides."""
    asked = experiment(parallelism={"pipeline": 2}, experts={"on_cpu": {"layers": layers}})
    written = command_of(asked, "llama.cpp")
    assert written.text is not None
    assert f"-sm layer -ts {shares} " in written.text
    found = read_command(written.text)
    assert found.experiment["parallelism"] == {"pipeline": 2}
    assert not warnings(found)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ("-c 16384 -np 999999", "-np: 999999 slots share the 16384 tokens of -c, not one each"),
        ("-np 999999999999999", "-np: a number of 15 digits is too large"),
    ],
)
def test_more_slots_than_there_can_be(options: str, what: str) -> None:
    with pytest.raises(InputError, match=what):
        read_command(f"llama-server -m gpt-oss-20b.gguf -ngl 99 -ncmoe 14 {options}")


def test_a_measurement_behind_a_depth_is_at_that_context() -> None:
    line = "llama-bench -m gpt-oss-20b-mxfp4.gguf -ngl 99 -p 0"
    assert read_command(f"{line} -n 64 -d 16384").context_tokens == 16448
    assert read_command(f"{line} -d 4096").context_tokens == 4224
    assert read_command(f"{line} -n 64").context_tokens is None


def test_the_line_of_a_profile_has_what_its_times_rest_on() -> None:
    """Interleaved rows are an option, and the fork's times are not of another engine."""
    layers = {"experts": {"on_cpu": {"layers": 10}}}
    for software, repacked in (("ik_llama.cpp", 0), ("ik_llama.cpp@2025-05", 1)):
        written = command_of(experiment(software=software, **layers), context_tokens=512)
        assert str(written.text).split().count("-rtr") == repacked
        assert not [note for note in written.notes if "its times are those of" in note]
    other = command_of(experiment(software="llama.cpp", **layers), "ik_llama.cpp", 512)
    assert any("of software 'llama.cpp', not of ik_llama.cpp" in note for note in other.notes)


@pytest.mark.parametrize(
    ("front", "options", "stages"),
    [
        ("CUDA_VISIBLE_DEVICES=0,1", "", 2),
        ("HIP_VISIBLE_DEVICES=0,1,2,3", "-ts 1,1", 2),
        ("CUDA_VISIBLE_DEVICES=0,1", "-sm none", 1),
        ("CUDA_VISIBLE_DEVICES=3", "", 1),
        ("CUDA_VISIBLE_DEVICES=0,1", "-ngl 20", 1),
    ],
)
def test_layers_are_split_over_the_gpus_that_a_program_sees(
    front: str, options: str, stages: int
) -> None:
    line = f"{front} ./llama-server -m gpt-oss-120b-mxfp4.gguf {options or '-ngl 99 -ncmoe 20'}"
    found = read_command(line)
    assert found.experiment.get("parallelism", {}).get("pipeline", 1) == stages
    assert "set in front" not in warnings(found)
    assert ("2 GPUs beside layers on the CPU" in warnings(found)) is ("-ngl 20" in options)


def test_what_else_stands_in_front_is_told() -> None:
    line = "CUDA_VISIBLE_DEVICES=0 GGML_OP_OFFLOAD_MIN_BATCH=1 llama-cli -m gpt-oss-20b-mxfp4.gguf"
    assert "what is set in front is not read" in warnings(read_command(line))


@pytest.mark.parametrize("buffer", ["CUDA_Host", "Vulkan_Host", "CPU_REPACK", "CPU"])
def test_buffers_in_host_memory_are_the_cpus(buffer: str) -> None:
    found = read_command(f"llama-server -m Qwen3-30B-A3B-Q4_K_M.gguf -ngl 99 -ot exps={buffer}")
    assert found.experiment["experts"] == {"on_cpu": {"layers": 48}}
    assert warnings(found) == ""


def test_the_format_of_keys_is_that_of_latents() -> None:
    """A cache of latents has no values beside them."""
    line = "llama-cli -m DeepSeek-R1-Q4_K_M.gguf -ngl 99 -cmoe -ctk q4_0"
    assert read_command(line).experiment["model"] == "deepseek-r1@q4_k_m,kv_cache=q4_0"
    assert warnings(read_command(line)) == ""
    values = read_command(line.replace("-ctk", "-ctv"))
    assert values.experiment["model"] == "deepseek-r1@q4_k_m"


def test_threads_that_llama_cpp_chooses_are_no_number() -> None:
    notes = read_command("llama-cli -m gpt-oss-20b-mxfp4.gguf -ngl 99 -t -1").notes
    assert not [note for note in notes if "threads" in note]


@pytest.mark.parametrize(
    ("name", "model"),
    [("qwen3:30b-a3b", "qwen3-30b-a3b@q4_k_m"), ("gpt-oss:20b", "gpt-oss-20b@mxfp4_moe"),
     ("hf.co/unsloth/Qwen3-30B-A3B-GGUF:Q8_0", "qwen3-30b-a3b@q8_0")],
)  # fmt: skip
def test_what_ollama_runs_is_llama_cpp(name: str, model: str) -> None:
    found = read_command(f"ollama run {name} 'why is the sky blue?' --verbose")
    assert (found.engine, found.experiment["model"]) == ("llama.cpp", model)
    told = warnings(found).splitlines()
    assert [note for note in told if "ollama: all layers are read as on the GPU" in note] == told
    served = read_command(f"llama-server -m {name} -ngl 99")  # names of its library are known
    assert "hf.co" in name or served.experiment["model"] == model


def test_a_pattern_that_finds_no_tensor_is_told() -> None:
    line = "llama-server -m DeepSeek-V3-Q4_K_M.gguf -ngl 99 -ncmoe 10 -ot"
    found = warnings(read_command(f"{line} 'ffn_exp=CPU,token_embd=CPU,blk.4=CUDA0'"))
    assert found.startswith("warning: -ot ffn_exp: finds no tensor, and moves none")
    assert found.count("finds no tensor") == 1
    assert "finds no tensor" not in warnings(read_command(f"{line} exps=CPU"))


@pytest.mark.parametrize(
    ("front", "options", "gpus"),
    [
        ("", "-ot blk.4.*exps=CUDA1,exps=CPU", 2),
        ("", "-ot blk.4.*exps=CUDA0 -ot exps=CPU", 1),
        ("CUDA_VISIBLE_DEVICES=0,1,2 ", "-ot blk.4.*exps=CUDA1,exps=CPU", 3),
    ],
)
def test_gpus_that_overrides_name_are_there(front: str, options: str, gpus: int) -> None:
    line = f"{front}llama-server -m Qwen3-235B-A22B-mix-IQ4_XS.gguf -ngl 99 {options}"
    found = read_command(line).experiment
    assert found["model"] == "qwen3-235b-a22b@iq4_xs"
    assert found.get("parallelism", {}).get("pipeline", 1) == gpus
