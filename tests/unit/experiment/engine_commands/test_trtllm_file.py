"""TensorRT-LLM's file of options: written before the line, or here."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from moesim.config.errors import InputError
from moesim.experiment.engine_commands import ReadCommand, read_command
from moesim.experiment.engine_commands.trtllm import OPTIONS
from moesim.experiment.engine_commands.trtllm_file import _LINE, KEYS, ROWS
from moesim.experiment.engine_commands.words import Effect
from moesim.experiment.loading.resolve import load_experiment

LINE = "trtllm-serve openai/gpt-oss-120b --host 0.0.0.0 --max_batch_size 16"
WIDE = "enable_attention_dp: true\n"


def read(text: str, options: str = "", model: str = "", **more: Any) -> ReadCommand:
    """A line behind a heredoc of its file."""
    line = LINE.replace("openai/gpt-oss-120b", model) if model else LINE
    command = f"{line} {options} --extra_llm_api_options more.yml"
    return read_command(f"cat > more.yml <<EOF\n{text}EOF\n{command}\n", **more)


def warnings(found: ReadCommand) -> str:
    return "\n".join(note for note in found.notes if note.startswith("warning: "))


PAGE = """enable_attention_dp: true
cuda_graph_config:
  enable_padding: true
  max_batch_size: 512
moe_config:
  backend: CUTLASS
kv_cache_config:
  dtype: fp8
  free_gpu_memory_fraction: 0.9
  enable_block_reuse: false
