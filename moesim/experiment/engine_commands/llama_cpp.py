"""llama.cpp, and ik_llama.cpp, its fork."""

from __future__ import annotations

import re
import shlex
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate
from math import inf
from typing import ClassVar

from moesim.config.counted import counted
from moesim.config.errors import InputError, Problem
from moesim.config.registry import kind_of
from moesim.experiment.engine_commands.base import (
    NOTE,
    Configuration,
    Engine,
    EngineCommand,
    Folders,
    Reading,
)
from moesim.experiment.engine_commands.expert_tensors import (
    Override,
    all_experts,
    first_blocks,
    kept,
    on_cpu_key,
    overrides_of,
    words_of,
)
from moesim.experiment.engine_commands.llama_cpp_options import IK_LLAMA_CPP, LLAMA_CPP
from moesim.experiment.engine_commands.served import LLAMA_CPP as ROWS
from moesim.experiment.engine_commands.served import (
    put_served,
    served_notes,
    served_words,
    serves,
    why_not_scheduled,
)
from moesim.experiment.engine_commands.serving import put_named
from moesim.experiment.engine_commands.words import Given, Line, Option
from moesim.memory.misses.cpu import Cpu
from moesim.memory.on_cpu import OnCpu
from moesim.memory.shares import stages
from moesim.model import ModelSpec
from moesim.model.chosen import (
    GGML_CACHES,
    cache_of,
    split_cache,
    split_format,
    with_cache_in,
)
from moesim.model.gguf.recipes import RECIPES, SAME
from moesim.model.named import Named, from_gguf, opened, usual_mix
from moesim.model.repositories import GGUF
from moesim.workload.serving.llama_cpp import LlamaCpp as Scheduler

PHYSICAL_BATCH, LOGICAL_BATCH = 512, 2048
"""Defaults of -ub and -b."""
ALL_LAYERS = 99
BENCH_ANSWER = 128
"""Tokens of llama-bench's answers (-n)."""
USUAL_SLOTS = Scheduler().max_num_seqs
"""Of a server that is not told."""
UNMAPPED = "-no-mmap"
"""Ends the name of software whose weights on the CPU are not mapped."""
MAPPED_MODES, UNMAPPED_MODES = ("auto", "mmap", "mmap+mlock"), ("none", "mlock", "dio")
"""Of -lm."""
OVERLAP = (
    "GPUs that hold layers each work one after the other here; llama.cpp overlaps parts of a prompt"
)
KERNELS = "its products on the CPU are its own; on the GPU prices are llama.cpp's"
REPACKED = "-rtr"
"""Experts whose rows are interleaved, for which the GPU has no kernels; nothing is mapped then."""
REPACKING = "ik_llama.cpp@2025-05"
"""The profile whose times are those with it."""
_PROGRAM = re.compile(
    r"llama-(server|cli|completion|bench|batched-bench|sweep-bench|parallel|perplexity|mtmd-cli)"
    r"(\.exe)?|.*llama\.cpp:(server|full|light)\S*"
)


