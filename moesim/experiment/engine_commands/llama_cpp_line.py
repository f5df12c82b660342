"""What a line of llama.cpp says: the model, where its experts are, GPUs and requests."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from math import inf

from moesim.config.counted import counted
from moesim.config.errors import InputError, Problem
from moesim.experiment.engine_commands.base import Configuration, Folders, Reading
from moesim.experiment.engine_commands.expert_tensors import (
    Kept,
    Override,
    all_experts,
    first_blocks,
    kept,
    on_cpu_key,
    overrides_of,
)
from moesim.experiment.engine_commands.front import visible_gpus
from moesim.experiment.engine_commands.served import LLAMA_CPP as ROWS
from moesim.experiment.engine_commands.served import put_served
from moesim.experiment.engine_commands.serving import put_named
from moesim.experiment.engine_commands.words import Given, Line
from moesim.memory.footprint.shares import stages
from moesim.memory.host.on_cpu import OnCpu
from moesim.model import ModelSpec
from moesim.model.chosen import GGML_CACHES, with_cache_in
from moesim.model.named import Named, from_gguf, opened, usual_mix
from moesim.workload.serving.llama_cpp import LlamaCpp as Scheduler
from moesim.workload.serving.llama_cpp import servers_own

PHYSICAL_BATCH, LOGICAL_BATCH = 512, 2048
"""Defaults of -ub and -b."""
_GPU = re.compile(r"=(?:CUDA|ROCm|Vulkan|SYCL|MUSA)([0-9]{1,2})(?:[,;]|$)")
BATCHED = ("-npp", "-ntg", "-npl")
"""llama-batched-bench's lists: prompts, answers, and how many requests at once."""
BENCH_ANSWER = 128
"""Tokens of llama-bench's answers (-n)."""
MAPPED_MODES, UNMAPPED_MODES = ("auto", "mmap", "mmap+mlock"), ("none", "mlock", "dio")
"""Of -lm."""
OVERLAP = (
    "GPUs that hold layers each work one after the other here; llama.cpp overlaps parts of a prompt"
)
REPACKED = "-rtr"
"""Experts whose rows are interleaved, for which the GPU has no kernels; nothing is mapped then."""


def maps(reading: Reading) -> bool:
    """Whether weights on the CPU are a mapping of the file."""
    line = reading.line
    given, mode = line.text("-mmp"), line.text("-lm")
    if mode is not None and mode not in {*MAPPED_MODES, *UNMAPPED_MODES}:
        reading.warn(f"-lm {mode}", "not read: no such mode; mapped, as by default")
    unmapped = line.has("--no-mmap") or line.on("-dio") or line.has(REPACKED)
    return not (unmapped or given == "0" or mode in UNMAPPED_MODES)


def read_model(reading: Reading, folders: Folders) -> ModelSpec | None:
    """Put the model, and return it where it can be opened."""
    line = reading.line
    if (found := _named(line, folders)) is None:
        reading.warn("model", "none is named (-m, -hf); write one")
        return None
    latent = _caches_latents(opened(found.model, folders))
    found = found._replace(model=_with_cache(reading, found.model, latent=latent))
    put_named(reading, found)
    return opened(found.model, folders)


def _caches_latents(model: ModelSpec | None) -> bool:
    """Whether the cache is of latents, which stand where keys do."""
    return model is not None and all(layer.attention.latent for layer in model.layers)


def _with_cache(reading: Reading, model: str, *, latent: bool) -> str:
    """``model`` with the KV cache that the line has: one of 16 bits, or one format for both, or of
    a ``latent`` that of keys.
    """
    keys, values = ((reading.line.text(name) or "f16").lower() for name in ("-ctk", "-ctv"))
    values = keys if latent else values
    if keys == values and keys in GGML_CACHES:
        return with_cache_in(model, keys)
    what = f"not modelled: keys and values have one format here ({', '.join(GGML_CACHES)})"
    for option, dtype in (("-ctk", keys), ("-ctv", values)):
        if dtype not in ("f16", "bf16"):
            reading.warn(f"{option} {dtype}", f"{what}; 16 bits are taken")
    return model


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


def read_experts(reading: Reading, model: ModelSpec | None) -> None:
    """Which layers' experts are on the CPU."""
    line = reading.line
    gpu_layers = 0 if no_gpu(line) else _gpu_layers(reading)
    overrides = list(_overrides(line, len(model.layers) if model else 0))
    if model is None:
        _read_unknown(reading)
        return
    on_host = gpu_layers is not None and gpu_layers <= len(model.layers)
    blocks = [layer.index for layer in model.moe_layers]
    found = kept(blocks, len(model.layers), overrides)
    if (slots := line.whole("--moe-expert-cache", least=1)) is None:
        reading.put("experts.on_cpu", on_cpu_key(blocks, found.on_cpu))
        copies = not (line.on("--no-op-offload") or line.has(REPACKED) or no_gpu(line))
        if not copies and (any(found.on_cpu) or on_host):
            reading.put("experts.miss", {"kind": "cpu", "copies_from": "never"})
    else:
        _read_cache(reading, slots, all_on_cpu=all(found.on_cpu))
    _tell_rest(reading, found, blocks)
    if on_host:
        reading.put("host_layers", len(model.layers) + 1 - max(1, gpu_layers or 0))
        if not gpu_layers:
            given = "-dev none" if no_gpu(line) else "-ngl 0"
            reading.warn(given, "not modelled: the output's product on the CPU")


