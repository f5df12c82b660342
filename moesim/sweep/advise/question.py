"""A question without a file: a model and a machine by name, from which the experiment is made."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from moesim.config.amounts.sizes import GIB
from moesim.config.arguments import check_out
from moesim.config.document import Document, Mark
from moesim.config.errors import InputError, Problem
from moesim.config.files.paths import look_up
from moesim.config.names import known_name
from moesim.config.strict_yaml.overrides import parse_override
from moesim.experiment.engine_commands import engine_with, registry
from moesim.experiment.loading.default_trace import default_trace
from moesim.experiment.loading.resolve import PYTHON, Resolved, Source, load_experiment
from moesim.experiment.schema.layout import undivided_heads
from moesim.experiment.schema.setting import with_setting
from moesim.hardware import (
    HardwareProfile,
    gpu_names,
    load_hardware,
    machine_named,
    near_machine,
    software_names,
)
from moesim.hardware.choice import choice_in, is_choice
from moesim.hardware.choice import text_of as machine_text
from moesim.hardware.choice import words as machine_words
from moesim.hardware.described.software_backend import BACKENDS
from moesim.hardware.described.versions import near_software, software_named
from moesim.hardware.layers import part_names
from moesim.hardware.load import unified_names
from moesim.model import ModelSpec, load_model, model_names, named
from moesim.model.chosen import split_format
from moesim.model.gguf.recipes import RECIPES, SAME
from moesim.model.gguf.usual import NATIVE, nearest_mix, plain_note, usual_recipe
from moesim.model.repositories import is_checkpoint
from moesim.sweep.advise.abilities import (
    ANY,
    ENGINES,
    REQUESTS,
    STAGES,
    STOCK,
    Abilities,
    Asks,
    engine_named,
)

HOSTS = tuple(f"ddr5-6000-2ch-{size}gb" for size in (64, 96, 128, 192))
"""What is assumed of the host: the first of them that holds the model's experts."""
FEW = 8
"""Requests at once up to which llama.cpp is assumed."""
LLAMA_CPP, VLLM = "llama.cpp", "vllm"
OPTIONS = {
    "model": "MODEL", "hardware.gpu": "--gpu", "hardware.host": "--host",
    "hardware.link": "--link", "hardware.storage": "--storage", "gpu": "--gpu",
    "host": "--host", "link": "--link", "storage": "--storage",
    "base": "--hardware", "hardware.base": "--hardware", "hardware": "--hardware",
    "parallelism.expert": "--gpus", "parallelism.pipeline": "--gpus",
    "workload.context": "--context",
    "workload.batching.batch_size": "--batch", "software": "--software",
}  # fmt: skip
"""The options by the keys that they set."""


@dataclass(frozen=True)
class Question:
    """What a ``model`` (a card, ``name@format``, a GGUF file, a config.json) does on a machine: a
    ``gpu``, a ``host``, a ``link`` and the ``storage`` that experts are read from which memory does
    not hold, or a whole ``hardware``, by name or path; ``gpus`` of it.

    ``context`` tokens in the cache of each of ``batch`` requests (None: as in the trace);
    ``software``: None for llama.cpp or vLLM by the format and the batch.
    """

    model: str
    gpu: str | None = None
    host: str | None = None
    link: str | None = None
    hardware: str | None = None
    gpus: int = 1
    context: int | None = None
    batch: int = 1
    software: str | None = None
    storage: str | None = None


@dataclass(frozen=True)
class Assembled:
    """An experiment as its file has it, and a line for everything that was ``assumed``."""

    data: Mapping[str, Any]
    assumed: tuple[str, ...]
    asks: Asks


