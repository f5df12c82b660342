"""What the command lines of every engine keep."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from typing import Any

from moesim.config.errors import InputError
from moesim.experiment.building.of_card import of_card
from moesim.experiment.engine_commands import Configuration, Engine, ReadCommand
from moesim.experiment.engine_commands.words import Effect, Option, Takes
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.schema.experiment import Experiment
from moesim.experiment.schema.serving import Memory

KEPT = ("model", "workload", "parallelism", "experts", "execution", "placement", "memory")
"""What of an experiment a line says."""


def knows_its_options(engine: Engine) -> None:
    """No name stands in two rows, and what is not modelled says why."""
    kind = engine.kind
    names = Counter(name for row in engine.options for name in row.names.split())
    assert not (twice := [name for name, count in names.items() if count > 1]), f"{kind}: {twice}"
    assert all(name.startswith("-") for name in names), f"{kind}: an option without a dash"
    silent = [row.names for row in engine.options if row.effect is Effect.NOT_MODELLED]
    told = [row.names for row in engine.options if row.why]
    assert silent == told, f"{kind}: {set(silent) ^ set(told)} should say what is not modelled"


def says_what_it_cannot_model(engine: Engine, row: Option) -> None:
    """An option that is not modelled, and one that nobody knows, are loud in the notes of a line,
    and one that does nothing is named.
    """
    word = row.names.split()[-1]
    value = "" if row.takes in (Takes.NOTHING, Takes.SWITCH) else "7"
    notes = "\n".join(
        read(engine, [*filter(None, [word, value]), "--nobody-knows-this", "9"]).notes
    )
    assert "warning: --nobody-knows-this 9" in notes, f"{engine.kind} drops an unknown option"
    loud = f"warning: {word}" in notes
    assert loud or row.effect is not Effect.NOT_MODELLED, f"{engine.kind} drops {word}"
    assert row.effect is Effect.READ or word in notes, f"{engine.kind} drops {word}"


def refuses_with_an_input_error(engine: Engine, words: Sequence[str]) -> None:
    """Any words are read, or are an InputError with one line for each mistake."""
    try:
        found = read(engine, words)
    except InputError as error:
        lines = [str(problem) for problem in error.problems]
        assert all(lines), f"{engine.kind} refuses {list(words)} without a word"
        assert len(set(lines)) == len(lines), f"{engine.kind} says {lines} twice"
        return
    assert isinstance(found.experiment, dict), f"{engine.kind} reads no experiment"


def reads_what_it_writes(
    engine: Engine, experiment: Experiment, context_tokens: int
) -> ReadCommand | None:
    """The line of ``experiment`` is the engine's, and means the same experiment, with all that the
    engine takes by itself; None where it has no line, and says why.
    """
    kind = engine.kind
    experiment = of_card(experiment, kind)
    written = engine.write(Configuration(experiment, context_tokens))
    if written.text is None:
        assert written.notes, f"{kind} does not say why it cannot run the experiment"
        return None
    words = shlex.split(written.text)
    first = engine.begins(words)
    assert first is not None, f"{kind} does not recognise its own line: {written.text}"
    served = experiment.workload.batching.serves
    found = engine.read(words, first, experiment.folders, served=served)
    again = load_experiment({**found.experiment, "hardware": experiment.hardware}).experiment
    again = of_card(again)
    for key in KEPT:
        before, after = _said(experiment, key), _said(again, key)
        assert before == after, f"{kind}: {key} {before} reads as {after}: {written.text}"
    assert found.context_tokens == context_tokens, f"{kind}: a context of {found.context_tokens}"
    return found


def read(engine: Engine, words: Sequence[str]) -> ReadCommand:
    """What options alone mean."""
    return engine.read(words, 0, ())


def _said(experiment: Experiment, key: str) -> Any:
    value = getattr(experiment, key)
    value = Memory() if key == "memory" and value is None else value
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value
