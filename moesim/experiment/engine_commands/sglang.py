"""SGLang: ``python -m sglang.launch_server``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Sequence
from typing import ClassVar

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
from moesim.experiment.engine_commands.points import listed
from moesim.experiment.engine_commands.served import (
    SGLANG as ROWS,
)
from moesim.experiment.engine_commands.served import (
    put_served,
    served_notes,
    served_words,
    serves,
    why_not_scheduled,
)
from moesim.experiment.engine_commands.serving import (
    Ranks,
    asks_deepep,
    batch_note,
    cache_words,
    decided_note,
    dispatch_note,
    eplb_of,
    expert_ranks,
    expert_words,
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
from moesim.experiment.engine_commands.sglang_options import SGLANG
from moesim.experiment.engine_commands.words import Line, Option
from moesim.model.named import opened

SERVER = ("python", "-m", "sglang.launch_server")
KT = "--kt-"
_DISPATCH = (
    "deepep", "deepep_v2", "mooncake", "nixl", "megamoe", "flashinfer", "flashinfer_megamoe",
    "mori", "pplx", "ascend_fuseep",
)  # fmt: skip
"""Values of ``--moe-a2a-backend`` under which experts are whole, each on one of the GPUs: they make
``--ep-size`` the number of GPUs (``_a2a_ep_size`` of sglang/srt/arg_groups/overrides.py).
"""
_MODES = {False: "low_latency", True: "normal"}
"""Values of ``--deepep-mode``, which send a row to an expert or one to a GPU (from memory)."""
_BENCHES = ("sglang.bench_one_batch", "sglang.bench_latency")
"""Its benchmark of batches that are full, and that of older releases."""
_LENGTHS = {"--input-len": 1024, "--output-len": 16}
"""What its prompts and answers have where it is not told otherwise (from memory)."""
_SPREAD = "--tp {gpus} --dp {ranks} --enable-dp-attention"
_OLD_WHOLE = ("--enable-deepep-moe", "--enable-ep-moe")
"""Options of releases before ``--ep-size`` stood alone, which did the same (from memory)."""
_IMAGE = re.compile(r"(.*/)?lmsysorg/sglang(:\S+)?")


class Sglang(Engine):
    """SGLang: all experts on the GPUs, whole on one of them or sliced over all."""

    kind: ClassVar[str] = "sglang"
    program: ClassVar[str] = " ".join(SERVER)
    softwares: ClassVar[tuple[str, ...]] = ("sglang",)
    options: ClassVar[Sequence[Option]] = SGLANG
    read_if_served: ClassVar[Collection[str]] = tuple(row.option for row in ROWS)
    model_option: ClassVar[str] = "--model-path"
    file_of_options: ClassVar[str] = "--config"

    def begins(self, words: Sequence[str]) -> int | None:
        """Behind the module, or ``sglang serve``."""
        for place, word in enumerate(words):
            last = word.rpartition("/")[2]
            if last == "sglang" and words[place + 1 : place + 2] == ["serve"]:
                return place + 2
            if word in (SERVER[-1], *_BENCHES) or last == "launch_server.py":
                return place + 1
        images = (place for place, word in enumerate(words) if _IMAGE.fullmatch(word))
        return next((place + 1 for place in images), None)

    def points(self, line: Line, front: Sequence[str]) -> Sequence[Line]:
        """Of its benchmark of one batch the combinations of its lists."""
        del front
        return listed(line, ("--batch-size", *_LENGTHS), " ")

    def claims(self, words: Sequence[str]) -> bool:
        """Unless kt-kernel computes experts on the CPU."""
        return not any(word.startswith(KT) for word in words)

    def write(self, asked: Configuration) -> EngineCommand:
        """A server, with expert parallelism unless experts are sliced."""
        kind = kind_of(type(asked.experiment.placement))
        reasons = why_not_served(asked, "SGLang")
        reasons += why_not_offloaded(asked, "SGLang", zero_copy=False)
        reasons += why_not_scheduled(asked, ROWS, "sglang")
        if kind not in ("contiguous", "eplb") and asked.experiment.parallelism.expert > 1:
            reasons.append(f"placement: {kind}: SGLang has the order of ids, and EPLB")
        if reasons:
            return EngineCommand(self.kind, None, tuple(reasons))
        name, quantization, notes = server_model(asked)
        words = [*SERVER, "--model-path", name, *quantization]
        words += [*cache_words(asked), *_ranks(asked), *limits(asked), *offload_words(asked)]
        notes += [*filter(None, [asked.context_note]), *batch_note(asked), *stages_note(asked)]
        notes += [*decided_note(asked), *dispatch_note(asked, deepep=asks_deepep(layout_of(asked)))]
        notes += [*software_note(asked), *served_notes(asked, ROWS)]
        return EngineCommand(self.kind, shlex.join(words), tuple(notes))

    def understand(self, reading: Reading, folders: Folders) -> None:
        """Model, parallelism, batch and launches."""
        reading.put("software", "sglang")
        reading.note(
            "software", "'sglang' has SGLang's kernels; launches and host times are vLLM's"
        )
        ranks, line = read_server(reading), reading.line
        name = line.text(self.model_option) or (line.positional.pop(0) if line.positional else None)
        weights = opened(put_model(reading, name, line.text("--quantization"), folders), folders)
        if (line.text("--moe-a2a-backend") or "").startswith("deepep"):
            put_dispatch(reading, ranks, weights, once=line.text("--deepep-mode") == _MODES[True])
        put_offload(reading, weights, zero_copy=False)


def read_server(reading: Reading) -> Ranks:
    """What a line says beside its model and its experts; returns how it spreads the work."""
    line = reading.line
    gpus, nodes = line.whole("--tp-size", 1) or 1, line.whole("--nnodes", 1)
    if (stages := line.whole("--pp-size", 1)) and nodes:
        nodes = max(1, nodes // stages)  # those of one stage
    attention = _attention_ranks(reading)
    slices = _slices(reading, gpus)
    ranks = Ranks(gpus, max(1, gpus // attention), slices, nodes)
    put_ranks(reading, ranks, _SPREAD, "--disable-cuda-graph")
    put_stages(reading, "--pp-size", gpus)
    _read_batch(reading, gpus, attention)
    reading.context_tokens = _context(line)
    if line.has("--disable-cuda-graph"):
        reading.put("execution", "eager")
    if line.has("--enable-eplb"):
        put_eplb(reading, line.whole("--ep-num-redundant-experts"))
    return ranks


def _slices(reading: Reading, gpus: int) -> int:
    """GPUs that slice the same experts: none beside one where rows are dispatched to whole ones."""
    line, asked = reading.line, reading.line.last("--ep-size")
    given = line.last("--moe-a2a-backend")
    old = next(filter(None, map(line.last, _OLD_WHOLE)), None)
    whole = given if given and given.value.lower() in _DISPATCH else old
    if whole is None:
        return expert_ranks(reading, "--ep-size", gpus)
    if asked and line.whole("--ep-size", 1) not in (None, gpus):
        reading.note(asked, f"{whole} makes it {gpus}: whole experts, over all GPUs")
    return 1


def _read_batch(reading: Reading, gpus: int, ranks: int) -> None:
    if reading.served:
        put_served(reading, ROWS, "sglang", ranks)
        return
    line = reading.line
    if (together := line.whole("--batch-size", 1)) is not None:
        reading.put("workload.batching", {"kind": "static", "batch_size": together})
    else:
        put_batch(reading, "--max-running-requests", line.whole("--max-running-requests", 1))
    budget = line.whole("--chunked-prefill-size", -1)
    if budget is not None and budget > 0:
        reading.put("workload.prefill.chunk", max(1, budget // gpus))


def _context(line: Line) -> int | None:
    """The room for a request, or the prompt and the answer of a benchmark."""
    if any(map(line.has, ("--batch-size", *_LENGTHS))):
        return sum(line.whole(name, 1) or usual for name, usual in _LENGTHS.items())
    return line.whole("--context-length", 1)


def _attention_ranks(reading: Reading) -> int:
    """Groups of GPUs that each have requests of their own."""
    line = reading.line
    data = line.whole("--dp-size", 1) or 1
    if (attention := line.whole("--attn-dp-size", 1)) is not None:
        return attention
    if data > 1 and not line.has("--enable-dp-attention"):
        if reading.served:
            reading.put("serving.replicas", data)
            return 1
        what = f"{data} replicas of the model: one is read, and all decode {data} x its tokens/s"
        reading.warn(f"--dp-size {data}", f"not modelled: {what}")
        return 1
    return data


def _ranks(asked: Configuration) -> list[str]:
    layout = layout_of(asked)
    if layout.stages > 1:
        return ["--pp-size", str(layout.stages)]
    if layout.gpus == 1:
        return []
    words = ["--tp-size", str(layout.gpus)]
    words += expert_words("--ep-size", layout)
    if (data := layout.gpus // layout.group) > 1:
        words += ["--dp-size", str(data), "--enable-dp-attention"]
    if asks_deepep(layout):
        words += ["--moe-a2a-backend", "deepep", "--deepep-mode", _MODES[layout.once]]
    if layout.nodes > 1:
        words += ["--nnodes", str(layout.nodes)]
    if (eplb := eplb_of(asked)) is not None:
        redundant = ["--ep-num-redundant-experts", str(eplb.redundant)] if eplb.redundant else []
        words += ["--enable-eplb", *redundant]
    return words


def limits(asked: Configuration) -> list[str]:
    """Context, requests in flight, tokens of a prompt's pass, and launches."""
    workload = asked.experiment.workload
    words = ["--context-length", str(asked.context_tokens)]
    if serves(asked):
        layout = layout_of(asked)
        words += served_words(asked, ROWS, layout.gpus // layout.group)
        return [
            *words,
            *(["--disable-cuda-graph"] if asked.experiment.execution == "eager" else []),
        ]
    words += ["--max-running-requests", str(workload.batching.in_flight)]
    if (chunk := workload.prefill.chunk) is not None:
        gpus = asked.experiment.parallelism.expert
        words += ["--chunked-prefill-size", str(chunk * gpus)]
    return [*words, *(["--disable-cuda-graph"] if asked.experiment.execution == "eager" else [])]


def software_note(asked: Configuration) -> list[str]:
    """Whose times the experiment has, where they are not SGLang's."""
    software = asked.experiment.software
    if software in Sglang.softwares:
        return []
    return [f"{NOTE}software: its times are those of software '{software}', not of SGLang"]
