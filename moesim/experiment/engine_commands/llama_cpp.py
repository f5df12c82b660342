"""llama.cpp, and ik_llama.cpp, its fork."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Sequence
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
from moesim.experiment.engine_commands.expert_tensors import words_of
from moesim.experiment.engine_commands.llama_bench import PROGRAM as LLAMA_BENCH
from moesim.experiment.engine_commands.llama_bench import runs
from moesim.experiment.engine_commands.llama_cpp_line import (
    BATCHED,
    LOGICAL_BATCH,
    OVERLAP,
    PHYSICAL_BATCH,
    REPACKED,
    maps,
    no_gpu,
    put_server,
    read_experts,
    read_gpus,
    read_model,
    read_workload,
    server_words,
)
from moesim.experiment.engine_commands.llama_cpp_options import IK_LLAMA_CPP, LLAMA_CPP
from moesim.experiment.engine_commands.llama_environment import VARIABLES, with_variables
from moesim.experiment.engine_commands.ollama import as_line, is_ollama, tell
from moesim.experiment.engine_commands.ollama import begins as ollama_begins
from moesim.experiment.engine_commands.points import listed
from moesim.experiment.engine_commands.served import LLAMA_CPP as ROWS
from moesim.experiment.engine_commands.served import (
    served_notes,
    served_words,
    serves,
    why_not_scheduled,
)
from moesim.experiment.engine_commands.words import Line, Option
from moesim.experiment.schema.workload import Workload
from moesim.memory.misses.cpu import Cpu
from moesim.model.chosen import GGML_CACHES, cache_of, split_cache, split_format
from moesim.model.gguf.recipes import RECIPES, SAME
from moesim.model.repositories import GGUF
from moesim.workload.serving.llama_cpp import LlamaCpp as Scheduler
from moesim.workload.serving.llama_cpp import servers_own

ALL_LAYERS = 99
OLD_UNMAPPED = ("--no-mmap",)
UNMAPPED = "-no-mmap"
"""Ends the name of software whose weights on the CPU are not mapped."""
ALONE = "llama.cpp-cpu"
"""Software of a machine without a GPU."""
KERNELS = "its products on the CPU are its own; on the GPU prices are llama.cpp's"
REPACKING = "ik_llama.cpp@2025-05"
"""The profile whose times are those with it."""
_PROGRAM = re.compile(
    r"llama-(server|cli|completion|bench|batched-bench|sweep-bench|parallel|perplexity|mtmd-cli)"
    r"(\.exe)?|.*llama\.cpp:(server|full|light)\S*"
)


class LlamaCpp(Engine):
    """llama.cpp: experts of whole layers on the GPU or on the CPU."""

    kind: ClassVar[str] = "llama.cpp"
    program: ClassVar[str] = "llama-server"
    softwares: ClassVar[tuple[str, ...]] = (
        "llama.cpp",
        f"llama.cpp{UNMAPPED}",
        ALONE,
        "llama.cpp-cache",
        "llama.cpp@b5xxx",
        "llama.cpp@b6xxx",
        "llama.cpp@b8xxx",
    )
    options: ClassVar[Sequence[Option]] = LLAMA_CPP
    read_if_served: ClassVar[Collection[str]] = tuple(row.option for row in ROWS)
    variables: ClassVar[Collection[str]] = tuple(VARIABLES)
    cpu_prompts: ClassVar[str] = "--no-op-offload"
    """By which the CPU computes prompts of its experts, too."""
    unmapped: ClassVar[tuple[str, ...]] = ("-lm", "none")
    """By which the model is read, not mapped; its older releases refuse what new ones have."""
    last_words: ClassVar[tuple[str, ...]] = ("-fa", "on")
    own_notes: ClassVar[tuple[str, ...]] = ()
    said_of_passes: ClassVar[Collection[tuple[str, bool]]] = (
        ("kv_unified", True),
        ("checkpoints", False),
    )
    """Keys of the scheduler, and what an option says of them."""

    def begins(self, words: Sequence[str]) -> int | None:
        """Behind ``llama-server`` and its like."""
        names = [re.split(r"[/\\]", word)[-1] for word in words]
        places = (place for place, name in enumerate(names) if _PROGRAM.fullmatch(name))
        return next((place + 1 for place in places), ollama_begins(words))

    def claims(self, words: Sequence[str]) -> bool:
        """Unless it is the fork's."""
        return not _is_ik(words)

    def write(self, asked: Configuration) -> EngineCommand:
        """A ``llama-server`` that keeps the first layers' experts on the CPU."""
        if reasons := [*_why_not(asked), *self._why_no_such_passes(asked)]:
            return EngineCommand(self.kind, None, tuple(reasons))
        name, notes = _gguf_name(asked)
        host, layers = asked.experiment.host_layers, len(asked.model.layers)
        on_gpu = layers + 1 - host if host else ALL_LAYERS
        words = ["llama-server", "-m", name, "-ngl", str(on_gpu)]
        words += words_of([layer.index for layer in asked.model.moe_layers], asked.on_cpu)
        beside = host or any(asked.on_cpu)
        if asked.experiment.software == ALONE:
            words += ["-dev", "none"]
        elif beside and Cpu(copies_from="never") == asked.experiment.experts.miss:
            words.append(self.cpu_prompts)
        if asked.experiment.software.endswith(UNMAPPED):
            words += self.unmapped
            if self.unmapped != OLD_UNMAPPED:
                notes.append(f"{NOTE}-lm none: in releases without --load-mode it is --no-mmap")
        words += [REPACKED] * (asked.experiment.software == REPACKING and REPACKED not in words)
        words += _split(asked)
        if asked.slots is not None and not asked.in_place:
            words += ["--cpu-moe", "--moe-expert-cache", str(asked.slots)]
            notes.append(f"{NOTE}--moe-expert-cache: of pull request 27861, in no release")
        words += [*_batch(asked), *self.server_words(asked), *_cache_words(asked), *self.last_words]
        notes += [*filter(None, [asked.context_note]), *_defaults(asked, self), *self.own_notes]
        notes += served_notes(asked, ROWS)
        return EngineCommand(self.kind, shlex.join(words), tuple(notes))

    def _why_no_such_passes(self, asked: Configuration) -> Iterator[str]:
        """What the server does otherwise, and has no option for."""
        if (scheduler := _scheduler(asked)) is None:
            return
        for key, own in servers_own(self.kind, asked.model).items():
            value = getattr(scheduler, key)
            if value not in (None, own) and (key, value) not in self.said_of_passes:
                what = f"{self.kind}'s server has {str(own).lower()} with this model, and no option"
                said = f"workload.batching.scheduler.{key}: {str(value).lower()}"
                yield f"{said}: {what} for it; leave it out"

    def put_server(self, reading: Reading) -> None:
        """Put what the line says of its server's passes."""
        put_server(reading)

    def server_words(self, asked: Configuration) -> list[str]:
        """The options of its server."""
        scheduler = _scheduler(asked)
        return [] if scheduler is None else server_words(scheduler, asked)

    def points(self, line: Line, front: Sequence[str]) -> Sequence[Line]:
        """Of a benchmark the combinations of its lists."""
        if is_ollama(front):
            return [as_line(line, self.options)]
        if front and LLAMA_BENCH.fullmatch(front[-1]):
            return runs(line)
        return listed(with_variables(line, front, self.options), BATCHED, ",")

    def software_of(self, reading: Reading) -> str:
        """The profile whose times are those of the line."""
        if self.kind == LlamaCpp.kind and no_gpu(reading.line) and not reading.line.has("-nr"):
            return ALONE
        return self.kind + ("" if maps(reading) else UNMAPPED)

    def understand(self, reading: Reading, folders: Folders) -> None:
        """Model, experts on the CPU, requests at once, context."""
        reading.put("software", self.software_of(reading))
        model = read_model(reading, folders)
        read_experts(reading, model)
        read_workload(reading, model)
        self.put_server(reading)
        if is_ollama(reading.front):
            tell(reading)
        read_gpus(reading, model)
        line = reading.line
        if (attention := line.last("-fa")) and attention.value.lower() in ("off", "0", "false"):
            reading.warn(attention, "not modelled: times are those of FlashAttention")
        if (threads := line.whole("-t", least=-1)) is not None and threads > 0:
            what = "all cores of the host compute experts; give it as many threads"
            reading.note(f"-t {threads}", f"{what}: --set hardware.host.threads={threads}")


