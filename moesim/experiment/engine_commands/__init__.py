"""Command lines of inference engines: what runs an experiment, and which experiment a line means.

One file an engine, found by folder. Neither direction runs anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from moesim.config.errors import InputError, Problem, nearest
from moesim.config.registry import Registry
from moesim.experiment.engine_commands.base import (
    Configuration,
    Engine,
    EngineCommand,
    ReadCommand,
)
from moesim.experiment.engine_commands.words import split_line
from moesim.experiment.schema.experiment import Experiment

registry: Registry[Engine] = Registry(__name__, Engine, "moesim.engine_commands")  # type: ignore[type-abstract]
"""The engines by name; third parties add theirs through the entry points
``moesim.engine_commands``.
"""

__all__ = ["Configuration", "Engine", "EngineCommand", "ReadCommand", "command_of",
           "engine_of", "read_command", "registry"]  # fmt: skip


def command_of(
    experiment: Experiment, engine: str | None = None, context_tokens: int | None = None
) -> EngineCommand:
    """The line that runs a resolved ``experiment`` in ``engine`` (by default its software's).

    ``context_tokens`` of each request; by default as many as the run's longest has. The ``text`` is
    None where the engine has no such thing, and ``notes`` say what. InputError for an unknown
    engine, and where the experiment cannot be built.
    """
    chosen = registry.get(engine or engine_of(experiment), "--engine")()
    return chosen.write(Configuration(experiment, context_tokens))


def engine_of(experiment: Experiment) -> str:
    """The engine whose costs the experiment's software profile has; InputError where none is."""
    software = experiment.software
    for kind, engine in registry.components.items():
        if engine.software == software:
            return kind
    what = f"the software '{software}' is of no engine whose command lines moesim knows; name one"
    raise InputError([Problem("--engine", "", f"{what}: {', '.join(registry.components)}")])


def read_command(text: str, engine: str | None = None, folders: Sequence[Path] = ()) -> ReadCommand:
    """The experiment that a command line means, as far as an experiment can say it.

    ``engine``: whose line it is where no program says so, as in ``-ngl 99 -ncmoe 20``; relative
    paths of models are looked up in ``folders``. InputError where the line is broken: a quote that
    is not closed, an option without its value, a number that is none, a program that nobody knows.
    """
    words = split_line(text)
    for name in [engine] if engine else registry.components:
        found = registry.get(name, "--engine")()
        first = found.begins(words)
        if first is not None and (engine or found.claims(words)):
            return found.read(words, first, tuple(folders))
    if engine and words and words[0].startswith("-"):
        return registry.get(engine, "--engine")().read(words, 0, tuple(folders))
    raise InputError(_unknown(words, engine))


def _unknown(words: Sequence[str], engine: str | None) -> list[Problem]:
    if not words:
        return [Problem("", "", "the command line is empty")]
    if engine:
        what = f"no program of {engine} is named; write it, or options alone"
        return [Problem(words[0], "", what)]
    what = f"is no program of an engine that moesim reads; {nearest(words[0], registry.components)}"
    return [Problem(words[0], "", what)]