class LlamaCpp(Engine):
    """llama.cpp: experts of whole layers on the GPU or on the CPU."""

    kind: ClassVar[str] = "llama.cpp"
    softwares: ClassVar[tuple[str, ...]] = (
        "llama.cpp",
        f"llama.cpp{UNMAPPED}",
        "llama.cpp-cache",
        "llama.cpp@b6xxx",
    )
    options: ClassVar[Sequence[Option]] = LLAMA_CPP
    read_if_served: ClassVar[Collection[str]] = tuple(row.option for row in ROWS)
    cpu_prompts: ClassVar[str] = "--no-op-offload"
    """By which the CPU computes prompts of its experts, too."""
    last_words: ClassVar[tuple[str, ...]] = ("-fa", "on")
    own_notes: ClassVar[tuple[str, ...]] = ()

    def begins(self, words: Sequence[str]) -> int | None:
        """Behind ``llama-server`` and its like."""
        names = [re.split(r"[/\\]", word)[-1] for word in words]
        places = (place for place, name in enumerate(names) if _PROGRAM.fullmatch(name))
        return next((place + 1 for place in places), None)

    def claims(self, words: Sequence[str]) -> bool:
        """Unless it is the fork's."""
        return not _is_ik(words)

    def write(self, asked: Configuration) -> EngineCommand:
        """A ``llama-server`` that keeps the first layers' experts on the CPU."""
        if reasons := list(_why_not(asked)):
            return EngineCommand(self.kind, None, tuple(reasons))
        name, notes = _gguf_name(asked)
        host, layers = asked.experiment.host_layers, len(asked.model.layers)
        on_gpu = layers + 1 - host if host else ALL_LAYERS
        words = ["llama-server", "-m", name, "-ngl", str(on_gpu)]
        words += words_of([layer.index for layer in asked.model.moe_layers], asked.on_cpu)
        if any(asked.on_cpu) and Cpu(copies_from="never") == asked.experiment.experts.miss:
            words.append(self.cpu_prompts)
        words += ["--no-mmap"] * asked.experiment.software.endswith(UNMAPPED)
        words += [REPACKED] * (asked.experiment.software == REPACKING and REPACKED not in words)
        words += _split(asked)
        if asked.slots is not None and not asked.in_place:
            words += ["--cpu-moe", "--moe-expert-cache", str(asked.slots)]
            notes.append(f"{NOTE}--moe-expert-cache: of pull request 27861, in no release")
        words += [*_batch(asked), *_cache_words(asked), *self.last_words]
        notes += [*filter(None, [asked.context_note]), *_defaults(asked, self), *self.own_notes]
        notes += served_notes(asked, ROWS)
        return EngineCommand(self.kind, shlex.join(words), tuple(notes))

    def understand(self, reading: Reading, folders: Folders) -> None:
        """Model, experts on the CPU, requests at once, context."""
        reading.put("software", self.kind + ("" if _maps(reading) else UNMAPPED))
        model = _read_model(reading, folders)
        _read_experts(reading, model)
        _read_workload(reading, model)
        _read_gpus(reading, model)
        line = reading.line
        if (attention := line.last("-fa")) and attention.value.lower() in ("off", "0", "false"):
            reading.warn(attention, "not modelled: times are those of FlashAttention")
        if (threads := line.whole("-t", least=-1)) is not None:
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
    last_words: ClassVar[tuple[str, ...]] = ()
    own_notes: ClassVar[tuple[str, ...]] = (f"{NOTE}ik_llama.cpp: {KERNELS}",)
    options: ClassVar[Sequence[Option]] = IK_LLAMA_CPP

    def claims(self, words: Sequence[str]) -> bool:
        """With an option that only the fork has, or in a folder of its name."""
        return _is_ik(words)

    def understand(self, reading: Reading, folders: Folders) -> None:
        """As llama.cpp."""
        super().understand(reading, folders)
        reading.note("software", KERNELS)


_OF_IK = {name for row in IK_LLAMA_CPP[len(LLAMA_CPP) :] for name in row.names.split()}


def _is_ik(words: Sequence[str]) -> bool:
    options = any(word in _OF_IK for word in words)
    return options or any(f"ik_llama{end}" in word for end in (".cpp", "/", "\\") for word in words)


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


def _with_cache(reading: Reading, model: str) -> str:
    """``model`` with the KV cache that the line has: one of 16 bits, or one format for both."""
    keys, values = ((reading.line.text(name) or "f16").lower() for name in ("-ctk", "-ctv"))
    if keys == values and keys in GGML_CACHES:
        return with_cache_in(model, keys)
    what = f"not modelled: keys and values have one format here ({', '.join(GGML_CACHES)})"
    for option, dtype in (("-ctk", keys), ("-ctv", values)):
        if dtype not in ("f16", "bf16"):
            reading.warn(f"{option} {dtype}", f"{what}; 16 bits are taken")
    return model