class IkLlamaCpp(LlamaCpp):
    """ik_llama.cpp, a fork of llama.cpp with kernels of its own."""

    kind: ClassVar[str] = "ik_llama.cpp"
    softwares: ClassVar[tuple[str, ...]] = (
        "ik_llama.cpp",
        f"ik_llama.cpp{UNMAPPED}",
        REPACKING,
    )
    cpu_prompts: ClassVar[str] = REPACKED
    unmapped: ClassVar[tuple[str, ...]] = OLD_UNMAPPED
    last_words: ClassVar[tuple[str, ...]] = ()
    said_of_passes: ClassVar[Collection[tuple[str, bool]]] = ()
    own_notes: ClassVar[tuple[str, ...]] = (f"{NOTE}ik_llama.cpp: {KERNELS}",)
    options: ClassVar[Sequence[Option]] = IK_LLAMA_CPP

    def claims(self, words: Sequence[str]) -> bool:
        """With an option that only the fork has, or in a folder of its name."""
        return _is_ik(words)

    def put_server(self, reading: Reading) -> None:
        """Its passes are always the same."""

    def server_words(self, asked: Configuration) -> list[str]:
        """It has none of them."""
        del asked
        return []

    def understand(self, reading: Reading, folders: Folders) -> None:
        """As llama.cpp."""
        super().understand(reading, folders)
        reading.note("software", KERNELS)


