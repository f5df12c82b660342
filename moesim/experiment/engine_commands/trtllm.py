"""TensorRT-LLM: ``trtllm-serve``.

Names and meanings are from memory of tensorrt_llm/commands/serve.py (Apache-2.0) of 1.x. What
stands in its file of options (``trtllm_file.py``) is read, and is in no line.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Sequence
from typing import ClassVar

from moesim.config.registry import kind_of
from moesim.experiment.engine_commands.base import (
    Configuration,
    Engine,
    EngineCommand,
    Folders,
    Reading,
)
from moesim.experiment.engine_commands.served import TRTLLM as ROWS
from moesim.experiment.engine_commands.served import (
    put_served,
    served_notes,
    served_words,
    serves,
    why_not_scheduled,
)
from moesim.experiment.engine_commands.serving import (
    Ranks,
    batch_note,
    cache_words,
    dispatch_note,
    expert_ranks,
    expert_words,
    layout_of,
    put_batch,
    put_model,
    put_ranks,
    put_stages,
    server_model,
    stages_note,
    why_not_served,
)
from moesim.experiment.engine_commands.trtllm_file import APART, FILE, graphs_of, put_file
from moesim.experiment.engine_commands.trtllm_file import ROWS as READ_ROWS
from moesim.experiment.engine_commands.words import IF_SERVED, Effect, Option, Takes
from moesim.experiment.schema.layout import ONCE
from moesim.model.named import opened
from moesim.model.repositories import card_of
from moesim.model.spec import ModelSpec

READ, NOT_MODELLED, NOTHING = Effect.READ, Effect.NOT_MODELLED, Takes.NOTHING
_SLICES = "moe_tensor_parallel_size"
_BENCH, _BENCHED = "trtllm-bench", ("throughput", "latency")
"""Its benchmark, and what it measures."""
OPTIONS = (
    Option("--model -m", READ), Option("--model-path", READ), Option("--concurrency", READ),
    Option("--tp-size --tensor-parallel-size --tp", READ),
    Option("--ep-size --moe-expert-parallel-size --ep", READ),
    Option("--pp-size --pipeline-parallel-size --pp", READ),
    Option("--gpus-per-node", READ),
    Option("--max-batch-size", READ),
    Option("--max-num-tokens", READ),
    Option("--max-seq-len", READ),
    Option("--kv-cache-dtype", READ),
    Option("--backend", NOT_MODELLED, why="times are those of the PyTorch backend",
           harmless=("pytorch",)),
    Option(f"{FILE} --extra-llm-api-config --extra-llm-api-options", READ),
    Option("--kv-cache-free-gpu-memory-fraction --kv-cache-free-gpu-mem-fraction"
           " --free-gpu-memory-fraction", NOT_MODELLED,
           why=f"a share of what weights leave; a run has the GPU's whole memory; {IF_SERVED}"),
    Option("--enable-chunked-prefill", NOT_MODELLED, NOTHING, IF_SERVED),
    Option("--cluster-size --moe-cluster-parallel-size", NOT_MODELLED,
           why="groups of experts' GPUs", harmless=("1",)),
    Option("--max-beam-width", NOT_MODELLED, why="beams", harmless=("1",)),
    Option("--dataset"), Option("--num-requests"), Option("--warmup"), Option("--workspace -w"),
    Option("--streaming", takes=NOTHING), Option("--report-json"), Option("--engine-dir"),
    Option("--target-input-len"), Option("--target-output-len"), Option("--iteration-log"),
    Option("--num-nodes"), Option("--eos-id"), Option("--tokenizer"),
    Option("--host"), Option("--port"), Option("--log-level"),
    Option("--trust-remote-code", takes=NOTHING), Option("--revision"),
    Option("--num-postprocess-workers"), Option("--reasoning-parser"), Option("--tool-parser"),
    Option("--metadata-server-config-file"), Option("--server-role"), Option("--chat-template"),
)  # fmt: skip


class Trtllm(Engine):
    """TensorRT-LLM: all experts on the GPUs, whole on one of them or sliced over all."""

    kind: ClassVar[str] = "trtllm"
    program: ClassVar[str] = "trtllm-serve"
    softwares: ClassVar[tuple[str, ...]] = ("trtllm",)
    options: ClassVar[Sequence[Option]] = OPTIONS
    read_if_served: ClassVar[Collection[str]] = tuple(row.option for row in READ_ROWS)
    flexible: ClassVar[bool] = True

    def begins(self, words: Sequence[str]) -> int | None:
        """Behind ``trtllm-serve``, or ``trtllm-serve serve``, or its benchmark."""
        for place, word in enumerate(words):
            if word.rpartition("/")[2] in ("trtllm-serve", _BENCH):
                return place + 1 + (words[place + 1 : place + 2] == ["serve"])
        return None

    def write(self, asked: Configuration) -> EngineCommand:
        """A server, with expert parallelism unless experts are sliced."""
        if reasons := list(_why_not(asked)):
            return EngineCommand(self.kind, None, tuple(reasons))
        name, _, notes = server_model(asked, quantization=())
        words = ["trtllm-serve", name, "--backend", "pytorch", *_named(cache_words(asked))]
        words += [*_ranks(asked), "--max_seq_len", str(asked.context_tokens), *_batch(asked)]
        notes += [*filter(None, [asked.context_note]), *batch_note(asked), *stages_note(asked)]
        notes += dispatch_note(asked, deepep=False)
        notes += served_notes(asked, ROWS)
        return EngineCommand(self.kind, shlex.join(words), tuple(notes))

    def understand(self, reading: Reading, folders: Folders) -> None:
        """Model, parallelism, batch and launches, of the line and of its file."""
        line = reading.line
        reading.put("software", "trtllm")
        put_file(reading, self.options, folders)
        model = put_model(reading, _name(reading), None, folders)
        ranks = _ranks_of(reading)
        put_ranks(reading, ranks, "--tp_size {group}", graphs_of(line))
        if ranks.group < ranks.gpus and ranks.slices == 1:
            _put_dispatch(reading, opened(model, folders))
        put_stages(reading, "--pp-size", ranks.gpus)
        _read_batch(reading, ranks)
        reading.put("execution", "eager" if graphs_of(line) else None)
        reading.context_tokens = line.whole("--max-seq-len", 1)


def _name(reading: Reading) -> str | None:
    """The model; of the benchmark a folder whose name says more than the model's."""
    line = reading.line
    if reading.front and reading.front[-1].rpartition("/")[2] == _BENCH:
        line.positional[:] = [word for word in line.positional if word not in _BENCHED]
        folder = line.text("--model-path")
        return folder if folder and card_of(folder) else line.text("--model")
    return line.text("--model") or (line.positional.pop(0) if line.positional else None)


