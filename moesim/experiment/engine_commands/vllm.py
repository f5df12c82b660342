"""vLLM: ``vllm serve``.

Names and meanings are those of vllm/engine/arg_utils.py (Apache-2.0) of 0.20.2;
``--num-redundant-experts`` is that of older releases.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar

from moesim.config.errors import Problem
from moesim.config.registry import kind_of
from moesim.experiment.engine_commands.base import (
    NOTE,
    Configuration,
    Engine,
    EngineCommand,
    Folders,
    Reading,
)
from moesim.experiment.engine_commands.offload import (
    offload_words,
    put_offload,
    why_not_offloaded,
)
from moesim.experiment.engine_commands.served import (
    VLLM,
    put_served,
    served_notes,
    served_words,
    serves,
    why_not_scheduled,
)
from moesim.experiment.engine_commands.serving import (
    GPUS_OF_A_NODE,
    Ranks,
    asks_deepep,
    batch_note,
    cache_words,
    decided_note,
    dispatch_note,
    eplb_of,
    layout_of,
    put_batch,
    put_dispatch,
    put_eplb,
    put_model,
    put_ranks,
    put_stages,
    server_model,
    stages_note,
    why_not_served,
)
from moesim.experiment.engine_commands.words import (
    DRAFTS,
    IF_SERVED,
    INSTANCES,
    NO_FILE,
    Effect,
    Line,
    Option,
    Takes,
)
from moesim.experiment.schema.layout import Layout
from moesim.model.named import opened
from moesim.model.spec import ModelSpec

READ, NOT_MODELLED, NOTHING, MANY = Effect.READ, Effect.NOT_MODELLED, Takes.NOTHING, Takes.MANY
_PLACEMENTS = {"contiguous": "linear", "round_robin": "round_robin"}
_IMAGE = re.compile(r"(.*/)?vllm/vllm-openai(:\S+)?")
_LENGTHS = {"--input-len": 32, "--output-len": 128}
"""What a benchmark's prompts and answers have, where it is not told otherwise."""
_BENCHES = (["latency"], ["throughput"])
_CAPTURED: Mapping[str, str | None] = {
    "PIECEWISE": "piecewise", "NONE": "eager", "FULL_AND_PIECEWISE": None,
}  # fmt: skip
"""Modes of CUDA graphs, and ``execution``; the last is the default (CUDAGraphMode of
vllm/config/compilation.py, from memory).
"""
_SERVER = "vllm.entrypoints.openai.api_server"
_MEMORY = f"a run has the GPU's whole memory; {IF_SERVED}"
_SOME_WEIGHTS = "some of a layer's weights on the host; all that --cpu-offload-gb has room for are"
_COPIED_AHEAD = (
    "layers on the host, copied beside the kernels of others; all are read as on the GPU"
)
_KERNELS = "which kernels are taken; prices are those of the hardware's fits or datasheet"
OPTIONS = (
    Option("--model", READ),
    Option("--quantization -q", READ),
    Option("--tensor-parallel-size -tp", READ),
    Option("--data-parallel-size -dp", READ),
    Option("--data-parallel-size-local", READ),
    Option("--enable-expert-parallel -ep", READ, NOTHING),
    Option("--max-model-len", READ),
    Option("--max-num-seqs", READ),
    Option("--max-num-batched-tokens", READ),
    Option("--enforce-eager", READ, NOTHING),
    Option("--compilation-config -cc", READ),
    Option("--enable-eplb", READ, NOTHING),
    Option("--eplb-config", READ),
    Option("--num-redundant-experts", READ),
    Option("--expert-placement-strategy", READ),
    Option("--pipeline-parallel-size -pp", READ),
    Option("--cpu-offload-gb", READ),
    Option("--cpu-offload-params", NOT_MODELLED, why=_SOME_WEIGHTS),
    Option("--offload-group-size", NOT_MODELLED, why=_COPIED_AHEAD, harmless=("0",)),
    Option("--offload-num-in-group", NOT_MODELLED, why=_COPIED_AHEAD),
    Option("--offload-prefetch-step", NOT_MODELLED, why=_COPIED_AHEAD),
    Option("--kv-cache-dtype", READ),
    Option("--kv-offloading-size", NOT_MODELLED, why="a KV cache on the host"),
    Option("--speculative-config -sc", NOT_MODELLED, why=DRAFTS),
    Option("--kv-transfer-config", NOT_MODELLED, why=INSTANCES),
    Option("--enable-prefix-caching", NOT_MODELLED, NOTHING,
           f"every prompt is computed whole; {IF_SERVED}"),
    Option("--num-gpu-blocks-override", NOT_MODELLED, why=_MEMORY),
    Option("--kv-cache-memory-bytes", NOT_MODELLED, why=_MEMORY),
    Option("--long-prefill-token-threshold", NOT_MODELLED, why=IF_SERVED, harmless=("0",)),
    Option("--scheduling-policy", NOT_MODELLED, why=IF_SERVED, harmless=("fcfs",)),
    Option("--no-enable-chunked-prefill", NOT_MODELLED, NOTHING, IF_SERVED),
    Option("--no-async-scheduling", NOT_MODELLED, NOTHING, IF_SERVED),
    Option("--decode-context-parallel-size -dcp", NOT_MODELLED, why="a KV cache over several GPUs",
           harmless=("1",)),
    Option("--prefill-context-parallel-size -pcp", NOT_MODELLED, why="prompts over several GPUs",
           harmless=("1",)),
    Option("--config", NOT_MODELLED, why=NO_FILE),
    Option("--num-scheduler-steps", NOT_MODELLED, why="steps of a host's decision, of old releases",
           harmless=("1",)),
    Option("--mamba-ssm-cache-dtype", NOT_MODELLED, why="recurrent states have one format",
           harmless=("auto",)),
    Option("--gpu-memory-utilization", NOT_MODELLED, why=_MEMORY),
    Option("--all2all-backend", READ),
    Option("--moe-backend", NOT_MODELLED, why=_KERNELS, harmless=("auto",)),
    Option("--attention-backend", NOT_MODELLED, why=_KERNELS, harmless=("auto",)),
    Option("--disable-custom-all-reduce", NOT_MODELLED, NOTHING, _KERNELS),
    Option("--enable-dbo", NOT_MODELLED, NOTHING, "exchanges beside kernels of another half"),
    Option("--dtype", NOT_MODELLED, why="activations have the model's format",
           harmless=("auto", "bfloat16", "float16", "half")),
    Option("--no-enable-expert-parallel", takes=NOTHING),
    Option("--enable-lora", NOT_MODELLED, NOTHING, "adapters' weights"),
    Option("--no-enable-prefix-caching", takes=NOTHING),
    Option("--enable-chunked-prefill", takes=NOTHING), Option("--host"), Option("--port"),
    Option("--api-key"), Option("--served-model-name", takes=MANY),
    Option("--trust-remote-code", takes=NOTHING), Option("--download-dir"), Option("--tokenizer"),
    Option("--revision"), Option("--seed"), Option("--load-format"), Option("--tool-call-parser"),
    Option("--enable-auto-tool-choice", takes=NOTHING), Option("--reasoning-parser"),
    Option("--chat-template"), Option("--disable-log-requests", takes=NOTHING),
    Option("--disable-log-stats", takes=NOTHING), Option("--generation-config"),
    Option("--limit-mm-per-prompt"), Option("--distributed-executor-backend"),
    Option("--async-scheduling", takes=NOTHING), Option("--swap-space"), Option("--block-size"),
    Option("--rope-scaling"), Option("--rope-theta"), Option("-O --optimization-level"),
    Option("-O0", NOT_MODELLED, NOTHING, "kernels that are not compiled; --enforce-eager is read"),
    Option("-O1", takes=NOTHING), Option("-O2", takes=NOTHING), Option("-O3", takes=NOTHING),
    Option("--hf-overrides", NOT_MODELLED,
           why="another config.json than the checkpoint's; of its rope alone nothing changes"),
    Option("--cudagraph-capture-sizes", takes=MANY), Option("--max-cudagraph-capture-size"),
    Option("--headless", takes=NOTHING), Option("--data-parallel-address"),
    Option("--data-parallel-rpc-port"), Option("--data-parallel-start-rank"),
    Option("--api-server-count"), Option("--tokenizer-mode"), Option("--config-format"),
    Option("--enable-log-requests", takes=NOTHING), Option("--max-log-len"),
    Option("--disable-uvicorn-access-log", takes=NOTHING), Option("--uvicorn-log-level"),
    Option("--nnodes"), Option("--node-rank"), Option("--master-addr"), Option("--master-port"),
    Option("--stream-interval"), Option("--data-parallel-backend"), Option("--data-parallel-rank"),
    Option("--data-parallel-hybrid-lb", takes=NOTHING), Option("--mm-encoder-tp-mode"),
    Option("--data-parallel-external-lb", takes=NOTHING), Option("--mm-processor-cache-gb"),
    Option("--mm-processor-kwargs"), Option("--max-seq-len-to-capture"), Option("--tool-server"),
    Option("--override-generation-config"), Option("--default-chat-template-kwargs"),
    Option("--enable-prompt-tokens-details", takes=NOTHING),
    Option("--chat-template-content-format"),
    Option("--language-model-only", takes=NOTHING), Option("--guided-decoding-backend"),
    Option("--num-prompts"), Option("--num-iters"), Option("--num-iters-warmup"),
    Option("--input-len", READ), Option("--output-len", READ), Option("--batch-size", READ),
)  # fmt: skip


