"""The experiment that a command line means, as a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from textwrap import wrap
from typing import Any

from moesim.config.document import Document, Mark
from moesim.config.errors import InputError
from moesim.config.strict_yaml.overrides import parse_override
from moesim.experiment.engine_commands.base import NOTE, WARNING
from moesim.experiment.engine_commands.points import ReadCommand
from moesim.experiment.loading.default_trace import DefaultTrace, default_trace
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.schema.axes import SWEEP
from moesim.experiment.schema.experiment import Experiment
from moesim.experiment.schema.setting import with_setting
from moesim.experiment.schema.text import mapping_text
from moesim.experiment.schema.workload import Workload
from moesim.hardware import hardware_names, load_hardware, machine_named
from moesim.hardware.operations.kernels.cpu_expert import assumed_host_notes
from moesim.model.chosen import text_of
from moesim.model.named import opened

_WIDTH = 100


def with_settings(
    found: ReadCommand, machine: Mapping[str, str | None], overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """The keys of ``found`` on a ``machine`` (a ``gpu``, a ``host``; None where it is not said; a
    GPU alone may be a whole profile), with ``overrides``, the context of the line, and the trace
    that an experiment without one takes; points of a sweep each take their own.

    InputError for an override that cannot be set.
    """
    parts: Any = {part: name for part, name in machine.items() if name is not None}
    if set(parts) == {"gpu"} and machine_named(str(parts["gpu"])) in hardware_names():
        parts = parts["gpu"]
    data = {"hardware": parts} if parts else {}
    if found.context_tokens is not None and not found.served:
        data["workload"] = {**found.experiment.get("workload", {}), "context": found.context_tokens}
    document = Document({**found.experiment, **data}, Mark("--from"))
    for number, text in enumerate(overrides, 1):
        path, value, mark = parse_override(text)
        document = with_setting(document, path, value, replace(mark, column=number))
    own: dict[str, Any] = dict(document.data)
    if SWEEP not in own and "trace" not in own and (trace := _default(own)) is not None:
        own["trace"] = trace.name
    order = [*Experiment.model_fields, *own]
    return dict(sorted(own.items(), key=lambda entry: order.index(entry[0])))


def _default(experiment: Mapping[str, Any]) -> DefaultTrace | None:
    """What ``experiment`` takes where it names no trace; None where that is not to be told."""
    name = experiment.get("model", "")
    with suppress(ValueError):  # which is told as a wrong value
        workload = Workload.model_validate_json(json.dumps(experiment.get("workload") or {}))
        model = opened(text_of(name) if isinstance(name, Mapping) else str(name), ())
        with suppress(InputError):  # which is told as an obstacle
            if model and model.moe_layers:
                return default_trace(model, workload.phase, workload.at_once)
    return None


def filled_in(found: ReadCommand, experiment: Mapping[str, Any]) -> list[str]:
    """A note for the trace, which no line names, and one for the context."""
    notes, trace = [], _default(experiment)
    if trace is not None and trace.name == experiment.get("trace"):
        why = f", as {trace.why}" if trace.why else ""
        notes.append(f"{NOTE}trace: no line names one: '{trace.name}'{why}")
    context = (experiment.get("workload") or {}).get("context")
    if found.served:
        return [*notes, *_clients(experiment.get("workload") or {})]
    if context is None:
        what = "the line does not say: requests are as long as the trace's, and the KV cache is as"
        notes.append(f"{NOTE}workload.context: {what} small; write the tokens of yours, as in 16k")
    elif context == found.context_tokens:
        what = f"{context} tokens, all that the line allows a request, are in its cache at every"
        notes.append(f"{NOTE}workload.context: {what} step; leave it out for the trace's contexts")
    return notes


def _clients(workload: Mapping[str, Any]) -> list[str]:
    """Notes for what no line says of the requests that come."""
    taken = {
        "arrivals": "all requests come at once; write yours, as in {kind: poisson, request_rate: 4"
        " requests/s}",
        "lengths": "requests are as long as the trace's; write yours, as in {kind: fixed,"
        " input_len: 1000, output_len: 200}",
    }
    missing = [key for key in taken if key not in workload]
    return [f"{NOTE}workload.{key}: no line has it: {taken[key]}" for key in missing]


def experiment_text(found: ReadCommand, experiment: Mapping[str, Any], line: str) -> str:
    """``experiment`` as YAML, with what ``found``, ``filled_in`` and ``obstacles`` say of it in
    comments.
    """
    said = [f"what moesim reads of: {' '.join(line.split())}", *found.notes]
    said += [*filled_in(found, experiment), *obstacles(experiment)]
    comments = [part for one in said for part in _comment(one)]
    return "\n".join([*comments, mapping_text(experiment)])


def obstacles(experiment: Mapping[str, Any]) -> list[str]:
    """What keeps an experiment from being loaded, or which host it assumes, a note each."""
    if "hardware" not in experiment:
        return [f"{WARNING}hardware: no line names it; add --gpu and --host"]
    try:
        loaded = load_experiment(dict(experiment)).experiment
    except InputError as error:
        whys = [f"{problem.path}: {problem.what}" for problem in error.problems]
        return [f"{WARNING}does not load yet: {why}" for why in whys]
    machine = load_hardware(loaded.hardware, loaded.folders)
    return [f"{NOTE}hardware: {what}" for what in assumed_host_notes(machine)]


def _comment(text: str) -> list[str]:
    return wrap(
        text, _WIDTH, initial_indent="# ", subsequent_indent="#   ", break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
