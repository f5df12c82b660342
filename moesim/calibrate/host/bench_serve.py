"""What ``vllm bench serve --save-result`` or SGLang's ``bench_serving`` wrote: the times of the
requests of one service.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from moesim.config.errors import InputError, Problem
from moesim.experiment.schema.experiment import Experiment
from moesim.workload.batching.continuous import Continuous

MARKS = ("completed", "total_output_tokens", "duration")
"""Keys by which such a file is known."""
TIMES = ("mean_tpot_ms", "mean_ttft_ms", "mean_e2el_ms")
SGLANG = "sglang"
OTHERWISE = {"mean_e2el_ms": "mean_e2e_latency_ms"}
"""What SGLang calls a time."""
_APART = 0.05
_SHOWN = ("model_id", "num_prompts", "max_concurrency", "request_rate", "date")


class Served(NamedTuple):
    """Of ``completed`` requests: the mean ``times`` by name, in ms, those of ``TIMES`` that the
    file has; the ``clients`` at most (None: no limit), the tokens of a prompt and of an answer; and
    how many ``failed``.
    """

    times: Mapping[str, float]
    completed: int
    clients: int | None
    prompt: float
    answer: float
    failed: int


def as_served(text: str) -> dict[str, Any] | None:
    """The object in ``text`` where it is such a file's."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) and set(MARKS) <= set(found) else None


def served_of(found: Mapping[str, Any], path: Path) -> Served:
    """The run that ``found`` tells, of ``path``; an InputError where a number is none, or no
    request was answered.
    """

    def above(name: str) -> float:
        value = found.get(name)
        if not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise InputError([Problem(str(path), "", f"{name} '{value}' is no number above 0")])
        return float(value)

    above("duration")
    completed, clients = above("completed"), found.get("max_concurrency")
    lengths = [above(name) / completed for name in ("total_input_tokens", "total_output_tokens")]
    keys = {name: name if name in found else OTHERWISE.get(name, name) for name in TIMES}
    times = {name: above(key) for name, key in keys.items() if found.get(key) not in (None, 0)}
    if not times:
        raise InputError([Problem(str(path), "", f"has none of {', '.join(TIMES)}")])
    known = clients if type(clients) is int else None
    return Served(times, int(completed), known, lengths[0], lengths[1], found.get("failed") or 0)


def source_of(found: Mapping[str, Any], path: Path) -> str:
    """What the file says of the run, in a line."""
    told = [f"{key} {found[key]}" for key in _SHOWN if found.get(key) is not None]
    by = "bench_serving of SGLang" if found.get("backend") == SGLANG else "vllm bench serve"
    return ", ".join([f"{by} {path.name}", *told])


def check_served(experiment: Experiment, served: Served) -> None:
    """An InputError where the experiment serves no requests, or those of another many clients."""
    if not isinstance(experiment.workload.batching, Continuous):
        what = "the run served requests that come and go; write {kind: continuous, scheduler: ...}"
        raise InputError(f"workload.batching: {what}")
    clients = experiment.workload.arrivals.concurrency
    if served.clients is not None and clients != served.clients:
        what = f"has {clients or 'no limit of'} clients, and the run had {served.clients}"
        remedy = f"{{kind: closed_loop, max_concurrency: {served.clients}}}"
        raise InputError(f"workload.arrivals: {what}; write {remedy}")


def served_warnings(experiment: Experiment, served: Served) -> Iterator[str]:
    """What of the run is otherwise in the experiment, as far as both say."""
    if served.failed:
        yield f"warning: {served.failed} requests of the run failed, and its times leave them out"
    asked = experiment.workload.requests
    if asked != served.completed:
        own = "its trace's" if asked is None else f"{asked:,}"
        what = f"the run answered {served.completed:,}, the experiment has {own}"
        yield f"warning: workload.requests: {what}; write {served.completed}"
    for key, theirs in (("input_len", served.prompt), ("output_len", served.answer)):
        length = getattr(experiment.workload.lengths, key, None)
        if length is not None and abs(length / theirs - 1) > _APART:
            what = f"the run's were {theirs:,.0f} tokens on average, the experiment's {length:,}"
            yield f"warning: workload.lengths.{key}: {what}"