ENVIRONMENT: Mapping[str, str] = {
    "vllm-marlin": "VLLM_MXFP4_USE_MARLIN=1",
    "vllm-mxfp8": "VLLM_USE_FLASHINFER_MOE_MXFP4_MXFP8=1",
}
"""What makes vLLM run the expert kernels of a software profile, in mxfp4."""


_GATHERS = ("allgather_reducescatter", "naive")
"""Values of ``--all2all-backend``, the first its default (vllm/config/parallel.py of 0.33.0): all
tokens are gathered by all. With others rows are dispatched."""
_DISPATCHES = {False: "deepep_low_latency", True: "deepep_high_throughput"}
"""Those of DeepEP, which send a row to an expert or one to a GPU (from memory of DeepEP's text)."""
_EXCHANGE = "VLLM_ALL2ALL_BACKEND"
"""The variable that was the option in releases of 2025 (from memory)."""


def _may_gather(ranks: Ranks | Layout) -> bool:
    """Whether GPUs of one node have requests of their own each."""
    return ranks.group == 1 < ranks.gpus <= GPUS_OF_A_NODE and ranks.nodes in (None, 1)


def _read_exchange(reading: Reading, ranks: Ranks, model: ModelSpec | None) -> None:
    """How tokens of ranks with requests of their own meet whole experts."""
    said = (word.removeprefix(f"{_EXCHANGE}=") for word in reading.front if _EXCHANGE in word)
    backend = reading.line.text("--all2all-backend") or next(said, _GATHERS[0])
    if _may_gather(ranks) and ranks.slices == 1 and backend in _GATHERS:
        reading.put("parallelism.exchange", "all_gather")
    elif backend in _DISPATCHES.values():
        put_dispatch(reading, ranks, model, once=backend == _DISPATCHES[True])