def assembled(question: Question) -> Assembled:
    """The experiment that ``question`` stands for. Raises InputError where no machine is named, or
    the model or the machine is unknown.
    """
    written, found = question.model, named(question.model)
    question = replace(_with_gpu(question), model=found.model)
    model = _model(question.model)
    machine, assumed = _machine(question, model)
    program, reason = _software(question, model, machine)
    engine = engine_named(program)
    name, formats = _formats(question.model, model) if engine in STOCK else (question.model, "")
    has = ANY if engine is None else ENGINES[engine]
    as_named = bool(found.assumed) and name == found.model and is_checkpoint(written)
    data: dict[str, Any] = {
        "name": _name(question),
        "model": written if as_named else _written(name),
        "hardware": machine,
        "software": has.software if engine and known_name(program, [engine]) else program,
    }
    told = () if as_named else found.assumed  # whose result's notes say it
    lines = [*(f"model: {what}" for what in told), assumed, reason, formats]
    if engine is not None and engine_with(data["software"]) != engine:
        versions = ", ".join(registry.components[engine].softwares)
        what = (
            f"costs: those of {data['software']} stand for {engine}, of which there is no profile"
        )
        lines.append(f"{what} but {versions} (--software)")
    if (trace := _trace(model, question.batch)) is not None:
        data["trace"], why = trace
        lines.append(why)
    workload: dict[str, Any] = {
        "batching": {"kind": "static", "batch_size": question.batch},
        "phase": "decode",
    }
    data["workload"] = workload
    if question.context is not None:
        workload["context"] = question.context
    layouts: tuple[str, ...] = ()
    if question.gpus > 1:
        layouts = _layouts(question, has, engine)
        data["parallelism"] = _parallelism(question, model, layouts)
    asks = Asks(engine, has, question.gpus, layouts)
    return Assembled(data, tuple(line for line in lines if line), asks)


def _layouts(question: Question, has: Abilities, engine: str | None) -> tuple[str, ...]:
    """The ways to spread the work over the GPUs; each has requests of its own only where there are
    as many.
    """
    if not has.layouts:
        what = f"{engine} is answered for one GPU; leave it out, or ask for another --software"
        raise InputError([Problem("--gpus", "", what)])
    few = question.batch < question.gpus
    return tuple(one for one in has.layouts if one != REQUESTS or not few)


def _model(name: str) -> ModelSpec:
    with at_options("model"):
        return load_model(name)


@contextmanager
def at_options(key: str = "") -> Iterator[None]:
    """Inside, problems are told at the options of a question, those of no key at ``key``'s."""
    try:
        yield
    except InputError as error:
        raise InputError([_at_option(one, key) for one in error.problems]) from None


def _at_option(problem: Problem, key: str) -> Problem:
    path = problem.path or key
    found = (o for k, o in OPTIONS.items() if path == k or path.startswith(f"{k}."))
    option = next(found, None)
    if option is None or problem.where not in ("", PYTHON):
        return problem
    return Problem(option, "", problem.what)


def _with_gpu(question: Question) -> Question:
    """The question with the GPU that its ``hardware`` is, where that is no whole machine."""
    asked = question.hardware
    if asked is None or question.gpu is not None or machine_named(asked) not in part_names("gpu"):
        return question
    return replace(question, hardware=None, gpu=asked)


def _machine(question: Question, model: ModelSpec) -> tuple[Any, str]:
    """The key ``hardware``, and what is assumed."""
    parts = {key: getattr(question, key) for key in ("gpu", "host", "link", "storage")}
    given = {key: name for key, name in parts.items() if name is not None}
    if question.hardware is not None and question.gpu is not None:
        what = f"'{question.gpu}' is part of a machine, and --hardware names another; give one"
        raise InputError([Problem("--gpu", "", what)])
    if question.hardware is not None:
        if is_choice(question.hardware):
            with at_options("hardware"):
                own = choice_in(question.hardware).data
            return _checked({**own, **given}, "hardware"), ""
        machine = {"base": question.hardware, **given} if given else question.hardware
        return _checked(machine, "hardware"), ""
    if question.gpu is None:
        raise InputError([Problem("--gpu", "", _no_machine())])
    if question.gpu.lower() in NO_GPU:
        raise InputError([Problem("--gpu", "", WITHOUT)])
    if machine_named(question.gpu) in unified_names() and not given.keys() - {"gpu", "storage"}:
        return _checked(given if question.storage else question.gpu, "hardware.gpu"), ""
    if question.host is not None:
        return _checked(given, "hardware"), ""
    alone = _profile(_checked(given, "hardware"))
    host = _host_for(model, alone)
    whole = {"gpu": question.gpu, **({"host": host} if host else {}), **given}
    told = host or f"that of {alone.name}, {_words(alone)}"
    return _checked(whole, "hardware"), f"host: {told} (--host names yours)"


def _words(machine: HardwareProfile) -> str:
    host = machine.host
    peak = host.memory_bandwidth.value * host.numa_nodes.value
    memory = f"{machine.host_memory_bytes / GIB:,.0f} GiB at {peak / 1e9:g} GB/s"
    return f"{memory} and {host.cores.value} cores"


def _checked(machine: Any, key: str) -> Any:
    with at_options(key):
        name = machine_text(machine) if isinstance(machine, Mapping) else machine
        unknown = (
            isinstance(machine, str) and look_up(machine) is None and not machine_named(machine)
        )
        if unknown:
            what = f"there is no '{machine}'; {near_machine(machine)}"
            raise InputError([Problem("", key, what)])
        load_hardware(name)
    return machine


