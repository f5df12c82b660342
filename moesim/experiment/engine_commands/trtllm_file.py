"""TensorRT-LLM's file of options (``--config``, before ``--extra_llm_api_options``).

Keys are from memory of tensorrt_llm/llmapi/llm_args.py (Apache-2.0) of 1.x, and older ones where
pages on the web have them. A key of the file counts before the option of the line that says the
same (``update_llm_args_with_extra_dict``, from memory).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from moesim.experiment.engine_commands.base import Folders, Reading
from moesim.experiment.engine_commands.heredocs import keys_of
from moesim.experiment.engine_commands.served import TRTLLM, Row
from moesim.experiment.engine_commands.words import (
    DRAFTS,
    IF_SERVED,
    INSTANCES,
    OFF,
    Effect,
    Given,
    Line,
    Option,
    Takes,
)

READ, NOT_MODELLED = Effect.READ, Effect.NOT_MODELLED
FILE = "--config"
"""The option that names the file."""
APART = "enable_attention_dp"
_GRAPHS = "cuda_graph_config"
_INLINED = ("pytorch_backend_config", "build_config")
"""Sections of releases before 1.0, whose keys stand at the top since."""
_KERNELS = "which kernels are taken; prices are those of the hardware's fits or datasheet"
_LINE: Mapping[str, str] = {
    "tensor_parallel_size": "--tp-size", "pipeline_parallel_size": "--pp-size",
    "moe_expert_parallel_size": "--ep-size", "moe_cluster_parallel_size": "--cluster-size",
    "gpus_per_node": "--gpus-per-node", "max_batch_size": "--max-batch-size",
    "max_num_tokens": "--max-num-tokens", "max_seq_len": "--max-seq-len",
    "max_beam_width": "--max-beam-width", "backend": "--backend",
    "enable_chunked_prefill": "--enable-chunked-prefill",
    "enable_chunked_context": "--enable-chunked-prefill",
    "kv_cache_config.dtype": "--kv-cache-dtype", "kv_cache_dtype": "--kv-cache-dtype",
    "quant_config.kv_cache_quant_algo": "--kv-cache-dtype",
    "kv_cache_config.free_gpu_memory_fraction": "--kv-cache-free-gpu-memory-fraction",
}  # fmt: skip
"""Keys that are options of the line."""
KEYS = (
    Option(APART, READ),
    Option(f"{_GRAPHS} use_cuda_graph", READ),
    Option("moe_tensor_parallel_size", READ),
    Option("kv_cache_config.enable_block_reuse", NOT_MODELLED,
           why=f"every prompt is computed whole; {IF_SERVED}", harmless=OFF),
    Option("kv_cache_config.tokens_per_block", NOT_MODELLED, why=IF_SERVED),
    Option("kv_cache_config.max_tokens", NOT_MODELLED, why=IF_SERVED),
    Option("scheduler_config.capacity_scheduler_policy", NOT_MODELLED, why=IF_SERVED),
    Option("disable_overlap_scheduler", NOT_MODELLED, why=IF_SERVED, harmless=OFF),
    Option("attention_dp_config.enable_balance", NOT_MODELLED, why=IF_SERVED, harmless=OFF),
    Option("attention_dp_config.timeout_iters", NOT_MODELLED, why=IF_SERVED),
    Option("attention_dp_config.batching_wait_iters", NOT_MODELLED, why=IF_SERVED),
    Option("kv_cache_config.host_cache_size", NOT_MODELLED, why="a KV cache on the host",
           harmless=("0",)),
    Option("kv_cache_config.max_attention_window", NOT_MODELLED,
           why="what layers hold of a request; served, it is scheduler.max_attention_window"),
    Option("kv_cache_config.mamba_ssm_cache_dtype", NOT_MODELLED,
           why="recurrent states have one format", harmless=("auto",)),
    Option("scheduler_config.context_chunking_policy", NOT_MODELLED,
           why="which prompts are cut; they go in their order"),
    Option("--speculative-config speculative_config", NOT_MODELLED, why=DRAFTS),
    Option("cache_transceiver_config", NOT_MODELLED, why=INSTANCES),
    Option("moe_config.backend moe_backend", NOT_MODELLED, why=_KERNELS, harmless=("auto",)),
    Option("moe_config.load_balancer moe_load_balancer", NOT_MODELLED,
           why="more places for experts that are asked for most; write placement: {kind: eplb}"),
    Option("moe_config.max_num_tokens moe_max_num_tokens", NOT_MODELLED,
           why="experts of so many tokens at a time; all of a pass are here"),
    Option("moe_config.use_low_precision_moe_combine", NOT_MODELLED,
           why="rows of experts that come back in fewer bits; they have the model's here",
           harmless=OFF),
    Option("enable_lm_head_tp_in_adp", NOT_MODELLED,
           why="an output that is split over GPUs with requests of their own", harmless=OFF),
    Option("context_parallel_size cp_config", NOT_MODELLED, why="prompts over several GPUs",
           harmless=("1",)),
    Option("attn_backend", NOT_MODELLED, why=_KERNELS, harmless=("trtllm",)),
    Option("allreduce_strategy", NOT_MODELLED, why=_KERNELS, harmless=("auto",)),
    Option("sparse_attention_config", NOT_MODELLED, why="attention to some of the context"),
    Option("torch_compile_config torch_compile_enabled", NOT_MODELLED, why="fused kernels",
           harmless=OFF),
    Option("enable_min_latency", NOT_MODELLED, why=_KERNELS, harmless=OFF),
    Option("dtype", NOT_MODELLED, why="activations have the model's format",
           harmless=("auto", "bfloat16", "float16")),
    Option("quant_config.quant_algo", NOT_MODELLED,
           why="weights have the format that the model's name says"),
    Option("lora_config enable_lora", NOT_MODELLED, why="adapters' weights", harmless=OFF),
    Option("batch_wait_timeout_ms batch_wait_timeout_iters batch_wait_max_tokens_ratio",
           NOT_MODELLED, why="steps that wait for more requests", harmless=("0", "0.0")),
    Option("model"), Option("stream_interval"), Option("print_iter_log"),
    Option("trust_remote_code"), Option("tokenizer tokenizer_mode skip_tokenizer_init"),
    Option("cuda_graph_config.max_batch_size cuda_graph_max_batch_size"),
    Option("cuda_graph_config.batch_sizes cuda_graph_batch_sizes"),
    Option("cuda_graph_config.enable_padding cuda_graph_padding_enabled"),
    Option("enable_overlap_scheduler"), Option("enable_iter_perf_stats"),
    Option("enable_iter_req_stats"), Option("return_perf_metrics perf_metrics_max_requests"),
    Option("kv_cache_config.enable_partial_reuse kv_cache_config.copy_on_partial_reuse"),
    Option("kv_cache_config.event_buffer_max_size"), Option("num_postprocess_workers"),
    Option("postprocess_tokenizer_dir"), Option("reasoning_parser"), Option("load_format"),
    Option("guided_decoding_backend"), Option("enable_autotuner autotuner_enabled"),
    Option("sampler_type enable_trtllm_sampler use_torch_sampler mixed_sampler"),
    Option("enable_layerwise_nvtx_marker"), Option("garbage_collection_gen0_threshold"),
    Option("gather_generation_logits"), Option("fail_fast_on_attention_window_too_large"),
    Option("hostname host"), Option("port"), Option("revision"), Option("orchestrator_type"),
    Option("max_input_len"), Option("peft_cache_config"), Option("otlp_traces_endpoint"),
)  # fmt: skip
"""Its other keys; of sections those below them, behind dots."""
ROWS = (
    *TRTLLM,
    Row("kv_cache_config.enable_block_reuse", "memory.prefix_caching", means=True),
    Row("kv_cache_config.tokens_per_block", "memory.block_size"),
    Row("kv_cache_config.max_tokens", "memory.kv", "tokens"),
    Row("disable_overlap_scheduler", "scheduler.async_scheduling", means=False),
    Row("scheduler_config.capacity_scheduler_policy", "scheduler.capacity_scheduler_policy",
        "word"),
    Row("attention_dp_config.enable_balance", "scheduler.attention_dp_config.enable_balance",
        means=True),
    Row("attention_dp_config.timeout_iters", "scheduler.attention_dp_config.timeout_iters"),
    Row("attention_dp_config.batching_wait_iters",
        "scheduler.attention_dp_config.batching_wait_iters"),
)  # fmt: skip
"""What is read of a line and of its file where requests are served."""
_LONGEST = 40
"""Characters of a value that is told."""


def put_file(reading: Reading, options: Sequence[Option], folders: Folders) -> None:
    """Put what the line's file says among its options, of which ``options`` is the table."""
    given = reading.line.last(FILE)
    if given is None:
        return
    keys = keys_of(given.value, reading.files, folders)
    if keys is None:
        what = "not modelled: a file of further options, which is not here: attention DP, CUDA"
        what += " graphs, EPLB and drafts are set there; paste what writes it before the line"
        reading.warn(given, f"{what} (cat > {given.value} <<EOF), or name its path")
        return
    rows = {name: row for row in (*options, *KEYS) for name in row.names.split()}
    for path, value in _leaves(keys):
        if (row := rows.get(_LINE.get(path, path))) is None:
            reading.line.strange.append(f"{path} {_shown(value)}")
        else:
            _put(reading, row, path, value)


