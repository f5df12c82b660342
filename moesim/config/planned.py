"""What people ask for that is not there yet, and what to use instead."""

from __future__ import annotations

from pathlib import PurePath

PLANNED: dict[tuple[str, ...], str] = {
    (
        "arrival", "arrival_rate", "requests_per_second", "qps", "rps",
    ): "when requests come is said with workload.arrivals, as in {kind: closed_loop,"
    " max_concurrency: 8}, under batching: {kind: continuous} (docs/serving.md)",
    ("itl", "slos", "goodput", "load"):
    "what is promised to clients is serving: {slo: {ttft: 500 ms, tpot: 50 ms}}, and 'moesim search"
    " FILE --vary PATH --sla p99_ttft_ms<=500' finds the largest load (docs/serving.md)",
    ("costs", "price_per_hour", "dollars", "usd", "budget_usd"):
    "what tokens cost is asked with cost: {gpu: 2.5 $/h} (docs/energy.md)",
    ("power", "watts", "tdp", "joules"):
    "joules are asked with energy: {}, which takes the power of parts (docs/energy.md)",
    ("counts", "expert_counts", "expert_distribution", "counts_only"):
    "traces of counts alone are not there yet; draw a trace that is as uneven with 'moesim trace"
    " synthesize'",
    ("quantization", "quantisation", "quant", "bits", "dtype", "weight_dtype"):
    "a quantisation is the model's format: model: {base: NAME, format: q4_k_m}, or"
    " quantization_config in its config.json",
    ("context_length",):
    "the context that memory is planned for, and attention priced at, is workload.context",
    ("kv_cache_dtype", "kv_dtype", "kv_cache"):
    "a KV cache in fewer bits is the model's: model: {base: NAME, format: {kv_cache: fp8}}",
    (
        "gpus", "num_gpus", "gpu_count", "tensor_parallel_size", "data_parallel_size",
        "pipeline_parallel_size", "tp", "tp_size", "dp", "dp_size", "ep", "ep_size",
    ): "GPUs are as many as parallelism.expert says; parallelism.dense (data, tensor) and .experts"
    " (expert, tensor) say how they share attention and experts (docs/parallelism.md)",
    ("belady", "clairvoyant"):
    "Belady's policy, which knows the future, is min",
    ("n_parallel", "max_running_requests", "max_batch_size"):
    "how many requests run at once is max_num_seqs under every scheduler (docs/serving.md)",
    ("num_prompts", "num_requests"):
    "how many requests there are is workload.requests",
    ("num_gpu_blocks", "num_gpu_blocks_override", "enable_prefix_caching"):
    "the KV cache is memory: {kv: 2588 blocks, prefix_caching: true} (docs/serving.md)",
    ("page_size",):
    "tokens of a block of keys and values are memory.block_size under every scheduler",
}  # fmt: skip
"""By the words that people use."""


def planned(word: str) -> str | None:
    """What to say to someone who asks for ``word`` (a key, a name, or a file by its suffix)."""
    asked = {word.lower(), PurePath(word).suffix.lower()} - {""}
    return next((told for words, told in PLANNED.items() if asked & set(words)), None)
