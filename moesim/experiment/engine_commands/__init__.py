"""Command lines of inference engines: what runs an experiment, and which experiment a line means.

One file an engine, found by folder. Neither direction runs anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from moesim.config.counted import counted
from moesim.config.errors import InputError, Problem
from moesim.config.names import known_name
from moesim.config.registry import Registry
from moesim.experiment.building.derived import layers_in_numbers
from moesim.experiment.building.of_card import of_card
from moesim.experiment.engine_commands.base import (
    NOTE,
    Configuration,
    Engine,
    EngineCommand,
)
from moesim.experiment.engine_commands.containers import with_lines
from moesim.experiment.engine_commands.heredocs import written_files
from moesim.experiment.engine_commands.points import ReadCommand
from moesim.experiment.engine_commands.programs import instead_of, program_of
from moesim.experiment.engine_commands.variables import with_values
from moesim.experiment.engine_commands.words import one_line, split_line
from moesim.experiment.schema.experiment import Experiment

registry: Registry[Engine] = Registry(
    "moesim.experiment.engine_commands",
    Engine,  # type: ignore[type-abstract]
    "moesim.engine_commands",
)
"""The engines by name; third parties add theirs through the entry points
``moesim.engine_commands``.
"""

_ASIDE = ("cd", "source", ".", "pip", "mkdir")
"""Commands that only make ready."""

__all__ = ["Configuration", "Engine", "EngineCommand", "ReadCommand", "command_of",
           "engine_of", "engine_with", "read_command", "registry"]  # fmt: skip


def command_of(
    experiment: Experiment, engine: str | None = None, context_tokens: int | None = None
) -> EngineCommand:
    """The line that runs a resolved ``experiment`` in ``engine`` (by default its software's).

    ``context_tokens`` of each request; by default as many as the run's longest has. The ``text`` is
    None where the engine has no such thing, and ``notes`` say what. InputError for an unknown
    engine, and where the experiment cannot be built.
    """
    chosen = registry.get(engine or engine_of(experiment), "--engine")()
    experiment, fitted = layers_in_numbers(of_card(experiment, chosen.kind), context_tokens)
    made = chosen.write(Configuration(experiment, context_tokens))
    notes = [f"{NOTE}experts.on_cpu.layers: {fitted}"] if fitted else []
    notes += _unsaid(experiment) if made.text else ()
    return replace(made, notes=(*made.notes, *notes))


def _unsaid(experiment: Experiment) -> Iterator[str]:
    """What changes speed, and is in no engine's line."""
    if experiment.routing:
        yield f"{NOTE}routing: the line's choices are the model's own, without these transforms"
    asked = experiment.workload.speculative
    if asked is not None and asked.drafts:
        what = "the line drafts nothing; its drafter is yours to name (--speculative-config,"
        yield f"{NOTE}workload.speculative: {what} --speculative-algorithm, --model-draft)"


def engine_of(experiment: Experiment) -> str:
    """The engine whose costs the experiment's software profile has; InputError where none is."""
    software = experiment.software
    if (engine := engine_with(software)) is not None:
        return engine
    what = f"the software '{software}' is of no engine whose command lines moesim knows; name one"
    raise InputError([Problem("--engine", "", f"{what}: {', '.join(registry.components)}")])


def engine_with(software: str) -> str | None:
    """The engine whose costs the software profile of this name has; None where none is."""
    engines = registry.components.items()
    return next((kind for kind, engine in engines if known_name(software, engine.softwares)), None)


def read_command(
    text: str,
    engine: str | None = None,
    folders: Sequence[Path] = (),
    *,
    served: bool = False,
) -> ReadCommand:
    """The experiment that a command line means, as far as an experiment can say it; ``served``:
    with the engine's scheduler, for requests that come and go.

    ``engine``: whose line it is where no program says so, as in ``-ngl 99 -ncmoe 20``; relative
    paths of models are looked up in ``folders``. InputError where the line is broken: a quote that
    is not closed, an option without its value, a number that is none, a program that nobody knows.
    """
    text, files = written_files(with_values(with_lines(text)))
    commands = split_line(text)
    names = [engine] if engine else list(registry.components)
    for words, name in product(commands, names):
        found = registry.get(name, "--engine")()
        first = found.begins(words)
        if first is None and engine and words[0].startswith("-"):
            first = 0
        if first is not None and (engine or found.claims(words)):
            read = found.read(words, first, tuple(folders), served=served, files=files)
            behind = commands[commands.index(words) + 1 :]
            return replace(read, notes=(*read.notes, *_others(behind)))
    raise InputError([_unknown(commands, engine)])


def _others(commands: Sequence[Sequence[str]]) -> list[str]:
    """A note where engines have more commands."""
    engines = [registry.get(name, "--engine")() for name in registry.components]
    count = sum(any(one.begins(words) is not None for one in engines) for words in commands)
    what = f"{NOTE}{counted(count, 'more command')} of an engine: not read; read each alone"
    return [what] if count else []


def _unknown(commands: Sequence[Sequence[str]], engine: str | None) -> Problem:
    if not commands:
        return Problem("", "", "the command line is empty")
    asked = next((words for words in commands if words[0] not in _ASIDE), commands[0])
    program = one_line(program_of(asked))
    if engine:
        own = registry.get(engine, "--engine").program
        what = f"no program of {engine} is named; write it{f' ({own})' * bool(own)}"
        return Problem(program, "", f"{what}, or options alone")
    programs = sorted({one.program for one in registry.components.values()} - {""})
    return Problem(program, "", instead_of(program, programs))
