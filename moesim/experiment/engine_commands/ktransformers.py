"""ktransformers: kt-kernel under SGLang, which computes on the CPU what is not on the GPU."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import ClassVar

from moesim.config.errors import Problem
from moesim.config.registry import kind_of
from moesim.experiment.engine_commands.base import (
    NOTE,
    Configuration,
    EngineCommand,
    Folders,
    Reading,
)
from moesim.experiment.engine_commands.expert_tensors import on_cpu_key
from moesim.experiment.engine_commands.offload import put_offload
from moesim.experiment.engine_commands.served import why_not_scheduled
from moesim.experiment.engine_commands.serving import (
    batch_note,
    cache_words,
    checkpoint,
    put_batch,
    put_model,
    put_named,
    why_not_cached,
)
from moesim.experiment.engine_commands.sglang import (
    SERVER,
    Sglang,
    limits,
    read_server,
    software_note,
)
from moesim.experiment.engine_commands.sglang_options import KTRANSFORMERS
from moesim.experiment.engine_commands.words import Option
from moesim.experiment.loading.names import needed
from moesim.experiment.schema.parallelism import Parallelism
from moesim.hardware import HardwareProfile
from moesim.model import ModelSpec
from moesim.model.chosen import split_format
from moesim.model.named import from_checkpoint, from_gguf, opened

_METHODS: Mapping[str, str] = {
    "AMXINT4": "int4", "AMXINT8": "int8", "RAWINT4": "int4_g32", "FP8": "fp8_block", "BF16": "bf16",
    "MXFP4": "mxfp4",
}  # fmt: skip
"""Formats of the CPU's experts, in moesim's words."""
_OWN = {"bf16": "BF16", "fp8": "FP8", "mxfp4": "MXFP4"}
"""Methods that take a checkpoint's own experts, by their format."""
SERVED, LOCAL = "ktransformers@0.7", "ktransformers@0.2"
"""The profiles of kt-kernel under SGLang and of the releases before it."""
_LAYERS_FIRST = "front-loading"
_INITIAL = {"uniform": "lowest_ids", "frequency": "most_used", "random": "random"}
"""What ``experts.initial`` its rules of placement are, the first where none is named."""
_LOCAL = re.compile(r"(.*[/\\])?ktransformers([./\\](local_chat|server[./\\]main))?(\.py)?")
"""The programs of releases before kt-kernel."""


class Ktransformers(Sglang):
    """ktransformers: some experts of each layer on the GPU, the others computed by the CPU."""

    kind: ClassVar[str] = "ktransformers"
    softwares: ClassVar[tuple[str, ...]] = (SERVED, LOCAL)
    options: ClassVar[Sequence[Option]] = KTRANSFORMERS
    read_if_served: ClassVar[Collection[str]] = ()

    def begins(self, words: Sequence[str]) -> int | None:
        """Behind SGLang's server, or the local_chat of releases before kt-kernel."""
        if (server := super().begins(words)) is not None:
            return server
        places = (place for place, word in enumerate(words) if _LOCAL.fullmatch(word))
        return next((place + 1 for place in places), None)

    def claims(self, words: Sequence[str]) -> bool:
        """With an option of kt-kernel, or as local_chat."""
        return super().begins(words) is None or not super().claims(words)

    def write(self, asked: Configuration) -> EngineCommand:
        """A server with as many experts of each layer on the GPU as there are slots."""
        if reasons := list(_why_not(asked)):
            return EngineCommand(self.kind, None, tuple(reasons))
        name, chosen, notes = checkpoint(asked)
        method = _method(asked, chosen)
        host = _machine(asked)
        weights = name if method in _OWN.values() else f"{name.rpartition('/')[2]}-{method}"
        words = [*SERVER, "--model-path", name, "--kt-weight-path", weights]
        words += ["--kt-method", method, "--kt-num-gpu-experts", str(_on_gpu(asked))]
        words += [*_strategy(asked), *cache_words(asked)]
        words += ["--kt-cpuinfer", str(host.host.cores.value)]
        words += ["--kt-threadpool-count", str(host.host.numa_nodes.value), *limits(asked)]
        notes.append(f"{NOTE}weights: '{weights}' stands for the folder of the CPU's experts")
        notes += [*_which(asked), *filter(None, [asked.context_note]), *batch_note(asked)]
        if asked.experiment.software not in self.softwares:
            notes += software_note(asked)
        return EngineCommand(self.kind, shlex.join(words), tuple(notes))

    def understand(self, reading: Reading, folders: Folders) -> None:
        """As SGLang, and which experts the CPU computes."""
        line = reading.line
        if line.has("--gguf_path"):
            _read_local(reading, folders)
            return
        reading.put("software", SERVED)
        read_server(reading)
        name = put_model(reading, line.text("--model-path"), line.text("--quantization"), folders)
        model = opened(name, folders)
        _read_method(reading, name, model)
        _read_experts(reading, model)
        _read_threads(reading, "--kt-cpuinfer")
        put_offload(reading, None, zero_copy=False)