_OF_IK = {name for row in IK_LLAMA_CPP[len(LLAMA_CPP) :] for name in row.names.split()}


def _is_ik(words: Sequence[str]) -> bool:
    options = any(word in _OF_IK for word in words)
    return options or any(f"ik_llama{end}" in word for end in (".cpp", "/", "\\") for word in words)


def _scheduler(asked: Configuration) -> Scheduler | None:
    """llama.cpp's; None where it has another, or none."""
    scheduler = getattr(asked.experiment.workload.batching, "scheduler", None)
    return scheduler if isinstance(scheduler, Scheduler) else None


def _batch(asked: Configuration) -> list[str]:
    """Requests at once, room for all of them, and the tokens of a pass."""
    workload = asked.experiment.workload
    parallel, chunk = workload.batching.in_flight, workload.prefill.chunk
    words = ["-c", str(asked.context_tokens * parallel)]
    if serves(asked):
        return words + served_words(asked, ROWS)
    words += ["-np", str(parallel)]
    return (
        words
        if chunk is None
        else [*words, "-b", str(max(chunk, LOGICAL_BATCH)), "-ub", str(chunk)]
    )


def _why_not(asked: Configuration) -> Iterator[str]:
    """What of the experiment llama.cpp has no words for."""
    yield from why_not_scheduled(asked, ROWS, "llama.cpp")
    experiment = asked.experiment
    if experiment.software == ALONE and (experiment.host_layers or 0) < len(asked.model.layers):
        yield f"software: {ALONE}: it is of machines without a GPU, and host_layers leaves it some"
    experts, gpus = experiment.experts, experiment.parallelism.expert
    if gpus > 1:
        yield f"parallelism.expert: {gpus}: llama.cpp splits layers over GPUs, never experts"
    if experiment.offload_layers:
        what = "llama.cpp computes on the CPU what is there, and copies no layers in decode steps"
        yield f"offload_layers: {what}; the nearest that runs is host_layers (-ngl)"
    if experiment.gating.drops or not experiment.gating.uneven:
        kind = kind_of(type(experiment.gating))
        yield f"gating: {kind}: llama.cpp computes what is routed, and neither pads nor drops"
    if asked.from_drive and (
        experiment.software.endswith(UNMAPPED) or experts.host.path == "direct"
    ):
        what = "llama.cpp reads what memory does not hold by page faults of its mapped file"
        yield f"experts.host: {what}, and in no other way (path: mmap, without --no-mmap)"
    if asked.slots is not None and not (experts.miss.copies_behind or asked.in_place):
        kind = kind_of(type(experts.miss))
        what = f"experts.capacity: {experts.capacity}, miss: {kind}: no release of llama.cpp keeps"
        what += " single experts on the GPU: a layer's are all there or all on the CPU"
        yield f"{what}. The nearest that runs is experts.on_cpu ('moesim fit' says how many layers)"
        yield (
            "pull request 27861 has --moe-expert-cache N: the CPU computes what is missing while it"
            " is loaded in the background; write experts.miss: background"
        )


