"""A run's spans as Chrome-trace JSON: opens in Perfetto, a process a GPU, a row an engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from moesim.config.errors import InputError, Problem, check_apart, writing
from moesim.results import Result, read_result, rebuild
from moesim.results.folder import files_read

ENGINES = ("compute", "copy_in", "copy_out", "communication")
"""The rows of a GPU, from the top."""

DEFAULT_STEPS = range(20)


def parse_steps(text: str) -> range:
    """``0:20`` as the steps 0 to 19, ``5`` as the step 5 alone; no open end is taken."""
    first, colon, last = text.partition(":")
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
    Raises an InputError where the run has no such step or did not fit in memory.
    """
    check_apart(Path(out), *files_read(Path(folder)))
    result = read_result(folder)
    if result.status != "ok":
        reason = result.summary.get("reason")
        what = f"the run is {result.status} ({reason}); a timeline needs one that ran to its end"
        raise InputError([Problem(str(folder), "", what)])
    spans = result.spans if len(result.spans) else rerun(Path(folder), steps).spans
    chosen = spans[spans["step"].isin(steps)]
    if chosen.empty:
        last = int(result.steps["step"].max()) if len(result.steps) else "none"
        what = f"the run has no step in {steps.start}:{steps.stop}; its last one is {last}"
        raise InputError([Problem("--steps", "", what)])
    write_events(chosen, Path(out))
    return len(chosen)


def rerun(folder: Path, steps: range) -> Result:
    """The run of ``folder`` once more with its spans, as far as the last of ``steps``."""
    from moesim.experiment.run import run

    result: Result = run(rebuild(folder), overrides=["records=expert"], limit_steps=steps.stop)
    return result


def write_events(spans: pd.DataFrame, out: Path) -> None:
    """Write ``spans`` (the columns of a result's table, times in ns) as a Chrome trace."""
    with writing(out), out.open("w", encoding="utf-8") as stream:
        stream.write('{"displayTimeUnit": "ns", "traceEvents": [\n')
        stream.write(",\n".join(json.dumps(event) for event in events(spans)))
        stream.write("\n]}\n")


def events(spans: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Names of GPUs and engines (``ph: M``), then a complete event a span (``ph: X``, in us)."""
    for gpu in sorted({int(gpu) for gpu in spans["gpu"]}):
        yield metadata(gpu, 0, "process_name", {"name": f"GPU {gpu}"})
        yield metadata(gpu, 0, "process_sort_index", {"sort_index": gpu})
        for row, engine in enumerate(ENGINES):
            yield metadata(gpu, row, "thread_name", {"name": engine.replace("_", " ")})
            yield metadata(gpu, row, "thread_sort_index", {"sort_index": row})
    ordered = spans.sort_values(["gpu", "start_ns", "end_ns"], kind="stable")
    for span in ordered.itertuples(index=False):
        yield complete(span)


def metadata(gpu: int, row: int, name: str, args: dict[str, Any]) -> dict[str, Any]:
    """One event of phase M."""
    return {"ph": "M", "pid": gpu, "tid": row, "name": name, "args": args}


def complete(span: Any) -> dict[str, Any]:
    """One event of phase X: start and duration in microseconds."""
    return {
        "ph": "X",
        "pid": int(span.gpu),
        "tid": ENGINES.index(span.engine),
        "name": span.name,
        "cat": span.engine,
        "ts": int(span.start_ns) / 1000,
        "dur": (int(span.end_ns) - int(span.start_ns)) / 1000,
        "args": {"step": int(span.step), "layer": int(span.layer)},
    }