NO_GPU = ("none", "cpu", "no", "0")
WITHOUT = (
    "a machine without a GPU is asked with a file, all of whose layers the host runs:"
    " 'moesim command --from \"llama-server -m MODEL.gguf -dev none\" --gpu rtx-3090 --host HOST'"
    " writes one, which 'moesim run' answers; the GPU has the output's product alone"
)


def _no_machine() -> str:
    examples = [name for name in ("rtx-3090", "rtx-4090", "rtx-5070") if name in gpu_names()]
    return (
        f"which GPU? Give one, as in --gpu {examples[0]} --host {HOSTS[0]}, or a whole machine, as"
        f" in --hardware dgx-h100 --gpus 8 or --hardware {unified_names()[-1]}; 'moesim list gpus'"
        " has them all"
    )


def _host_for(model: ModelSpec, alone: HardwareProfile) -> str | None:
    """The usual one of a GPU ``alone`` (None: its profile's own) where it holds the model's weights
    or is a server; else the first of ``HOSTS`` that holds them.
    """
    shipped = [host for host in HOSTS if host in part_names("host")]
    sizes = [int(host.rpartition("-")[2].removesuffix("gb")) << 30 for host in shipped]
    if alone.host_memory_bytes >= min(model.bytes, sizes[-1]):
        return alone.assumed_host
    enough = (host for host, size in zip(shipped, sizes, strict=True) if model.bytes <= size)
    return next(enough, shipped[-1])


def _software(question: Question, model: ModelSpec, machine: Any) -> tuple[str, str]:
    """The software, or an engine, and why it was taken where none is named."""
    if (asked := question.software) is not None:
        known = known_name(asked, ENGINES) or software_named(asked, software_names())
        if known is None and look_up(asked) is None:
            what = f"'{asked}' is neither an engine ({', '.join(ENGINES)}) nor a software profile"
            what += " ('moesim list software') nor its path; "
            what += near_software(asked, list(software_names()))
            raise InputError([Problem("--software", "", what)])
        return asked, ""
    if _is_gguf(question.model):
        return LLAMA_CPP, f"software: {LLAMA_CPP}, as the weights are GGUF's (--software)"
    chosen = split_format(question.model)[1]
    if nearest_mix(chosen) and _holds(question, model, _profile(machine)):
        return VLLM, f"software: {VLLM}, as no GGUF file has {chosen} (--software)"
    if question.gpus == 1 and question.batch <= FEW:
        return LLAMA_CPP, f"software: {LLAMA_CPP}, for few requests on one GPU (--software)"
    if why := _without_server(question, model, machine):
        return LLAMA_CPP, f"software: {LLAMA_CPP}, {why} (--software)"
    why = f"for {question.gpus} GPUs" if question.gpus > 1 else f"for a batch of {question.batch}"
    return VLLM, f"software: {VLLM}, {why} (--software)"


def _formats(name: str, model: ModelSpec) -> tuple[str, str]:
    """The model as GGUF files have it whose experts are as they were published, else as it is
    named; and what is to be told of its formats.
    """
    if (plain := plain_note(model)) is None:
        return name, ""
    card, chosen = split_format(name)
    if (mix := nearest_mix(chosen)) is not None:
        what = f"format: {mix}, as {LLAMA_CPP} reads GGUF files alone, and none has {chosen}"
        return f"{card}@{mix}", f"{what} (--software {VLLM}: as named)"
    if usual_recipe(model) != NATIVE:
        return name, f"format: {plain}"
    what = f"format: {NATIVE}, as its GGUF files have it: Q8_0 beside its MXFP4 experts"
    return f"{name}@{NATIVE}", f"{what} ({name}@experts=mxfp4: as published)"


def _without_server(question: Question, model: ModelSpec, machine: Any) -> str:
    """Why there is no server: for GPUs of Apple, or as one card, or cards without NVLink, cannot
    hold the model; nothing where there is one.
    """
    found = _profile(machine)
    if found.datasheet.maker in BACKENDS:
        return "for a GPU of Apple"
    linked = found.datasheet.peers.kind == "nvlink"
    served = question.gpus > 1 and (question.batch > FEW or linked)
    if served or _holds(question, model, found):
        return ""
    have = "one such GPU has" if question.gpus == 1 else f"{question.gpus} such GPUs have"
    return f"as {model.bytes / 1e9:.1f} GB of weights are more than {have}"


