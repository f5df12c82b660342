"""Which engine plays an experiment, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from moesim.config.errors import InputError
from moesim.engine.case import Case, Ints
from moesim.engine.outcome import Outcome
from moesim.experiment.building.build import build
from moesim.experiment.building.built import Built
from moesim.experiment.schema.experiment import Experiment

if TYPE_CHECKING:
    from moesim.engine.progress import Progress
    from moesim.engine.replay.log import DecisionLog


class Engine(NamedTuple):
    """An engine and why it was taken."""

    name: str
    reason: str

    def play(
        self,
        case: Case,
        *,
        records: str,
        check: bool,
        log: DecisionLog | None = None,
        cuts: Ints | None = None,
        progress: Progress | None = None,
    ) -> Outcome:
        """Run the engine, which is loaded only now; ``log``, ``cuts`` and ``progress`` as in
        ``run_replay``.
        """
        if self.name == "replay":
            from moesim.engine.replay.run import run_replay

            return run_replay(case, records=records, log=log, cuts=cuts, progress=progress)
        from moesim.engine.des.run import run_des

        return run_des(case, records=records, check=check, progress=progress)


def outside_replay(case: Case, records: str, *, check: bool) -> Iterator[str]:
    """What ``replay`` does not play; without any it gives the nanoseconds of ``des``."""
    shares, host = case.links is not None, case.host_cache
    if shares and case.prefetches:
        yield "prefetches over a shared link"
    if shares and host is not None and (host.rooms or case.prefill == "stream"):
        yield "whole layers from storage over a shared link"
    if records == "expert":
        yield "records: expert"
    if check:
        yield "--check"


def engine_of(experiment: Experiment, case: Case, *, check: bool) -> Engine:
    """The engine that ``experiment`` names, or the fastest that is exact.

    Raises InputError where it names ``replay`` and that does not play it.
    """
    beyond = next(outside_replay(case, experiment.records, check=check), None)
    if experiment.engine == "auto":
        if beyond is None:
            return Engine("replay", "the fastest engine, and exact here")
        return Engine("des", f"{beyond}: only des plays it")
    if experiment.engine == "replay" and beyond is not None:
        raise InputError(f"engine: 'replay' does not play {beyond}; write auto or des")
    return Engine(experiment.engine, "named by the experiment")


def ready(
    experiment: Experiment, limit_steps: int | None = None, *, check: bool = False
) -> tuple[Built, Engine]:
    """What a run of ``experiment`` plays, and its engine; all that it may be refused for before it
    begins is an InputError here.
    """
    built = build(experiment, limit_steps)
    return built, judged(experiment, built, check=check)


def judged(experiment: Experiment, built: Built, *, check: bool = False) -> Engine:
    """The engine of a run of ``experiment``, for which was ``built``, or the InputError that
    refuses it.
    """
    built.case.refuse_unknown_passes()
    return engine_of(experiment, built.case, check=check)