stream_interval: 20
"""


def test_a_file_of_the_documentation() -> None:
    found = read(PAGE, "--tp_size 8 --ep_size 8 --max_num_tokens 4096", "deepseek-ai/DeepSeek-R1")
    assert found.experiment == {
        "software": "trtllm",
        "model": "deepseek-r1@kv_cache=fp8",
        "decide": "device",
        "parallelism": {"expert": 8, "dense": "data", "exchange": "deduplicated"},
        "workload": {"batching": {"kind": "refill", "batch_size": 128}, "prefill": {"chunk": 4096}},
    }
    told = warnings(found).splitlines()
    assert [one.split()[1] for one in told] == [
        "moe_config.backend", "kv_cache_config.free_gpu_memory_fraction",
    ]  # fmt: skip
    assert "cuda_graph_config.max_batch_size 512" in "".join(found.notes)
    load_experiment({**found.experiment, "hardware": "dgx-h200"})


@pytest.mark.parametrize(
    ("before", "name"),
    [
        ("cat > more.yml <<EOF", "more.yml"),
        ("cat >./more.yml<<EOF", "more.yml"),
        ("cat << 'EOF' > more.yml", "./more.yml"),
        ('$ cat <<-"EOF" > /data/more.yml', "/data/more.yml"),
        ("sudo tee more.yml <<EOF", "more.yml"),
        ("tee -a more.yml >/dev/null <<EOF", "more.yml"),
        ("cat <<EOF | tee more.yml", "more.yml"),
        ('cat > "${FILE}" <<EOF', "$FILE"),
        ("mkdir -p x && cat > x/more.yml <<EOF", "/container/more.yml"),
    ],
)
@pytest.mark.parametrize("option", ["--config", "--extra_llm_api_options", "--config="])
def test_how_a_file_is_written(before: str, name: str, option: str) -> None:
    option = option if option.endswith("=") else f"{option} "
    found = read_command(f"{before}\n{WIDE}EOF\n{LINE} --tp_size 4 {option}{name}")
    assert found.experiment["parallelism"]["dense"] == "data"
    assert not warnings(found)


def test_a_file_within_a_line_for_a_shell() -> None:
    text = f'docker run x bash -c "cat > a.yml <<EOF\n{WIDE}EOF\n{LINE} --tp_size 4 --config a.yml"'
    assert read_command(text).experiment["parallelism"]["dense"] == "data"


def test_what_is_appended_belongs_to_the_file() -> None:
    more = "cat >> more.yml <<EOF\nkv_cache_config: {dtype: fp8}\nEOF\n"
    line = f"{LINE} --tp_size 4 \\\n --config more.yml"
    found = read_command(f"cat > more.yml <<EOF\n{WIDE}EOF\n{more}{line}")
    assert found.experiment["parallelism"]["dense"] == "data"
    assert found.experiment["model"] == "gpt-oss-120b@kv_cache=fp8"


def test_a_script_that_is_written_is_read_as_its_commands() -> None:
    found = read_command("cat > run.sh <<EOF\nvllm serve openai/gpt-oss-20b\nEOF\nbash run.sh")
    assert found.experiment["model"] == "gpt-oss-20b"


def test_a_file_that_is_here(tmp_path: Path) -> None:
    path = tmp_path / "more.yml"
    path.write_text("moe_expert_parallel_size: 4\ntensor_parallel_size: 4\n")
    found = read_command(f"{LINE} --config {path}")
    assert found.experiment["parallelism"] == {"expert": 4, "dense": "tensor"}
    named = read_command(f"{LINE} --config more.yml", folders=[tmp_path])
    assert named.experiment == found.experiment
    missing = warnings(read_command(f"{LINE} --config more.yml"))
    assert "not here: attention DP, CUDA graphs, EPLB and drafts" in missing


def test_the_benchmark_reads_it_too() -> None:
    line = "trtllm-bench --model openai/gpt-oss-120b throughput --dataset d --tp 8 --ep 8"
    text = f"cat > a.yml <<EOF\n{WIDE}EOF\n{line} --concurrency 64 --extra_llm_api_options a.yml"
    found = read_command(text).experiment
    assert found["workload"]["batching"]["batch_size"] == 64
    assert found["parallelism"]["dense"] == "data"


@pytest.mark.parametrize(
    ("model", "dtype"),
    [
        ("nvidia/DeepSeek-R1-FP4", "nvfp4"),
        ("nvidia/Qwen3-30B-A3B-FP8", "fp8"),
        ("deepseek-ai/DeepSeek-R1", None),  # blocks of fp8 are rounded behind the dispatch
        ("openai/gpt-oss-120b", None),
    ],
)
def test_tokens_are_sent_as_experts_take_them(model: str, dtype: str | None) -> None:
    found = read(WIDE, "--tp_size 8 --ep_size 8", model)
    assert found.experiment["parallelism"].get("dispatch_dtype") == dtype
    assert found.experiment["parallelism"]["exchange"] == "deduplicated"
    assert ("mxfp8 on Blackwell" in "".join(found.notes)) == ("gpt-oss" in model)
    load_experiment({**found.experiment, "hardware": "dgx-h200"})
    together = read("stream_interval: 2\n", "--tp_size 8 --ep_size 8", model)
    assert together.experiment["parallelism"] == {"expert": 8, "dense": "tensor"}


@pytest.mark.parametrize(
    ("keys", "parallelism"),
    [
        ("tensor_parallel_size: 4", {"expert": 4, "dense": "tensor", "experts": "tensor"}),
        ("tensor_parallel_size: 4\nmoe_tensor_parallel_size: 2",
         {"expert": 4, "dense": "tensor", "slice": 2}),
        ("tensor_parallel_size: 4\nmoe_expert_parallel_size: 2\nenable_attention_dp: true",
         {"expert": 4, "dense": "data", "slice": 2, "exchange": "all_gather"}),
        ("pipeline_parallel_size: 2", {"pipeline": 2}),
        ("enable_attention_dp: true", {}),
    ],
)  # fmt: skip
def test_gpus_of_a_file(keys: str, parallelism: dict[str, Any]) -> None:
    found = read(f"{keys}\n").experiment
    assert found.get("parallelism", {}) == parallelism
    load_experiment({**found, "hardware": "dgx-h200"})


@pytest.mark.parametrize(
    ("keys", "eager"),
    [
        ("cuda_graph_config: null", True),
        ("cuda_graph_config:", True),
        ("cuda_graph_config: {}", False),
        ("cuda_graph_config: {batch_sizes: [1, 2, 4]}", False),
        ("pytorch_backend_config: {use_cuda_graph: false}", True),
        ("use_cuda_graph: true", False),
        ("kv_cache_config: null", False),
    ],
)
def test_graphs_of_a_file(keys: str, eager: bool) -> None:
    found = read(f"{WIDE}{keys}\n", "--tp_size 4")
    assert found.experiment.get("execution") == ("eager" if eager else None)
    assert found.experiment.get("decide") == (None if eager else "device")
    assert not warnings(found)


def test_a_key_of_the_file_counts_before_the_line() -> None:
    found = read("max_batch_size: 64\nmax_seq_len: 5000\n", "--max_seq_len 5000")
    assert found.experiment["workload"]["batching"]["batch_size"] == 64
    assert found.context_tokens == 5000
    told = [note for note in found.notes if "of its file counts" in note]
    what = "--max-batch-size 16: max_batch_size: 64 of its file counts before it in TensorRT-LLM"
    assert told == [f"note: {what} (from memory)"]
    off = read("enable_chunked_prefill: false\n", "--enable_chunked_prefill", served=True)
    assert "enable_chunked_context" not in off.experiment["workload"]["batching"]["scheduler"]


def test_requests_that_are_served() -> None:
    keys = """kv_cache_config: {enable_block_reuse: false, tokens_per_block: 32, max_tokens: 6400}