def _defaults(asked: Configuration, engine: LlamaCpp) -> Iterator[str]:
    """What the line leaves to the engine, or says otherwise than the experiment."""
    experiment = asked.experiment
    workload = experiment.workload
    if experiment.software not in engine.softwares:
        what = f"its times are those of software '{experiment.software}', not of {engine.kind}"
        yield f"{NOTE}software: {what}"
    if workload.batching.in_flight > 1 and kind_of(type(workload.batching)) != "refill":
        yield f"{NOTE}workload.batching: a server refills its slots at once (kind: refill)"
    if workload.prefill.chunk is None and workload.phase != "decode":
        what = f"prompts run whole; llama.cpp takes {PHYSICAL_BATCH} tokens at once (-ub)"
        yield f"{NOTE}workload.prefill.chunk: {what}"
    if asked.stages:
        yield f"{NOTE}parallelism.pipeline: {OVERLAP}"
    if any(asked.on_cpu):
        yield f"{NOTE}threads: left to llama.cpp, which takes the physical cores (-t)"
    if isinstance(least := getattr(experiment.experts.miss, "copies_from", None), int):
        what = f"GGML_OP_OFFLOAD_MIN_BATCH={least} in the environment says so, and no option"
        yield f"{NOTE}experts.miss.copies_from: {what}"


def _maps(reading: Reading) -> bool:
    """Whether weights on the CPU are a mapping of the file."""
    line = reading.line
    given, mode = line.text("-mmp"), line.text("-lm")
    if mode is not None and mode not in {*MAPPED_MODES, *UNMAPPED_MODES}:
        reading.warn(f"-lm {mode}", "not read: no such mode; mapped, as by default")
    unmapped = line.has("--no-mmap") or line.has(REPACKED)
    return not (unmapped or given == "0" or mode in UNMAPPED_MODES)


def _read_model(reading: Reading, folders: Folders) -> ModelSpec | None:
    """Put the model, and return it where it can be opened."""
    line = reading.line
    if (found := _named(line, folders)) is None:
        reading.warn("model", "none is named (-m, -hf); write one")
        return None
    found = found._replace(model=_with_cache(reading, found.model))
    put_named(reading, found)
    return opened(found.model, folders)


def _named(line: Line, folders: Folders) -> Named | None:
    if path := line.text("-m"):
        return from_gguf(path, folders)
    if not (asked := line.text("-hf")):
        return None
    repository, _, mix = asked.partition(":")
    if file := line.text("-hff"):
        return from_gguf(file, folders)
    if mix:
        return from_gguf(repository, (), mix)
    usual = usual_mix(repository)
    found = from_gguf(repository, (), usual)
    assumed = f"-hf names no mix: {usual}, as llama.cpp takes of such a repository"
    return found._replace(assumed=(*found.assumed, assumed))


def _read_experts(reading: Reading, model: ModelSpec | None) -> None:
    """Which layers' experts are on the CPU."""
    line, gpu_layers = reading.line, _gpu_layers(reading)
    overrides = list(_overrides(line, len(model.layers) if model else 0))
    if model is None:
        _read_unknown(reading)
        return
    blocks = [layer.index for layer in model.moe_layers]
    found = kept(blocks, len(model.layers), overrides)
    if (slots := line.whole("--moe-expert-cache", least=1)) is None:
        reading.put("experts.on_cpu", on_cpu_key(blocks, found.on_cpu))
        if (line.has("--no-op-offload") or line.has(REPACKED)) and any(found.on_cpu):
            reading.put("experts.miss", {"kind": "cpu", "copies_from": "never"})
    else:
        _read_cache(reading, slots, all_on_cpu=all(found.on_cpu))
    if found.parted:
        count = counted(len(found.parted), "layer")
        what = f"only parts of the experts of {count} are on the CPU; each is read as a whole"
        reading.warn("-ot", f"{what}, where most of it is")
    if found.others:
        names = f"{found.others[0]}, {counted(len(found.others), 'tensor')} in all"
        reading.warn("-ot", f"not modelled: what is on the CPU beside experts ({names})")
    if found.devices:
        what = f"experts on {', '.join(found.devices)}; read with their layers"
        reading.warn("-ot", f"not modelled: {what}")
    if gpu_layers is not None and gpu_layers <= len(model.layers):
        reading.put("host_layers", len(model.layers) + 1 - max(1, gpu_layers))
        if not gpu_layers:
            reading.warn("-ngl 0", "not modelled: the output's product on the CPU")