def _software(front: Sequence[str]) -> str:
    """The profile whose kernels the variables in front of a line pick."""
    return next((one for one, setting in ENVIRONMENT.items() if setting in front), "vllm")


class Vllm(Engine):
    """vLLM: all experts on the GPUs, whole on one of them or sliced over all."""

    kind: ClassVar[str] = "vllm"
    program: ClassVar[str] = "vllm serve"
    softwares: ClassVar[tuple[str, ...]] = (
        "vllm", "vllm-marlin", "vllm-mxfp8", "vllm@0.14", "vllm@0.19",
    )  # fmt: skip
    options: ClassVar[Sequence[Option]] = OPTIONS
    read_if_served: ClassVar[Collection[str]] = tuple(row.option for row in VLLM)
    variables: ClassVar[Collection[str]] = (*ENVIRONMENT.values(), _EXCHANGE)
    flexible: ClassVar[bool] = True
    model_option: ClassVar[str] = "--model"
    file_of_options: ClassVar[str] = "--config"

    def begins(self, words: Sequence[str]) -> int | None:
        """Behind ``vllm serve``, its older module, its image, or a benchmark without a server."""
        for place, word in enumerate(words):
            behind = words[place + 1 : place + 3]
            if word.rpartition("/")[2] != "vllm":
                pass
            elif behind[:1] == ["serve"]:
                return place + 2
            elif behind[:1] == ["bench"] and behind[1:] in _BENCHES:
                return place + 3
            if word == _SERVER:
                return place + 1
        images = (place for place, word in enumerate(words) if _IMAGE.fullmatch(word))
        return next((place + 1 for place in images), None)

    def write(self, asked: Configuration) -> EngineCommand:
        """``vllm serve``, with expert parallelism unless experts are sliced."""
        kind = kind_of(type(asked.experiment.placement))
        reasons = why_not_served(asked, "vLLM") + why_not_offloaded(asked, "vLLM", zero_copy=True)
        reasons += why_not_scheduled(asked, VLLM, "vllm")
        if kind not in {*_PLACEMENTS, "eplb"} and asked.experiment.parallelism.expert > 1:
            reasons.append(f"placement: {kind}: vLLM has linear, round_robin and EPLB")
        if 1 < (layout := layout_of(asked)).slices < layout.gpus:
            reasons.append(f"parallelism.slice: {layout.slices}: vLLM slices over all GPUs or none")
        if reasons:
            return EngineCommand(self.kind, None, tuple(reasons))
        name, quantization, notes = server_model(asked)
        words = ["vllm", "serve", name, *quantization]
        words += cache_words(asked)
        words += [*_ranks(asked), "--max-model-len", str(asked.context_tokens), *_batch(asked)]
        words += [*_launches(asked), *offload_words(asked)]
        notes += [*filter(None, [asked.context_note]), *batch_note(asked), *stages_note(asked)]
        notes += [*decided_note(asked), *dispatch_note(asked, deepep=_has_deepep(layout))]
        notes += served_notes(asked, VLLM)
        if (setting := ENVIRONMENT.get(asked.experiment.software)) is not None:
            notes.append(f"{NOTE}software: set {setting} for mxfp4 experts in these kernels")
        return EngineCommand(self.kind, shlex.join(words), tuple(notes))

    def understand(self, reading: Reading, folders: Folders) -> None:
        """Model, parallelism, batch and launches."""
        line = reading.line
        reading.put("software", _software(reading.front))
        name = line.text(self.model_option) or (line.positional.pop(0) if line.positional else None)
        model = put_model(reading, name, line.text("--quantization"), folders)
        tensor = line.whole("--tensor-parallel-size", 1) or 1
        data = line.whole("--data-parallel-size", 1) or 1
        local = line.whole("--data-parallel-size-local", 1)
        nodes = data // local if local and local < data else None
        slices = 1 if line.has("--enable-expert-parallel") else tensor * data
        ranks = Ranks(tensor * data, tensor, slices, nodes)
        put_ranks(reading, ranks, "-tp {group} -dp {ranks}", "--enforce-eager")
        weights = opened(model, folders)
        _read_exchange(reading, ranks, weights)
        put_stages(reading, "--pipeline-parallel-size", tensor * data)
        _read_batch(reading, tensor, data)
        reading.context_tokens = _context(line)
        if reading.served:
            reading.put("workload.batching.scheduler.max_model_len", reading.context_tokens)
        _read_launches(reading)
        _read_placement(reading)
        put_offload(reading, weights, zero_copy=True)