enable_chunked_prefill: true
disable_overlap_scheduler: true
scheduler_config: {capacity_scheduler_policy: GUARANTEED_NO_EVICT}
attention_dp_config: {enable_balance: true, timeout_iters: 60, batching_wait_iters: 5}
"""
    found = read(f"{WIDE}{keys}", "--tp_size 4", served=True)
    assert not warnings(found)
    assert found.experiment["memory"] == {
        "prefix_caching": False, "block_size": 32, "kv": "200 blocks",
    }  # fmt: skip
    scheduler = found.experiment["workload"]["batching"]["scheduler"]
    assert scheduler == {
        "kind": "trtllm",
        "max_num_seqs": 16,
        "enable_chunked_context": True,
        "async_scheduling": False,
        "capacity_scheduler_policy": "guaranteed_no_evict",
        "attention_dp_config": {
            "enable_balance": True, "timeout_iters": 60, "batching_wait_iters": 5,
        },
    }  # fmt: skip
    load_experiment({**found.experiment, "hardware": "dgx-h200"})
    plain = warnings(read(keys))
    assert plain.count("where requests are served (--served)") == 8
    assert "enable_block_reuse" not in plain


@pytest.mark.parametrize(
    ("keys", "written"),
    [
        ("{decoding_type: MTP, num_nextn_predict_layers: 3}",
         "{kind: mtp, num_speculative_tokens: 3, acceptance: ...}; only the acceptance"),
        ("{decoding_type: Draft_Target, max_draft_len: 4, speculative_model_dir: /a/Qwen3-0.6B}",
         "{kind: draft, num_speculative_tokens: 4, model: /a/Qwen3-0.6B, acceptance: ...}; only"),
        ("{decoding_type: NGram, max_draft_len: 4}", "{kind: ngram, num_speculative_tokens: 4,"),
    ],
)  # fmt: skip
def test_drafts_of_a_file_are_told(keys: str, written: str) -> None:
    assert f"write workload.speculative: {written}" in warnings(
        read(f"speculative_config: {keys}\n")
    )


def test_what_no_row_has_is_told_once() -> None:
    found = read("what_is_this: 3\nkv_cache_config: {who: {a: 1}}\nmoe_config: FAST\n")
    assert warnings(found).splitlines() == [
        "warning: what_is_this 3: not understood, and left out",
        'warning: kv_cache_config.who {"a": 1}: not understood, and left out',
        "warning: moe_config FAST: not understood, and left out",
    ]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a: [1\nb: 2\n", r"^more.yml:2:2: this is not YAML"),
        ("only words\n", "^more.yml: has no keys; write some, as in 'kv_cache_dtype: fp8'$"),
        ("", "^more.yml:1:1: is empty; write at least one key"),
        ("max_batch_size: many\n", "^max_batch_size: 'many' is no whole number from 1 on"),
        ("tensor_parallel_size: [1, 2]\n", "^tensor_parallel_size: '"),
    ],
)
def test_a_file_that_is_broken(text: str, what: str) -> None:
    with pytest.raises(InputError, match=what) as raised:
        read(text)
    assert len(raised.value.problems) == 1


def test_its_table() -> None:
    names = Counter(name for row in KEYS for name in row.names.split()) + Counter([*_LINE])
    assert not [name for name, count in names.items() if count > 1]
    silent = [row.names for row in KEYS if (row.effect is Effect.NOT_MODELLED) != bool(row.why)]
    assert not silent
    lines = {row.name for row in OPTIONS}
    assert set(_LINE.values()) <= lines
    assert {row.option for row in ROWS} <= lines | {row.name for row in KEYS}


def test_a_variable_names_the_file() -> None:
    text = f"F=/data/more.yml\ncat << EOF > ${{F}}\n{WIDE}EOF\n{LINE} --tp_size 4 --config $F"
    found = read_command(text)
    assert found.experiment["parallelism"]["dense"] == "data"
    assert not warnings(found)


@pytest.mark.parametrize("program", ["echo -e", "printf"])
@pytest.mark.parametrize("between", ["\\n", "\n"])
def test_a_file_of_one_word(program: str, between: str) -> None:
    word = f"{WIDE.strip()}{between}kv_cache_config:{between}  dtype: fp8"
    more = "echo 'stream_interval: 2' >> more.yml"
    text = f'{program} "{word}" > more.yml\n{more}\n{LINE} --tp_size 4 --config more.yml'
    found = read_command(text)
    assert found.experiment["parallelism"]["dense"] == "data"
    assert found.experiment["model"] == "gpt-oss-120b@kv_cache=fp8"
    assert "stream_interval 2" in "".join(found.notes)
    assert not warnings(found)
