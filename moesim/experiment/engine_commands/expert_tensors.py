"""Which layers' experts llama.cpp keeps in host memory, by its overrides of tensors.

The rules are llama.cpp's (MIT), read in the sources that llama-cpp-python 0.3.36 ships. A list of
overrides is made of ``-ot``, ``-cmoe`` and ``-ncmoe`` in the order of the line
(``common/arg.cpp``): ``-ot`` is split at commas, each part at its first ``=``; ``-ncmoe N`` is a
pattern for each of the blocks 0 to N-1, counted over all layers of the model, dense ones too
(``common/common.h``). A tensor takes the buffer of the first override whose pattern is found
anywhere in its name (``src/llama-model-loader.cpp``: ``std::regex_search``, then ``break``);
without any, that of its block, which is on the GPU from ``layers + 1 - ngl`` on
(``src/llama-model.cpp``, ``i_gpu_start``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from moesim.config.errors import InputError, Problem
from moesim.memory.host.on_cpu import EXPERT_TENSORS, OTHER_TENSORS, pattern_of

CPU, GPU = "CPU", "GPU"
_ON_HOST = re.compile(r"CPU\w*|\w+_Host|AMX")
"""Buffers in host memory, whose matrices the CPU multiplies: pinned (``CUDA_Host``), repacked."""
_OF_NO_LAYER = ("token_embd", "per_layer_token_embd", "output", "output_norm")
_ALL_EXPERTS = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"
"""llama.cpp's LLM_FFN_EXPS_REGEX."""


@dataclass(frozen=True)
class Override:
    """A pattern of tensors' names and where they are kept: ``CPU``, ``CUDA0``, ..."""

    pattern: re.Pattern[str]
    buffer: str


@dataclass(frozen=True)
class Kept:
    """Where a model's weights are kept.

    ``on_cpu``: for each MoE layer whether its experts are on the host, those too that are there for
    the most part, whose blocks are in ``parted``; ``others``: tensors beside experts that are
    there, by name; ``devices``: buffers that are neither ``CPU`` nor the first GPU's (``CUDA0``);
    ``idle``: patterns for the CPU that find no tensor.
    """

    on_cpu: tuple[bool, ...]
    parted: tuple[int, ...]
    others: tuple[str, ...]
    devices: tuple[str, ...]
    idle: tuple[str, ...]


def overrides_of(word: str, value: str) -> Iterator[Override]:
    """The overrides of one ``-ot``; InputError for what llama.cpp refuses, or is no pattern."""
    for part in value.split(","):
        pattern, equals, buffer = part.partition("=")
        if not equals or not buffer:
            what = f"'{part}' has no buffer; write PATTERN=CPU, several with commas between"
            raise InputError([Problem(word, "", what)])
        yield Override(_compiled(word, pattern), CPU if _ON_HOST.fullmatch(buffer) else buffer)


def _compiled(word: str, pattern: str) -> re.Pattern[str]:
    try:
        return pattern_of(pattern)
    except ValueError as error:
        raise InputError([Problem(word, "", str(error))]) from None


def first_blocks(count: int) -> Iterator[Override]:
    """The overrides of ``-ncmoe``."""
    for block in range(count):
        yield Override(re.compile(rf"blk\.{block}{_ALL_EXPERTS}"), CPU)


def all_experts() -> Override:
    """The override of ``-cmoe``."""
    return Override(re.compile(_ALL_EXPERTS), CPU)


def kept(blocks: Sequence[int], layers: int, overrides: Sequence[Override]) -> Kept:
    """Where the experts of the MoE layers ``blocks``, of ``layers`` in all, are kept."""
    places = {
        block: [_place(f"blk.{block}.{name}.weight", overrides) for name in EXPERT_TENSORS]
        for block in blocks
    }
    names = [f"blk.{block}.{name}.weight" for block in range(layers) for name in OTHER_TENSORS]
    every = [*names, *(f"{name}.weight" for name in _OF_NO_LAYER)]
    every += [f"blk.{block}.{name}.weight" for block in blocks for name in EXPERT_TENSORS]
    buffers = {place for found in places.values() for place in found} - {CPU, GPU}
    return Kept(
        tuple(2 * found.count(CPU) > len(found) for found in places.values()),
        tuple(block for block, found in places.items() if 0 < found.count(CPU) < len(found)),
        tuple(name for name in names if _place(name, overrides) == CPU),
        tuple(sorted(buffer for buffer in buffers if not buffer.endswith("0"))),
        tuple(one.pattern.pattern for one in overrides if _is_idle(one, every)),
    )


def _is_idle(override: Override, tensors: Sequence[str]) -> bool:
    return override.buffer == CPU and not any(map(override.pattern.search, tensors))


def _place(tensor: str, overrides: Sequence[Override]) -> str:
    found = (one.buffer for one in overrides if one.pattern.search(tensor))
    return next(found, GPU)


def on_cpu_key(blocks: Sequence[int], on_cpu: Sequence[bool]) -> dict[str, Any] | None:
    """``experts.on_cpu`` where of the MoE layers ``blocks`` these are ``on_cpu``; None for none."""
    count = sum(on_cpu)
    if not count:
        return None
    if all(on_cpu[:count]):
        return {"layers": count}
    return {"layers": [block for block, there in zip(blocks, on_cpu, strict=True) if there]}


def words_of(blocks: Sequence[int], on_cpu: Sequence[bool]) -> list[str]:
    """The options that keep the experts of these MoE layers on the CPU."""
    key = on_cpu_key(blocks, on_cpu)
    if key is None:
        return []
    if all(on_cpu):
        return ["--cpu-moe"]
    if isinstance(layers := key["layers"], int):
        return ["--n-cpu-moe", str(blocks[layers - 1] + 1)]
    numbers = "|".join(map(str, layers))
    return ["-ot", rf"blk\.({numbers})\.ffn_.*_exps={CPU}"]