def _why_not(asked: Configuration) -> Iterator[str]:
    yield from why_not_scheduled(asked, (), "")
    yield from why_not_cached(asked, "SGLang")
    experiment = asked.experiment
    kind = kind_of(type(experiment.experts.miss))
    if experiment.parallelism.expert > 1:
        gpus = experiment.parallelism.expert
        yield f"parallelism.expert: {gpus}: with kt-kernel SGLang slices experts over GPUs"
    if experiment.host_layers:
        yield "host_layers: kt-kernel computes experts on the CPU, and no attention; llama.cpp does"
    if experiment.offload_layers:
        yield "offload_layers: kt-kernel computes experts on the CPU, and copies no layers"
    if (stages := experiment.parallelism.pipeline) > 1:
        yield f"parallelism.pipeline: {stages}: kt-kernel's experts are beside one GPU; write 1"
    if experiment.experts.miss.near_memory:
        yield "experts.miss.computed_by: near_memory: kt-kernel computes experts on the CPU"
    if any(asked.on_cpu) and not all(asked.on_cpu):
        what = f"{sum(asked.on_cpu)} of {len(asked.on_cpu)} layers: kt-kernel keeps a number of"
        yield f"experts.on_cpu: {what} experts of each layer on the GPU; llama.cpp has it"
    elif asked.slots is not None and kind != "cpu":
        what = "kt-kernel loads no experts in decode: the CPU computes what is missing"
        yield f"experts.miss: {kind}: {what} (miss: cpu)"
    if asked.from_drive:
        yield "experts.host: kt-kernel holds all experts that it computes in host memory"
    if experiment.gating.drops or not experiment.gating.uneven:
        yield f"gating: {kind_of(type(experiment.gating))}: neither pads nor drops"


def _on_gpu(asked: Configuration) -> int:
    """Experts of each layer on the GPU."""
    if all(asked.on_cpu):
        return 0
    return asked.slots or _most(asked.model)


def _strategy(asked: Configuration) -> list[str]:
    """The rule by which experts of a layer are on the GPU, where it is not the engine's own."""
    rules = {initial: rule for rule, initial in list(_INITIAL.items())[1:]}
    rule = rules.get(asked.experiment.experts.initial) if asked.slots else None
    return ["--kt-expert-placement-strategy", rule] if rule else []


def _which(asked: Configuration) -> list[str]:
    """What the rule needs."""
    if asked.slots is None or asked.experiment.experts.initial != "most_used":
        return []
    what = "moesim keeps the trace's most used experts, kt-kernel those of a recorded file"
    return [f"{NOTE}experts on the GPU: {what} (--init-expert-location)"]


def _method(asked: Configuration, chosen: str | None) -> str:
    """The method whose format the model's experts have; GGUF files' for any other."""
    first = asked.model.moe_layers[0].moe
    dtype = first.expert.dtype if first else ""
    own = next((method for form, method in _OWN.items() if dtype == form), None)
    named = (chosen or "").partition("experts=")[2].partition(",")[0] or chosen or ""
    by_format = {form: method for method, form in _METHODS.items()}
    return by_format.get(named) or own or "LLAMAFILE"


def _machine(asked: Configuration) -> HardwareProfile:
    one = asked.experiment
    machine: HardwareProfile = needed("hardware", one.hardware, one.folders)
    return machine