def _ranks_of(reading: Reading) -> Ranks:
    """GPUs that share attention, or each have requests of their own, and those that slice experts:
    all, unless it is told how many hold whole ones, or how many slice the same.
    """
    line = reading.line
    gpus = line.whole("--tp-size", 1) or 1
    slices = line.whole(_SLICES, 1) or gpus
    if line.has("--ep-size") or gpus % slices:
        slices = expert_ranks(reading, "--ep-size", gpus)
    node = line.whole("--gpus-per-node", 1)
    nodes = gpus // node if node and node < gpus else None
    return Ranks(gpus, 1 if line.on(APART) else gpus, slices, nodes)


def _put_dispatch(reading: Reading, model: ModelSpec | None) -> None:
    """Put that a token of GPUs with requests of their own goes once to another, in the format of
    the experts' inputs.
    """
    reading.put("parallelism.exchange", ONCE)
    what = "a token goes once to each GPU with experts of its (from memory)"
    reading.note(f"parallelism.exchange: {ONCE}", what)
    experts = {layer.moe.expert for layer in model.moe_layers if layer.moe} if model else set()
    found = {(one.dtype, one.static_input) for one in experts}
    dtype = next(iter(found))[0] if len(found) == 1 else ""
    if found == {("fp8", True)} or dtype == "nvfp4":
        reading.put("parallelism.dispatch_dtype", dtype)
    elif dtype == "mxfp4":
        what = "inputs of experts in mxfp4 are 16 bits wide, and mxfp8 on Blackwell; write mxfp8"
        reading.note("parallelism.dispatch_dtype", f"{what} there (from memory)")


def _why_not(asked: Configuration) -> Iterator[str]:
    experiment, layout = asked.experiment, layout_of(asked)
    yield from why_not_served(asked, "TensorRT-LLM")
    yield from why_not_scheduled(asked, ROWS, "trtllm")
    in_file = "stands in its file of options (--config), and in no line"
    if experiment.offload_layers:
        yield "offload_layers: TensorRT-LLM copies no layers from the host"
    if layout.group < layout.gpus and layout.stages == 1:
        yield f"parallelism.dense: data: enable_attention_dp {in_file}"
    if experiment.execution == "eager":
        yield f"execution: eager: cuda_graph_config {in_file}"
    if experiment.parallelism.expert > 1 and kind_of(type(experiment.placement)) != "contiguous":
        yield f"placement: {kind_of(type(experiment.placement))}: moe_config {in_file}"


def _ranks(asked: Configuration) -> list[str]:
    layout = layout_of(asked)
    if layout.stages > 1:
        return ["--pp_size", str(layout.stages)]
    if layout.gpus == 1:
        return []
    words = ["--tp_size", str(layout.gpus)]
    words += expert_words("--ep_size", layout)
    nodes = ["--gpus_per_node", str(layout.gpus // layout.nodes)]
    return [*words, *(nodes if layout.nodes > 1 else [])]


def _batch(asked: Configuration) -> list[str]:
    if serves(asked):
        return _named(served_words(asked, ROWS))
    layout, workload = layout_of(asked), asked.experiment.workload
    words = ["--max_batch_size", str(workload.batching.in_flight)]
    if (chunk := workload.prefill.chunk) is not None:
        words += ["--max_num_tokens", str(chunk * layout.group)]
    return words


def _read_batch(reading: Reading, ranks: Ranks) -> None:
    """Limits of each rank that has requests of its own."""
    if reading.served:
        put_served(reading, READ_ROWS, "trtllm")
        if (clients := reading.line.last("--concurrency")) is not None:
            reading.note(clients, "its clients'; write workload.arrivals")
        return
    batch = reading.line.whole("--max-batch-size", 1)
    limits = (batch and batch * ranks.gpus // ranks.group, reading.line.whole("--concurrency", -1))
    found = [limit for limit in limits if limit is not None and limit > 0]
    put_batch(reading, "--max_batch_size", min(found, default=None))
    budget = reading.line.whole("--max-num-tokens", 1)
    reading.put("workload.prefill.chunk", budget and max(1, budget // ranks.group))


def _named(words: Sequence[str]) -> list[str]:
    """Options as its program writes them."""
    return [f"--{word[2:].replace('-', '_')}" if word.startswith("--") else word for word in words]
