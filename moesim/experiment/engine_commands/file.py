"""The experiment that a command line means, as a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from textwrap import wrap
from typing import Any

from moesim.config.document import Document, Mark
from moesim.config.errors import InputError
from moesim.config.overrides import parse_override
from moesim.experiment.engine_commands.base import NOTE, WARNING, ReadCommand
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.schema.experiment import Experiment
from moesim.experiment.schema.setting import with_setting
from moesim.experiment.schema.text import mapping_text
from moesim.hardware import hardware_names

_WIDTH = 100


def with_settings(
    found: ReadCommand, machine: Mapping[str, str | None], overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """The keys of ``found`` on a ``machine`` (a ``gpu``, a ``host``; None where it is not said; a
    GPU alone may be a whole profile), with ``overrides``.

    InputError for an override that cannot be set.
    """
    parts: Any = {part: name for part, name in machine.items() if name is not None}
    if set(parts) == {"gpu"} and parts["gpu"] in hardware_names():
        parts = parts["gpu"]
    data = {"hardware": parts} if parts else {}
    document = Document({**found.experiment, **data}, Mark("--from"))
    for number, text in enumerate(overrides, 1):
        path, value, mark = parse_override(text)
        document = with_setting(document, path, value, replace(mark, column=number))
    order = [*Experiment.model_fields, *document.data]
    return dict(sorted(document.data.items(), key=lambda entry: order.index(entry[0])))


def experiment_text(found: ReadCommand, experiment: Mapping[str, Any], line: str) -> str:
    """``experiment`` as YAML, with what ``found`` and ``obstacles`` say of it in comments."""
    said = [f"what moesim reads of: {' '.join(line.split())}", *found.notes, *obstacles(experiment)]
    if found.context_tokens is not None:
        tokens = found.context_tokens
        what = f"a run has the contexts of its trace; write workload.context: {tokens} for memory"
        said.append(f"{NOTE}context: {what} and speed at {tokens} tokens a request")
    comments = [part for one in said for part in _comment(one)]
    return "\n".join([*comments, mapping_text(experiment)])


def obstacles(experiment: Mapping[str, Any]) -> list[str]:
    """What keeps an experiment from being loaded, a note each."""
    if "hardware" not in experiment:
        return [f"{WARNING}hardware: no line names it; add --gpu and --host"]
    try:
        load_experiment(dict(experiment))
    except InputError as error:
        whys = [f"{problem.path}: {problem.what}" for problem in error.problems]
        return [f"{WARNING}does not load yet: {why}" for why in whys]
    return []


def _comment(text: str) -> list[str]:
    return wrap(
        text, _WIDTH, initial_indent="# ", subsequent_indent="#   ", break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
