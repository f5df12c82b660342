"""A run's spans as a file for Perfetto."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path

from moesim.config.errors import InputError, Problem, check_apart, located
from moesim.config.files.files import replacing
from moesim.memory.policies import registry as policies
from moesim.report.timeline.events import trace_events
from moesim.report.timeline.requests import request_events
from moesim.results import Result, read_result, rebuild
from moesim.results.folder import EXPERIMENT, files_read, inputs_read

DEFAULT_STEPS = range(20)


def parse_steps(text: str) -> range:
    """``0:20`` as the steps 0 to 19, ``5`` as the step 5 alone; no open end is taken."""
    first, colon, last = str(text).partition(":")
    try:
        start = int(first or (0 if colon else ""))
        steps = range(start, int(last)) if colon else range(start, start + 1)
    except ValueError:
        steps = range(0)
    if len(steps) == 0 or steps.start < 0:
        what = f"'{text}' names no steps; write FIRST:END, for instance 0:20"
        raise InputError([Problem("--steps", "", what)])
    return steps


def write_timeline(folder: Path | str, out: Path | str, steps: range = DEFAULT_STEPS) -> int:
    """Write the spans of ``steps`` of the run in ``folder`` to ``out``; returns how many.

    A run that recorded no spans is run again up to the last of ``steps`` with ``records: expert``.
    Raises an InputError where the run has no such step or did not fit in memory, or where ``out``
    cannot be written; it is there whole or not at all.
    """
    if Path(out).suffix != ".json":
        raise InputError([Problem("--out", "", f"'{out}' must be a file that ends in .json")])
    check_apart(Path(out), *files_read(Path(folder)))
    result = read_result(folder)
    check_apart(Path(out), *inputs_read(Path(folder)))
    if result.status != "ok":
        reason = result.summary.get("reason")
        what = f"the run is {result.status} ({reason}); a timeline needs one that ran to its end"
        raise InputError([Problem(str(folder), "", what)])
    if (last := int(result.summary["steps"]) - 1) < steps.start:
        raise _no_step(steps, last)
    played = result if len(result.spans) else rerun(Path(folder), _until(result, steps))
    chosen = played.spans[played.spans["step"].between(steps.start, steps.stop - 1)]
    if chosen.empty:
        raise _no_step(steps, last)
    with replacing(Path(out)) as whole, whole.open("w", encoding="utf-8") as stream:
        stream.write('{"displayTimeUnit": "ns", "traceEvents": [')
        begin = int(chosen["start_ns"].min())
        tables = {name: getattr(played, name) for name in ("entries", "steps", "requests")}
        every = chain(
            trace_events(chosen, played.memory, played.slots, _roles(played)),
            request_events(tables, begin, steps),
        )
        for number, event in enumerate(every):
            stream.write((",\n" if number else "\n") + json.dumps(event, ensure_ascii=False))
        stream.write("\n]}\n")
    return len(chosen)


def _roles(result: Result) -> list[str]:
    """What each GPU is there for, where several engines serve the requests of ``result``."""
    serving = result.configuration.get("serving") or {}
    apart, replicas = serving.get("disaggregation"), serving.get("replicas") or 1
    named = [f"replica {number}" for number in range(replicas)] if replicas > 1 else []
    if apart:
        named = [role for role in ("prefill", "decode") for _ in range(apart[role])]
    layout = result.configuration.get("parallelism") or {}
    return [role for role in named for _ in range(int(layout.get("expert") or 1))]


def _no_step(steps: range, last: int) -> InputError:
    what = f"the run has no step in {steps.start}:{steps.stop}; its last one is {last}"
    return InputError([Problem("--steps", "", what)])


def _until(result: Result, steps: range) -> range | None:
    """``steps``; None, the whole run, where its policy looks ahead (with another future it evicts
    others) or several engines serve its requests.
    """
    serving = result.configuration.get("serving") or {}
    several = bool(serving.get("disaggregation")) or (serving.get("replicas") or 1) > 1
    policy = result.configuration.get("experts", {}).get("policy", {}).get("kind")
    ahead = policy in policies.components and policies.components[policy].looks_ahead
    return None if ahead or several else steps


def rerun(folder: Path, steps: range | None) -> Result:
    """The run of ``folder`` once more with its spans, as far as the last of ``steps``, if any."""
    from moesim.experiment.running.run import run

    spans = ["records=expert", "engine=des"]
    with located(folder / EXPERIMENT, instead_of="experiment"):
        limit = None if steps is None else steps.stop
        result: Result = run(rebuild(folder), overrides=spans, limit_steps=limit)
    return result