def _split(asked: Configuration) -> list[str]:
    """Of each GPU how many layers; the output counts as one of the last."""
    if not asked.stages:
        return []
    *first, last = (len(share.model.layers) for share in asked.stages)
    return ["-sm", "layer", "-ts", ",".join(map(str, (*first, last + 1)))]


def _gguf_name(asked: Configuration) -> tuple[str, list[str]]:
    """The GGUF file of the line, and what is to be said of it."""
    model = asked.experiment.named.model
    if model.lower().endswith(GGUF):
        return model, []
    base, chosen = split_format(model)
    chosen, cache = split_cache(chosen) if chosen else (None, None)
    base = base.removesuffix("/config.json").rstrip("/").rpartition("/")[2] or base
    base = base.removesuffix(".json")
    if chosen is None:
        name, said = f"{base}{GGUF}", "in the formats of its config.json"
    elif chosen.lower() in RECIPES or chosen.lower() in SAME:
        name, said = f"{base}-{chosen}{GGUF}", f"in {chosen}"
    else:
        name, said = f"{base}{GGUF}", f"in the formats {chosen}, which no llama-quantize mix has"
    notes = [f"{NOTE}model: '{name}' stands for your GGUF file of {base}, {said}"]
    if cache and cache not in GGML_CACHES:
        notes.append(f"{NOTE}model: llama.cpp has no {cache} KV cache; -ctk q8_0 -ctv q8_0 is near")
    return name, notes


def _cache_words(asked: Configuration) -> list[str]:
    """The options of a KV cache in another format than the activations'."""
    cache = cache_of(asked.experiment.named.model)
    return ["-ctk", cache, "-ctv", cache] if cache in GGML_CACHES else []


def _defaults(asked: Configuration, engine: LlamaCpp) -> Iterator[str]:
    """What the line leaves to the engine, or says otherwise than the experiment."""
    experiment = asked.experiment
    workload = experiment.workload
    if experiment.software not in engine.softwares:
        what = f"its times are those of software '{experiment.software}', not of {engine.kind}"
        yield f"{NOTE}software: {what}"
    if not serves(asked):  # else its scheduler says both
        yield from _batch_notes(workload)
    if asked.stages:
        yield f"{NOTE}parallelism.pipeline: {OVERLAP}"
    if any(asked.on_cpu):
        yield f"{NOTE}threads: left to llama.cpp, which takes the physical cores (-t)"
    if isinstance(least := getattr(experiment.experts.miss, "copies_from", None), int):
        what = f"GGML_OP_OFFLOAD_MIN_BATCH={least} in the environment says so, and no option"
        yield f"{NOTE}experts.miss.copies_from: {what}"


def _batch_notes(workload: Workload) -> Iterator[str]:
    """What of batches that are known beforehand llama.cpp does otherwise."""
    if workload.batching.in_flight > 1 and kind_of(type(workload.batching)) != "refill":
        yield f"{NOTE}workload.batching: a server refills its slots at once (kind: refill)"
    if workload.prefill.chunk is None and workload.phase != "decode":
        what = f"prompts run whole; llama.cpp takes {PHYSICAL_BATCH} tokens at once (-ub)"
        yield f"{NOTE}workload.prefill.chunk: {what}"
