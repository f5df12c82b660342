"""What engines do about several GPUs and about experts that do not fit: what an answer proposes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from moesim.config.names import known_name
from moesim.experiment.engine_commands import engine_with
from moesim.sweep.advise.choices import CPU, ON_CPU, ON_HOST, Settings

CACHED = "llama.cpp-cache"
"""A profile of llama.cpp that has more ways than it: those of a change in no release."""
STAGES, SLICED, WHOLE, REQUESTS = "stages", "sliced", "whole", "requests"
LAYOUTS: Mapping[str, str] = {
    SLICED: "attention and every expert sliced over {} GPUs",
    WHOLE: "attention sliced, experts whole, over {} GPUs",
    REQUESTS: "attention by requests, experts whole, over {} GPUs",
    STAGES: "layers split over {} GPUs",
}
"""How work may be spread over so many GPUs."""


@dataclass(frozen=True)
class Abilities:
    """What an engine has: the ``software`` profile that has its costs, or stands for it; ``ways``:
    what it does about experts that do not fit; ``layouts`` of several GPUs, the first where none is
    faster; ``some_layers``: whether experts of some layers alone may be on the CPU; ``maps``:
    whether what memory does not hold is read from the model's file.
    """

    software: str
    ways: tuple[str, ...] = ()
    layouts: tuple[str, ...] = ()
    some_layers: bool = True
    maps: bool = False


SERVER = Abilities("vllm", (), (SLICED, WHOLE, REQUESTS, STAGES))
ENGINES: Mapping[str, Abilities] = {
    "llama.cpp": Abilities("llama.cpp", (ON_CPU, ON_HOST), (STAGES,), maps=True),
    "ik_llama.cpp": Abilities("ik_llama.cpp", (ON_CPU, ON_HOST), (STAGES,), maps=True),
    "ktransformers": Abilities("ktransformers@0.7", (CPU, ON_CPU), some_layers=False),
    "vllm": SERVER,
    "sglang": replace(SERVER, software="sglang"),
    "trtllm": Abilities("trtllm", (), (SLICED, WHOLE, STAGES)),
}
"""By the names of ``moesim list engine_commands``."""
STOCK = ("llama.cpp", "ik_llama.cpp")
"""Engines that read GGUF files alone, and whose --n-cpu-moe and -ngl count layers."""
ANY = Abilities("", (), SERVER.layouts, maps=True)
"""Software of no engine: nothing is known to be missing in it."""


@dataclass(frozen=True)
class Asks:
    """Whose answer is asked for: an ``engine`` by name, None where the software is of none, what it
    has, and how many ``gpus``; ``layouts``: those to be tried.
    """

    engine: str | None = None
    abilities: Abilities = ANY
    gpus: int = 1
    layouts: tuple[str, ...] = ()


def engine_named(program: str) -> str | None:
    """The engine of this name, or of which the software profile of this name is one; None where a
    profile is of none.
    """
    if (engine := known_name(program, ENGINES)) is not None:
        return engine
    found = engine_with(program)
    return None if known_name(program, [CACHED]) else found


def layout_settings(layout: str, gpus: int) -> Settings:
    """What a layout of ``gpus`` sets, by dotted path: who shares the work, not how it meets."""
    stages, shared = (gpus, 1) if layout == STAGES else (1, gpus)
    return (
        ("parallelism.expert", str(shared)),
        ("parallelism.pipeline", str(stages)),
        ("parallelism.dense", "tensor" if layout in (SLICED, WHOLE) else "data"),
        ("parallelism.experts", "tensor" if layout == SLICED else "expert"),
    )
