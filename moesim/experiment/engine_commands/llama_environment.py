"""llama.cpp's options as variables: ``LLAMA_ARG_CTX_SIZE=16384``, as containers are told them.

Names are those of ``common/arg.cpp`` (MIT; from memory). An option in the line counts before its
variable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from moesim.experiment.engine_commands.words import OFF, Given, Line, Option, Takes

VARIABLES: Mapping[str, str] = {
    f"LLAMA_ARG_{name}": option
    for name, option in {
        "MODEL": "-m", "HF_REPO": "-hf", "HF_FILE": "-hff", "N_GPU_LAYERS": "-ngl",
        "N_CPU_MOE": "-ncmoe", "CPU_MOE": "-cmoe", "OVERRIDE_TENSOR": "-ot", "CTX_SIZE": "-c",
        "BATCH": "-b", "UBATCH": "-ub", "N_PARALLEL": "-np", "KV_UNIFIED": "-kvu", "THREADS": "-t",
        "FLASH_ATTN": "-fa", "CACHE_TYPE_K": "-ctk", "CACHE_TYPE_V": "-ctv", "TENSOR_SPLIT": "-ts",
        "SPLIT_MODE": "-sm", "DEVICE": "-dev", "NO_MMAP": "--no-mmap", "N_PREDICT": "-n",
    }.items()
}  # fmt: skip
"""The variables of options that are read."""


def with_variables(line: Line, front: Sequence[str], options: Sequence[Option]) -> Line:
    """``line`` with what variables in ``front`` of it say."""
    rows = {row.name: row for row in options}
    return replace(line, given=[*_given(front, rows), *line.given])


def _given(front: Sequence[str], rows: Mapping[str, Option]) -> Iterator[Given]:
    for word in front:
        name, _, value = word.partition("=")
        if (option := VARIABLES.get(name)) is None:
            continue
        if rows[option].takes is not Takes.NOTHING:
            yield Given(rows[option], name, value)
        elif value.lower() not in OFF:
            yield Given(rows[option], name, "")
