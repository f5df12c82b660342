"""Runs whose passes depend on the clock, several passes at a time: they are decided, priced and
played as it seems that they will be; what does not hold is taken back, and played as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.chunk import Chunk
from moesim.engine.progress import Standing
from moesim.engine.replay.clock.paced import Pace, play_paced, start_of
from moesim.engine.replay.clock.records import Filled, Gpus, Passes
from moesim.engine.replay.common import CommonProgram
from moesim.engine.replay.flat import Played
from moesim.engine.replay.quick.program import QuickProgram
from moesim.engine.replay.run_clock import Clock
from moesim.engine.routing import end_of_block
from moesim.workload.serving.stepping.ahead import BACK, REACHES
from moesim.workload.serving.stepping.foreseen import Foreseen

if TYPE_CHECKING:
    from moesim.engine.replay.prefetch.prefetching import Prefetching  # takes long to compile


def is_foreseen(case: Case) -> bool:
    """Whether the passes of ``case`` can be played before they are known for sure."""
    serving = case.serving
    if serving is None or case.scheduler != serving.passes or case.policy.looks_ahead:
        return False
    if case.exchanges and (serving.reads_misses or case.policy.draws):
        return False
    return case.prefetch.every == 1


def play_foreseen(
    program: QuickProgram | CommonProgram | Prefetching, clock: Clock, standing: Standing
) -> None:
    """Play the case of ``program``, whose schedule is ``Foreseen``."""
    case, first = program.case, 0
    schedule = case.schedule
    assert isinstance(schedule, Foreseen), "it decides ahead"
    assert case.serving is not None, "requests are served"
    player, knows = player_of(program, clock, schedule), False
    while first < schedule.passes or schedule.more_ahead(_most(program, first)):
        made: Any = program.mark()
        last, played = schedule.passes, clock.mark()
        if not knows and (masks := program.masks) is not None:
            schedule.foresight.know(masks, case.serving.served)
            knows = True
        charges = player.play(first, last)
        held = schedule.hold(first, clock.ends[first:last].max(axis=1))
        if first + held < last:
            program.back(made)
            clock.back(played)
            charges = player.play(first, first + held)
            program.pricing.forget_from(first + held)
        for at, one in charges:
            clock.charge_scheduler(at, one)
        first += held
        standing.after(first, schedule.foresight.state)
    program.end()
    case.serving.state = schedule.foresight.state


def _most(program: QuickProgram | CommonProgram | Prefetching, first: int) -> int:
    """How many passes from ``first`` on are played together."""
    last = end_of_block(first)
    return (program.stays(first, last) if isinstance(program, CommonProgram) else last) - first


def player_of(
    program: QuickProgram | CommonProgram | Prefetching, clock: Clock, schedule: Foreseen
) -> Player | Decider:
    """Who plays what ``program`` has."""
    if isinstance(program, QuickProgram | CommonProgram):
        return Player(program, clock, schedule)
    return Decider(program, clock, schedule)


class Decider:
    """Plays passes that are foreseen, and decided on the clock."""

    def __init__(self, ahead: Prefetching, clock: Clock, schedule: Foreseen) -> None:
        self._ahead, self._clock, self._lag = ahead, clock, schedule.foresight.lag
        self._pace = Pace(*schedule.foresight.pace[:REACHES])

    def play(self, first: int, last: int) -> list[tuple[int, Ints]]:
        """As ``Player`` does."""
        found = []
        for chunk in self._ahead.program.between(first, last):
            passes, charges = self._ahead.passes(chunk)
            play = partial(self._play, chunk, passes, BACK + chunk.first - first)
            self._clock.fill(chunk.first, passes, charges, self._ahead.most_launches, play)
            found.append((chunk.first, charges))
        return found

    def _play(self, chunk: Chunk, passes: Passes, step: int, gpus: Gpus, filled: Filled) -> None:
        filled.starts[:] = 0  # as in ``Player``
        paced, fixed = (self._pace, step, self._lag), self._clock.fixed_at(chunk.first)
        self._ahead.play(chunk, passes, fixed, gpus, filled, paced)


class Player:
    """Plays passes that are foreseen."""

    def __init__(
        self, program: QuickProgram | CommonProgram, clock: Clock, schedule: Foreseen
    ) -> None:
        self._program, self._clock, self._schedule = program, clock, schedule
        self._pace = Pace(*schedule.foresight.pace[:REACHES])

    def play(self, first: int, last: int) -> list[tuple[int, Ints]]:
        """Play passes first:last; their charges, with the passes from which on they are."""
        found = []
        for low, one in self._program.between(first, last):
            self._clock.copies += one.works.copies
            for begin, end in self._launched_alike(low, low + len(one.charges)):
                part = one.between(begin - low, end - low)
                self._play(begin, BACK + begin - first, part)
                found.append((begin, part.charges))
        return found

    def _play(self, first: int, step: int, one: Played) -> None:
        fixed, lag = self._clock.fixed_at(first), self._schedule.foresight.lag
        if one.beside is not None:
            begun = start_of(self._pace, step, int(self._clock.gpus.time.max()), lag)
            one = self._clock.with_moved(
                one, one.beside, np.full_like(self._clock.gpus.time, begun)
            )

        def play_into(gpus: Gpus, filled: Filled) -> None:
            filled.starts[:] = 0  # the pace says it, of passes that are played again, too
            paced = self._pace, step, lag
            if self._clock.links is None:
                play_paced(fixed, one.passes, one.works, gpus, filled, *paced)
            else:
                self._clock.links.play_paced(fixed, one, gpus, filled, paced)

        self._clock.fill(first, one.passes, one.charges, one.most_launches, play_into)

    def _launched_alike(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """First and one past the last of the passes first:last that are launched alike."""
        changes, before = list[int](), None
        for execution, passes in groupby(self._program.case.executions(first, last)):
            if (fixed := self._clock.fixed(execution)) is not before:
                changes.append(first)
            before = fixed
            first += len(list(passes))
        yield from pairwise([*changes, last])