def _read_gpus(reading: Reading, model: ModelSpec | None) -> None:
    """How many GPUs the layers are split over."""
    line = reading.line
    mode, shares, devices = line.last("-sm"), line.last("-ts"), line.last("-dev")
    if devices is not None and devices.value == "none":
        reading.warn(devices, "not modelled: a run without a GPU")
    if mode is not None and mode.value == "none":
        return
    count = len(devices.value.split(",")) if devices is not None else 1
    if shares is not None and (found := _shares(line, shares)):
        count = len(found)
        if model is not None and not _as_divided(found, reading, model):
            what = "read as the layers on each GPU that make the fullest one's bytes the fewest"
            reading.warn(shares, f"not modelled: {what}")
    if count == 1:
        return
    if reading.experiment.get("host_layers"):
        what = f"{count} GPUs beside layers on the CPU (-ngl); read as one"
        reading.warn(shares or devices, f"not modelled: {what}")
        return
    reading.put("parallelism.pipeline", count)
    if mode is not None and mode.value != "layer":
        reading.warn(mode, "not modelled: parts of each layer on every GPU; read as whole layers")
    reading.note("parallelism.pipeline", OVERLAP)


def _shares(line: Line, given: Given) -> list[float]:
    """What -ts gives each GPU that has something."""
    try:
        found = [float(share) for share in re.split(r"[,/]+", given.value)]
    except ValueError:
        found = []
    if not found or not all(0 <= share < inf for share in found) or not any(found):
        what = f"'{given.value}' has no share of each GPU; write 1,1"
        line.problems.append(Problem(given.word, "", what))
        return []
    return [share for share in found if share]


def _as_divided(shares: Sequence[float], reading: Reading, model: ModelSpec) -> bool:
    """Whether ``shares`` of the layers and the output, which llama.cpp divides by their number, end
    within a layer of where moesim's stages do.
    """
    ends = [end / sum(shares) for end in accumulate(shares)][:-1]
    every = len(model.layers) + 1
    places = [bisect_right(ends, place / every) for place in range(every)]
    firsts = [places.index(gpu) if gpu in places else every for gpu in range(1, len(shares))]
    if len(shares) > len(model.layers):
        return False
    on_cpu = OnCpu(**reading.experiment.get("experts", {}).get("on_cpu", {})).of(model)
    moe = [layer.moe for layer in model.moe_layers if layer.moe]
    slots = [0 if host else one.experts for one, host in zip(moe, on_cpu, strict=True)]
    batching = reading.experiment.get("workload", {}).get("batching", {})
    tokens = (reading.context_tokens or 0) * batching.get("batch_size", 1)
    cached = [
        min(tokens, layer.attention.window or tokens) * layer.attention.kv_bytes_per_token
        for layer in model.layers
    ]
    own = [share.layers[0] for share in stages(model, slots, cached, len(shares))[1:]]
    return all(abs(first - mine) <= 1 for first, mine in zip(firsts, own, strict=True))


def _read_cache(reading: Reading, slots: int, *, all_on_cpu: bool) -> None:
    """The slots of the layers on the CPU (pull request 27861)."""
    reading.put("software", "llama.cpp-cache")
    reading.put("experts.capacity", f"{slots} slots/layer")
    reading.put("experts.miss", {"kind": "background"})
    if not all_on_cpu:
        what = "slots beside layers that are whole on the GPU are not modelled; read as of all"
        reading.warn(f"--moe-expert-cache {slots}", what)


