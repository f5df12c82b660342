"""Pieces of the study that processes do apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from moesim.reproduce.cases import Pools
from moesim.reproduce.curves import CURVES, Row
from moesim.reproduce.measures import answers
from moesim.reproduce.parameters import EVERYTHING, Assumptions, Value
from moesim.reproduce.settings import TASKS, Setting
from moesim.reproduce.study import Answer, Study
from moesim.reproduce.table import Change
from moesim.reproduce.traces import write_pool


@dataclass(frozen=True)
class PoolWork:
    """Synthesise a pool of sentences."""

    task: str
    domain: int
    values: Assumptions
    pools: Pools
    times: int = 1

    @property
    def setting(self) -> Setting:
        """A point that draws from it."""
        return Setting(self.task, "dynamic", 1, domain=self.domain, pool=self.times)

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.pools.of(self.setting, self.values)

    def __call__(self) -> None:
        """Write it."""
        sentences = self.pools.sentences(self.setting)
        write_pool(self.path, TASKS[self.task], self.domain, self.values, sentences)


@dataclass(frozen=True)
class PoolsWork:
    """Several pools of a task, none of them too."""

    pools: tuple[PoolWork, ...]

    def __call__(self) -> None:
        """Write them."""
        for pool in self.pools:
            pool()


@dataclass(frozen=True)
class Answered:
    """Answers of a task, and what other work need not find again."""

    answers: dict[str, Answer]
    largest: dict[Setting, int]
    chosen: dict[str, int]


@dataclass(frozen=True)
class AnswerWork:
    """The answers of a task, of all ``families`` that a change of the assumptions moves."""

    task: str
    values: Assumptions
    pools: Pools
    nodes: tuple[int, ...]
    change: Change | None = None
    known: Mapping[Setting, int] = field(default_factory=dict)
    chosen: Mapping[str, int] = field(default_factory=dict)
    families: tuple[str, ...] = EVERYTHING

    def __call__(self) -> Answered:
        """Find them."""
        changed: dict[str, Value] = dict(self.values)
        if self.change is not None:
            changed[self.change.parameter] = self.change.value
        study = Study(
            changed, self.pools, self.nodes, self.known, self.chosen, detailed=self.change is None
        )
        found = {answer.id: answer for answer in answers(study, self.task, self.families)}
        return Answered(found, study.largest_found, study.chosen_found)


@dataclass(frozen=True)
class CurveWork:
    """The rows of a figure for one of its tasks."""

    figure: str
    task: str
    values: Assumptions
    pools: Pools
    nodes: tuple[int, ...]
    known: Mapping[Setting, int] = field(default_factory=dict)

    def __call__(self) -> list[Row]:
        """Find them."""
        study = Study(self.values, self.pools, self.nodes, self.known)
        rows, _ = CURVES[self.figure]
        return list(rows(study, TASKS[self.task]))
