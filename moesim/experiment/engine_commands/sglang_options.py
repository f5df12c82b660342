"""The options of SGLang that moesim knows, and those that kt-kernel adds to it.

Names and meanings are those of sglang/srt/server_args.py (Apache-2.0) of 0.5.23 and, with
``--kt-``, of sglang-kt 0.7.2; ``--enable-ep-moe`` and ``--enable-deepep-moe`` are older.
"""

from __future__ import annotations

from moesim.experiment.engine_commands.words import (
    DRAFTS,
    IF_SERVED,
    INSTANCES,
    Effect,
    Option,
    Takes,
)

READ, NOT_MODELLED, NOTHING, MANY = Effect.READ, Effect.NOT_MODELLED, Takes.NOTHING, Takes.MANY
_COPIED_AHEAD = (
    "layers on the host, copied beside the kernels of others; all are read as on the GPU"
)
_KERNELS = "which kernels are taken; prices are those of the hardware's fits or datasheet"
_MEMORY = f"a run has the GPU's whole memory; {IF_SERVED}"
SGLANG = (
    Option("--model-path --model", READ),
    Option("--quantization", READ),
    Option("--tp-size --tensor-parallel-size --tp", READ),
    Option("--ep-size --expert-parallel-size --ep", READ),
    Option("--dp-size --data-parallel-size --dp", READ),
    Option("--attn-dp-size", READ),
    Option("--enable-dp-attention", READ, NOTHING),
    Option("--nnodes", READ),
    Option("--context-length", READ),
    Option("--max-running-requests", READ),
    Option("--chunked-prefill-size", READ),
    Option("--disable-cuda-graph", READ, NOTHING),
    Option("--enable-eplb", READ, NOTHING),
    Option("--ep-num-redundant-experts", READ),
    Option("--pp-size --pipeline-parallel-size", READ),
    Option("--cpu-offload-gb", READ),
    Option("--offload-group-size", NOT_MODELLED, why=_COPIED_AHEAD),
    Option("--kv-cache-dtype", READ),
    Option("--speculative-algorithm --speculative-algo", NOT_MODELLED, why=DRAFTS),
    Option("--speculative-draft-model-path", NOT_MODELLED, why=DRAFTS),
    Option("--speculative-num-steps", NOT_MODELLED, why=DRAFTS),
    Option("--speculative-eagle-topk", NOT_MODELLED, why=DRAFTS),
    Option("--speculative-num-draft-tokens", NOT_MODELLED, why=DRAFTS),
    Option("--speculative-attention-mode", NOT_MODELLED, why=DRAFTS),
    Option("--speculative-draft-attention-backend", NOT_MODELLED, why=DRAFTS),
    Option("--speculative-moe-runner-backend", NOT_MODELLED, why=DRAFTS),
    Option("--speculative-moe-a2a-backend", NOT_MODELLED, why=DRAFTS),
    Option("--speculative-token-map", NOT_MODELLED, why=DRAFTS),
    Option("--disaggregation-mode", NOT_MODELLED, why=INSTANCES, harmless=("null",)),
    Option("--disaggregation-transfer-backend", NOT_MODELLED, why=INSTANCES),
    Option("--disaggregation-ib-device", NOT_MODELLED, why=INSTANCES),
    Option("--disaggregation-bootstrap-port"),
    Option("--mem-fraction-static", NOT_MODELLED, why=_MEMORY),
    Option("--moe-a2a-backend", NOT_MODELLED, why=_KERNELS, harmless=("none",)),
    Option("--enable-deepep-moe", NOT_MODELLED, NOTHING, _KERNELS),
    Option("--enable-ep-moe", READ, NOTHING),
    Option("--moe-runner-backend", NOT_MODELLED, why=_KERNELS, harmless=("auto",)),
    Option("--deepep-mode", NOT_MODELLED, why=_KERNELS, harmless=("auto",)),
    Option("--attention-backend", NOT_MODELLED, why=_KERNELS),
    Option("--enable-two-batch-overlap", NOT_MODELLED, NOTHING,
           "exchanges beside kernels of another half"),
    Option("--disable-shared-experts-fusion", NOT_MODELLED, NOTHING, _KERNELS),
    Option("--dtype", NOT_MODELLED, why="activations have the model's format",
           harmless=("auto", "bfloat16", "float16", "half")),
    Option("--max-total-tokens", NOT_MODELLED,
           why=f"the KV cache holds what the requests need; {IF_SERVED}"),
    Option("--max-prefill-tokens", NOT_MODELLED, why=IF_SERVED),
    Option("--schedule-policy", NOT_MODELLED, why=IF_SERVED, harmless=("fcfs",)),
    Option("--schedule-conservativeness", NOT_MODELLED, why=IF_SERVED, harmless=("1", "1.0")),
    Option("--disable-overlap-schedule", NOT_MODELLED, NOTHING, IF_SERVED),
    Option("--page-size"), Option("--disable-radix-cache", takes=NOTHING),
    Option("--batch-size --batch", READ, MANY), Option("--input-len", READ, MANY),
    Option("--output-len", READ, MANY), Option("--run-name"), Option("--result-filename"),
    Option("--host"), Option("--port"),
    Option("--api-key"), Option("--served-model-name"), Option("--node-rank"),
    Option("--trust-remote-code", takes=NOTHING), Option("--tokenizer-path"),
    Option("--dist-init-addr --nccl-init-addr"), Option("--random-seed"), Option("--log-level"),
    Option("--reasoning-parser"), Option("--tool-call-parser"), Option("--chat-template"),
    Option("--enable-metrics", takes=NOTHING), Option("--watchdog-timeout"),
    Option("--enable-mixed-chunk", takes=NOTHING), Option("--cuda-graph-max-bs"),
    Option("--skip-server-warmup", takes=NOTHING), Option("--decode-log-interval"),
)  # fmt: skip
"""Of SGLang."""
KTRANSFORMERS = (
    *SGLANG,
    Option("--kt-num-gpu-experts", READ),
    Option("--kt-gpu-experts-ratio", READ),
    Option("--kt-expert-placement-strategy", READ),
    Option("--kt-method", READ),
    Option("--kt-weight-path", READ),
    Option("--kt-cpuinfer", READ),
    Option("--kt-threadpool-count", NOT_MODELLED,
           why="all NUMA nodes of the host compute experts", harmless=("1",)),
    Option("--kt-numa-nodes", NOT_MODELLED, MANY, "all NUMA nodes of the host compute experts"),
    Option("--kt-max-deferred-experts-per-token", NOT_MODELLED,
           why="experts that the next layer waits for, not this one", harmless=("0",)),
    Option("--kt-gpu-prefill-token-threshold", NOT_MODELLED,
           why="long prompts, for which whole layers are copied to the GPU"),
    Option("--kt-enable-dynamic-expert-update", NOT_MODELLED, NOTHING,
           "experts on the GPU that change with the prompts"),
    Option("--gguf_path", READ),
    Option("--model_path", READ),
    Option("--cpu_infer", READ),
    Option("--optimize_config_path", NOT_MODELLED,
           why="rules of which module runs where; all routed experts are read as on the CPU"),
    Option("--max_new_tokens"), Option("--prompt_file"),
)  # fmt: skip
"""Of SGLang with kt-kernel; those with ``_`` are of ktransformers' own local_chat of 2025."""