def _read_unknown(reading: Reading) -> None:
    """Without the model its layers are not known."""
    line = reading.line
    count = line.whole("-ncmoe")
    if count and not line.has("-ot"):
        reading.put("experts.on_cpu", {"layers": count})
        reading.note(f"-ncmoe {count}", "counted as MoE layers; dense ones count in llama.cpp too")
    elif line.all("-ot", "-cmoe", "-ncmoe"):
        reading.warn("experts on the CPU", "not read: which layers, only the model's file says")


def _overrides(line: Line, layers: int) -> Iterator[Override]:
    """Those of all options for a model of so many ``layers``, in the order of the line."""
    line.whole("-ncmoe")
    for given in line.all("-ot", "-cmoe", "-ncmoe"):
        match given.option.name:
            case "-ot" if given.value:
                try:
                    yield from overrides_of(given.word, given.value)
                except InputError as error:
                    line.problems += error.problems
            case "-cmoe":
                yield all_experts()
            case "-ncmoe" if given.value.isdecimal():
                yield from first_blocks(min(int(given.value), layers))


def _gpu_layers(reading: Reading) -> int | None:
    """The number of -ngl; None for all of them."""
    asked = reading.line.text("-ngl")
    if asked is None:
        what = "not given: all layers are read as on the GPU, as recent releases have it"
        if reading.line.all("-ot", "-cmoe", "-ncmoe"):
            reading.note("-ngl", f"{what}; older ones put none there")
        else:
            more = "where a model does not fit, they move experts to the CPU by themselves (--fit)"
            reading.warn("-ngl", f"{what}; {more}: 'moesim fit' says of how many layers")
        return None
    if asked in ("all", "auto") or not asked:
        return None
    number = reading.line.whole("-ngl", least=-2)
    return None if number is None or number < 0 else number


def _read_workload(reading: Reading, model: ModelSpec | None) -> None:
    """Requests at once, their context, and the tokens of a pass."""
    line = reading.line
    parallel = line.whole("-np", least=-1)
    if reading.served:
        put_served(reading, ROWS, "llama.cpp")
    elif parallel is not None and parallel > 0:
        reading.put("workload.batching", {"kind": "refill", "batch_size": parallel})
    else:
        reading.note(
            "-np", "not given: one request at a time; a server has up to 4 slots by itself"
        )
    if not reading.served:
        _read_chunk(reading)
    context = line.whole("-c")
    if line.has("-d"):  # llama-bench: an answer behind so many tokens
        answer = line.whole("-n") if line.has("-n") else BENCH_ANSWER
        reading.context_tokens = max(1, (line.whole("-d") or 0) + (answer or 0))
        return
    if (given := line.last("-n")) is not None:
        reading.note(given, "answers are as long as the trace's")
    if context == 0:
        context = model.longest_context if model else None
        reading.context_tokens = context
    elif context is not None:
        usual = USUAL_SLOTS if reading.served else 1
        slots = 1 if line.has("-kvu") else max(1, parallel or usual)
        if slots > context:
            what = f"{slots} slots share the {context} tokens of -c, not one each"
            line.problems.append(Problem("-np", "", f"{what}; write fewer, or a larger -c"))
        reading.context_tokens = max(1, context // slots)
    if reading.served:
        reading.put("workload.batching.scheduler.slot_context", reading.context_tokens)


def _read_chunk(reading: Reading) -> None:
    """The prompt tokens of a pass."""
    physical, logical = (reading.line.whole(name, least=1) for name in ("-ub", "-b"))
    chunk = min(physical or PHYSICAL_BATCH, logical or LOGICAL_BATCH)
    reading.put("workload.prefill.chunk", chunk)
    if physical is None:
        reading.note("-ub", f"not given: {chunk} prompt tokens at once, llama.cpp's default")
