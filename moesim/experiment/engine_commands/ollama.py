"""Ollama, which runs llama.cpp with a model of its library (``ollama run NAME``).

From memory of its documentation: a name of its library is ``model:size``, one of Hugging Face
begins with ``hf.co/``; what does not fit on the GPU goes to the CPU by whole layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from moesim.experiment.engine_commands.base import Reading
from moesim.experiment.engine_commands.words import Given, Line, Option


def begins(words: Sequence[str]) -> int | None:
    """Where options begin, behind ``ollama run``; None where it is not in ``words``."""
    found = (place for place, (word, behind) in enumerate(pairwise(words)) if _runs(word, behind))
    return next((place + 2 for place in found), None)


def _runs(word: str, behind: str) -> bool:
    return (word.rpartition("/")[2], behind) == ("ollama", "run")


def is_ollama(front: Sequence[str]) -> bool:
    """Whether ``front`` of the options is ``ollama run``."""
    return begins(front) == len(front)


def as_line(line: Line, options: Sequence[Option]) -> Line:
    """``line`` with its model as llama-server has it; a prompt behind it does nothing."""
    if not line.positional:
        return line
    name = line.positional[0]
    word = "-hf" if name.partition("/")[0] in ("hf.co", "huggingface.co") else "-m"
    rows = {one.name: one for one in options}
    own = [Given(rows[word], word, name), Given(rows["-ngl"], "-ngl", "all")]
    return replace(line, given=[*own, *line.given], positional=[])


def tell(reading: Reading) -> None:
    """What Ollama chooses by itself."""
    what = "all layers are read as on the GPU; where they do not fit, it leaves whole ones to the"
    reading.warn("ollama", f"{what} CPU: write them, as host_layers: 12")
    what = "it has a default of its own, by the GPU's memory"
    reading.note("OLLAMA_CONTEXT_LENGTH", f"{what}; write workload.context")