def _tell_rest(reading: Reading, found: Kept, blocks: Sequence[int]) -> None:
    """What of the overrides no key says, where the MoE layers are ``blocks``."""
    if found.parted:
        count = counted(len(found.parted), "layer")
        what = f"only parts of the experts of {count} are on the CPU; each is read as a whole"
        reading.warn("-ot", f"{what}, where most of it is")
    if found.others:
        names = f"{found.others[0]}, {counted(len(found.others), 'tensor')} in all"
        reading.warn("-ot", f"not modelled: what is on the CPU beside experts ({names})")
    for pattern in found.idle:
        if any(pattern in given.value for given in reading.line.all("-ot")):
            like = f"blk.{blocks[0] if blocks else 0}.ffn_up_exps.weight"
            reading.warn(
                f"-ot {pattern}", f"finds no tensor, and moves none; names are like {like}"
            )
    if found.devices:
        what = f"experts on {', '.join(found.devices)}; read with their layers"
        reading.warn("-ot", f"not modelled: {what}")


def no_gpu(line: Line) -> bool:
    """Whether the CPU computes all."""
    return (devices := line.last("-dev")) is not None and devices.value == "none"


def read_gpus(reading: Reading, model: ModelSpec | None) -> None:
    """How many GPUs the layers are split over."""
    line = reading.line
    mode, shares, devices = line.last("-sm"), line.last("-ts"), line.last("-dev")
    if no_gpu(line) or (mode is not None and mode.value == "none"):
        return
    seen = visible_gpus(reading.front) or _named_gpus(line)
    count = len(devices.value.split(",")) if devices is not None else seen
    if shares is not None and (found := _shares(line, shares)):
        count = len(found)
        if model is not None and not _as_divided(found, reading, model):
            what = "read as the layers on each GPU that make the fullest one's bytes the fewest"
            reading.warn(shares, f"not modelled: {what}")
    if count == 1:
        return
    if reading.experiment.get("host_layers"):
        what = f"{count} GPUs beside layers on the CPU (-ngl); read as one"
        reading.warn(shares or devices or "CUDA_VISIBLE_DEVICES", f"not modelled: {what}")
        return
    reading.put("parallelism.pipeline", count)
    if mode is not None and mode.value != "layer":
        reading.warn(mode, "not modelled: parts of each layer on every GPU; read as whole layers")
    reading.note("parallelism.pipeline", OVERLAP)


def _named_gpus(line: Line) -> int:
    """How many GPUs there are by the highest that an override names, of those that are not said to
    be hidden.
    """
    names = [name for given in line.all("-ot") for name in _GPU.findall(given.value)]
    return max((int(name) + 1 for name in names), default=1)


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


def read_workload(reading: Reading, model: ModelSpec | None) -> None:
    """Requests at once, their context, and the tokens of a pass."""
    line = reading.line
    if line.has("-npl"):
        _read_batched(reading)
        return
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
    _read_context(reading, model, max(1, parallel or 1))


def _read_context(reading: Reading, model: ModelSpec | None, parallel: int) -> None:
    """The tokens of one of ``parallel`` slots, or of a benchmark."""
    line = reading.line
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
        slots = 1 if line.has("-kvu") else parallel  # where none are said, one cache
        if slots > context:
            what = f"{slots} slots share the {context} tokens of -c, not one each"
            line.problems.append(Problem("-np", "", f"{what}; write fewer, or a larger -c"))
        limit = line.whole("--kv-unified-per-slot", least=1) or context
        reading.context_tokens = max(1, min(context // slots, limit))
    if reading.served:
        reading.put("workload.batching.scheduler.slot_context", reading.context_tokens)


def _read_batched(reading: Reading) -> None:
    """One of llama-batched-bench's batches: so many prompts at once, and their answers."""
    *lengths, at_once = (reading.line.whole(name, least=1) for name in BATCHED)
    reading.put("workload.batching", {"kind": "static", "batch_size": at_once})
    reading.context_tokens = sum(length or 0 for length in lengths) or None
    _read_chunk(reading)


def put_server(reading: Reading) -> None:
    """Put what a line of llama.cpp's server says of its passes."""
    if not reading.served:
        return
    if reading.line.has("-kvu"):
        reading.put("workload.batching.scheduler.kv_unified", True)
    if reading.line.whole("-ctxcp") == 0:
        reading.put("workload.batching.scheduler.checkpoints", False)


def server_words(scheduler: Scheduler, asked: Configuration) -> list[str]:
    """The options of a server that schedules so."""
    words = []
    if scheduler.kv_unified:
        words = ["-kvu", "--kv-unified-per-slot", str(asked.context_tokens)]
    if scheduler.checkpoints is False and servers_own("llama.cpp", asked.model)["checkpoints"]:
        words += ["-ctxcp", "0"]
    return words


def _read_chunk(reading: Reading) -> None:
    """The prompt tokens of a pass."""
    physical, logical = (reading.line.whole(name, least=1) for name in ("-ub", "-b"))
    chunk = min(physical or PHYSICAL_BATCH, logical or LOGICAL_BATCH)
    reading.put("workload.prefill.chunk", chunk)
    if physical is None:
        reading.note("-ub", f"not given: {chunk} prompt tokens at once, llama.cpp's default")