def _profile(machine: Any) -> HardwareProfile:
    return load_hardware(machine if isinstance(machine, str) else machine_text(machine))


def _holds(question: Question, model: ModelSpec, machine: HardwareProfile) -> bool:
    return model.bytes <= question.gpus * machine.memory_bytes


def _is_gguf(model: str) -> bool:
    chosen = (split_format(model)[1] or "").lower().replace("-", "_")
    return model.lower().endswith(".gguf") or chosen in SAME or chosen in RECIPES


def _trace(model: ModelSpec, batch: int) -> tuple[str, str] | None:
    """A stand-in where the recording of the model does not serve, and why; None where none is to be
    told.
    """
    if not model.moe_layers:
        return None
    with at_options("model"):
        name, why = default_trace(model, "decode", batch)
    return (name, f"trace: {name}, as {why}") if why else None


def _parallelism(question: Question, model: ModelSpec, layouts: Sequence[str]) -> dict[str, Any]:
    """Layers over GPUs where that is the only way; else whole experts, and attention split over the
    GPUs where there are fewer requests than GPUs and it can be.
    """
    if layouts == (STAGES,):
        return {"pipeline": question.gpus}
    split = question.batch < question.gpus and undivided_heads(model, question.gpus) is None
    return {"expert": question.gpus, **({"dense": "tensor"} if split else {})}


def _written(model: str) -> Any:
    """The key ``model``: files by their whole path, a format beside its base."""
    whole = look_up(model) is not None and known_name(model, model_names()) is None
    base, chosen = (model, None) if whole else split_format(model)
    found = None if known_name(base, model_names()) else look_up(base)
    base = base if found is None else str(found.resolve())
    return base if chosen is None else {"base": base, "format": chosen}


def _name(question: Question) -> str:
    base, chosen = split_format(question.model)
    path = Path(base)
    stem = path.stem if path.suffix in (".gguf", ".json") else path.name
    stem = path.resolve().parent.name if path.name == "config.json" else stem
    whole = question.hardware
    if whole is not None and is_choice(whole):
        whole = machine_words(whole).replace(".", "_")
    parts = [whole or question.gpu, question.host, question.link, question.storage]
    machine = [Path(part).stem for part in parts if part]
    more = [
        f"{question.gpus}-gpus" if question.gpus > 1 else "",
        str(question.context or ""),
        f"batch-{question.batch}" if question.batch > 1 else "",
        (question.software or "").rpartition("/")[2].removesuffix(".yaml"),
    ]
    words = filter(None, [stem, chosen, "on", *machine, *more])
    return "-".join(re.sub(r"[^\w.-]", "-", word) for word in words)


@dataclass(frozen=True)
class Asked:
    """What an advice is about: an experiment, and where a question stands for it, how it was
    ``made``, with ``overrides``.
    """

    resolved: Resolved
    made: Assembled | None = None
    overrides: tuple[str, ...] = ()

    @property
    def asks(self) -> Asks | None:
        """Whose answer it is; layouts are not tried where ``overrides`` say one."""
        if self.made is None:
            return None
        own = any(text.startswith("parallelism") for text in self.overrides)
        return replace(self.made.asks, layouts=()) if own else self.made.asks

    def folder(self, out: Path | str | None) -> Path:
        """The folder ``out``, by default its own in ``results``; InputError where it is no path."""
        check_out(out)
        return Path(out) if out else Path("results") / f"{self.resolved.experiment.name}-advice"

    def text(self, again: Mapping[str, Any], told: Iterable[str]) -> str:
        """The experiment's file with what is set ``again``; the lines ``told`` as comments."""
        assert self.made is not None, "an experiment of a file has its file"
        document = Document(self.made.data, Mark(PYTHON))
        for text in (*self.overrides, *(f"{path}={value}" for path, value in again.items())):
            document = with_setting(document, *parse_override(text))
        data: dict[str, Any] = document.data
        written = yaml.safe_dump(
            data, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True
        )
        return "".join(f"# {line}\n" for line in told) + written


def asked(source: Source | Question | Asked, overrides: Sequence[str] = ()) -> Asked:
    """The experiment ``source``, or that of a question; errors of a question name its options."""
    if isinstance(source, Asked):
        return source
    if not isinstance(source, Question):
        return Asked(load_experiment(source, overrides, alone=True))
    made = assembled(source)
    with at_options():
        return Asked(load_experiment(made.data, overrides, alone=True), made, tuple(overrides))