def _read_local(reading: Reading, folders: Folders) -> None:
    """A model of GGUF files, whose routed experts are all computed by the CPU in decode."""
    line = reading.line
    reading.put("software", LOCAL)
    found = from_gguf(str(line.text("--gguf_path")), folders)
    known = split_format(found.model)[1] is not None
    if found.wrong and not known and (named := line.text("--model_path")):
        whole = from_checkpoint(named, folders)
        wrong = "the format of --gguf_path is not known; read as the model's own"
        found = whole._replace(wrong=(*whole.wrong, wrong))
    put_named(reading, found)
    model = opened(found.model, folders)
    reading.put("experts.on_cpu", {"layers": len(model.moe_layers)} if model else None)
    _read_threads(reading, "--cpu_infer")
    _read_requests(reading)


def _read_requests(reading: Reading) -> None:
    """Requests at once of its server, whose cache they share, and the tokens of a prompt's pass."""
    line = reading.line
    if (batch := line.whole("--max_batch_size", 1)) is not None:
        put_batch(reading, "--max_batch_size", batch)
    reading.put("workload.prefill.chunk", line.whole("--chunk_size", 1))
    if (cached := line.whole("--cache_lens", 1)) is not None:
        reading.context_tokens = max(1, cached // (batch or 1))


def _read_threads(reading: Reading, option: str) -> None:
    if (threads := reading.line.whole(option, 1)) is not None:
        what = "all cores of the host compute experts; give it as many"
        reading.note(f"{option} {threads}", f"{what}: --set hardware.host.cores={threads}")


def _read_method(reading: Reading, name: str, model: ModelSpec | None) -> None:
    """Put the format of experts where the CPU's is another than the checkpoint's."""
    given = reading.line.last("--kt-method")
    method = given.value.upper() if given else "AMXINT4"
    if model is None or not model.moe_layers:
        return
    if (form := _METHODS.get(method)) is None:
        reading.warn(f"--kt-method {method}", "not modelled: experts as the model has them")
        return
    first = model.moe_layers[0].moe
    if (first and form.startswith(first.expert.dtype)) or "@" in name:
        return
    reading.put("model", f"{name}@experts={form}")
    what = f"the CPU's experts are in {form}, and so are those of the GPU and attention is plain"
    reading.note(f"--kt-method {method}", what)


def _read_experts(reading: Reading, model: ModelSpec | None) -> None:
    """How many experts of each layer are on the GPU; the CPU computes the others."""
    count = _number(reading, model)
    if count is None:
        reading.warn("experts", "how many are on the GPU is not said (--kt-num-gpu-experts)")
        return
    layers, most = len(model.moe_layers) if model else 0, _most(model)
    strategy = reading.line.text("--kt-expert-placement-strategy") or "uniform"
    if model and most and strategy == _LAYERS_FIRST:
        on_gpu, blocks = int(count * layers / most), [layer.index for layer in model.moe_layers]
        flags = [place >= on_gpu for place in range(layers)]  # whole layers, from the first on
        reading.put("experts.on_cpu", on_cpu_key(blocks, flags))
        return
    if count < 1:
        reading.put("experts.on_cpu", {"layers": layers} if layers else None)
        return
    if most and count >= most:
        return
    asked = Parallelism.model_validate(reading.experiment.get("parallelism", {}))
    slots = f"{max(1, int(count) * asked.slices // asked.expert)} slots/layer"
    initial = _INITIAL.get(strategy, "most_used")
    reading.put("experts", {"capacity": slots, "miss": {"kind": "cpu"}, "initial": initial})
    if strategy not in _INITIAL:
        what = f"'{strategy}' is no known rule; read as the most used of the trace"
        reading.warn("experts on the GPU", f"not modelled: {what}")


def _number(reading: Reading, model: ModelSpec | None) -> float | None:
    """Experts of a layer on the GPU, in the mean."""
    line = reading.line
    if (given := line.last("--kt-gpu-experts-ratio")) is None:
        return line.whole("--kt-num-gpu-experts")
    try:
        share = float(given.value)
    except ValueError:
        share = -1
    if not 0 <= share <= 1:
        what = f"'{given.value}' is no share from 0 to 1; write one"
        line.problems.append(Problem(given.word, "", what))
        return None
    return share * _most(model) if model else None


def _most(model: ModelSpec | None) -> int:
    """Experts of a layer; 0 where the model is not known."""
    layers = model.moe_layers if model else ()
    return max((layer.moe.experts for layer in layers if layer.moe), default=0)