def _has_deepep(layout: Layout) -> bool:
    """Whether rows are dispatched by DeepEP: where others gather, and where it alone does so."""
    return asks_deepep(layout) or (_may_gather(layout) and not layout.gathers)


def _ranks(asked: Configuration) -> list[str]:
    layout = layout_of(asked)
    if layout.stages > 1:
        return ["--pipeline-parallel-size", str(layout.stages)]
    if layout.gpus == 1:
        return []
    data = layout.gpus // layout.group
    words = ["--tensor-parallel-size", str(layout.group)] if layout.group > 1 else []
    words += ["--data-parallel-size", str(data)] if data > 1 else []
    if layout.nodes > 1:
        words += ["--data-parallel-size-local", str(data // layout.nodes)]
    if layout.slices > 1:  # what it does unless it is told
        return words
    words.append("--enable-expert-parallel")
    if _has_deepep(layout):
        words += ["--all2all-backend", _DISPATCHES[layout.once]]
    placement = kind_of(type(asked.experiment.placement))
    if (eplb := eplb_of(asked)) is not None:
        config = json.dumps({"num_redundant_experts": eplb.redundant})
        words += ["--enable-eplb", *(["--eplb-config", config] if eplb.redundant else [])]
    elif placement == "round_robin":
        words += ["--expert-placement-strategy", _PLACEMENTS[placement]]
    return words


def _read_batch(reading: Reading, tensor: int, data: int) -> None:
    if reading.served:
        put_served(reading, VLLM, "vllm")
        return
    if (together := reading.line.whole("--batch-size", 1)) is not None:  # of vllm bench latency
        reading.put("workload.batching", {"kind": "static", "batch_size": together})
    else:
        batch = reading.line.whole("--max-num-seqs", 1)
        put_batch(reading, "--max-num-seqs", batch and batch * data)
    budget = reading.line.whole("--max-num-batched-tokens", 1)
    reading.put("workload.prefill.chunk", budget and max(1, budget // tensor))


def _batch(asked: Configuration) -> list[str]:
    """Limits of a data-parallel rank, which has a share of the requests."""
    if serves(asked):
        return served_words(asked, VLLM)
    layout, workload = layout_of(asked), asked.experiment.workload
    ranks = layout.gpus // layout.group
    words = ["--max-num-seqs", str(-(-workload.batching.in_flight // ranks))]
    if (chunk := workload.prefill.chunk) is not None:
        words += ["--max-num-batched-tokens", str(chunk * layout.group)]
    return words


def _launches(asked: Configuration) -> list[str]:
    match asked.experiment.execution:
        case "eager":
            return ["--enforce-eager"]
        case "piecewise":
            return ["--compilation-config", json.dumps({"cudagraph_mode": "PIECEWISE"})]
    return []


def _context(line: Line) -> int | None:
    """The number of --max-model-len, or the prompt and the answer of a benchmark; None where it is
    the engine's to choose.
    """
    if any(line.has(name) for name in _LENGTHS):
        return sum(line.whole(name, 1) or usual for name, usual in _LENGTHS.items())
    if line.text("--max-model-len") in ("auto", "-1"):
        return None
    return line.whole("--max-model-len", 1)


def _read_launches(reading: Reading) -> None:
    if reading.line.has("--enforce-eager"):
        reading.put("execution", "eager")
    elif (given := reading.line.last("--compilation-config")) is not None:
        found = _object(given.value)
        mode = str((found or {}).get("cudagraph_mode") or "").upper()
        reading.put("execution", _CAPTURED.get(mode))
        if found is None or mode not in _CAPTURED or len(found) > 1:
            what = f"not modelled: but for a cudagraph_mode of {', '.join(_CAPTURED)}"
            reading.warn(given, what)


def _read_placement(reading: Reading) -> None:
    line = reading.line
    strategy = line.last("--expert-placement-strategy")
    if strategy is not None and strategy.value != "linear":
        reading.put("placement", {"kind": "round_robin"})
    if not line.has("--enable-eplb"):
        return
    redundant, config = line.whole("--num-redundant-experts"), line.last("--eplb-config")
    if config is not None:
        found = _object(config.value)
        if found is None:
            what = f"'{config.value}' is no JSON object; write one"
            line.problems.append(Problem(config.word, "", what))
        redundant = (found or {}).get("num_redundant_experts")
    put_eplb(reading, redundant)


def _object(text: str) -> dict[str, Any] | None:
    with suppress(ValueError):
        found = json.loads(text)
        return found if isinstance(found, dict) else None
    return None
