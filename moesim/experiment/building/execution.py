"""Which launches are captured where the experiment leaves it to its software."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from moesim.config.errors import InputError
from moesim.engine.captured import Captured
from moesim.hardware.described.software import Execution
from moesim.trace.routing import Phase

if TYPE_CHECKING:
    from moesim.engine.case import Case


class Chosen(NamedTuple):
    """A way of launching, and why it is this one."""

    execution: Execution
    reason: str


ANY = 1 << 20
"""Tokens of the largest pass that is captured, where software captures all."""
HOLDS_ALL = (
    "execution: 'graph' of requests that are served is of decode steps alone, and where experts are"
    " offloaded copies would differ between passes, which is not there yet; write piecewise or auto"
)
NOTHING = Chosen("eager", "it captures nothing on this card")


def execution_of(case: Case) -> Chosen:
    """What ``case``'s software captures of such a run, whatever the case's own execution.

    Software captures decode steps; those of a run are all captured or none. Prompts before them,
    whose kernels are long, are priced as they are.
    """
    software = case.software
    if not software.captures:
        return NOTHING
    decode = case.schedule.phase == Phase.DECODE
    if not decode.any():
        return Chosen("eager", "it captures decode steps")
    most = software.most_captured_tokens
    if most is not None and case.serving is None and (fullest := _fullest(case)) > most:
        return Chosen("eager", f"it captures {most} tokens a GPU, and a step has {fullest}")
    return _of_decode_steps(case)


def captured_of(case: Case, asked: Execution | None = None) -> Captured:
    """What ``case``'s software captures of passes that differ, by their kind and size.

    Of decode steps what is ``asked``, by default what it does in such a run; of other passes the
    pieces of a graph that would be whole (vLLM's FULL_AND_PIECEWISE).
    """
    decode = asked or _of_decode_steps(case).execution
    if decode == "graph" and case.divided_layers.any():
        raise InputError(HOLDS_ALL)
    others = "piecewise" if decode == "graph" else decode
    return Captured(decode, others, case.software.most_captured_tokens or ANY)


def _of_decode_steps(case: Case) -> Chosen:
    """What is captured of decode steps that are small enough."""
    software = case.software
    if case.divided_layers.any():
        return Chosen(software.offloaded_execution, "experts are offloaded")
    if case.decide == "host" and case.needs_decision:
        return Chosen("eager", "the host decides in every layer")
    return Chosen(software.resident_execution, "all experts are resident")


def _fullest(case: Case) -> int:
    """The most tokens that a GPU runs in a decode step: its own, or its group's."""
    schedule, groups = case.schedule, case.gpus // case.group
    seats = schedule.pass_of_token() * groups + schedule.gpu // case.group
    by_pass = np.bincount(seats, minlength=schedule.passes * groups).reshape(-1, groups)
    return int(by_pass[schedule.phase == Phase.DECODE].max())