def _leaves(keys: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Keys with their values, those of sections behind dots; null is as if nothing stood there, but
    of CUDA graphs.
    """
    for key, value in keys.items():
        path = f"{above}{key}"
        if isinstance(value, Mapping) and path in _SECTIONS:
            yield from _leaves(value, "" if path in _INLINED else f"{path}.")
        elif value is not None or path == _GRAPHS:
            yield path, value


_SECTIONS = {
    *_INLINED,
    *(name.rpartition(".")[0] for row in KEYS for name in row.names.split()),
    *(name.rpartition(".")[0] for name in _LINE),
}  # fmt: skip


def _put(reading: Reading, row: Option, path: str, value: Any) -> None:
    """Put a key in place of the line's option that says the same."""
    line, text = reading.line, _text(value)
    said = [one for one in line.all(row.name) if one.word != path]
    if said and said[-1].value != text:
        what = f"{path}: {text} of its file counts before it in TensorRT-LLM (from memory)"
        reading.note(said[-1], what)
    line.given = [one for one in line.given if one not in said]
    off = row.takes is Takes.NOTHING and text in OFF
    shown = text if row.effect is READ or row.why in (DRAFTS, INSTANCES) else _shown(value)
    line.given += [] if off else [Given(row, path, shown)]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _shown(value: Any) -> str:
    text = _text(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def is_eager(line: Line) -> bool:
    """Whether its file says that no step is captured."""
    return line.has(_GRAPHS) and (line.text(_GRAPHS) in ("null", *OFF))


def graphs_of(line: Line) -> str:
    """The option that says that no step is captured, where one does."""
    return _GRAPHS if is_eager(line) else ""
