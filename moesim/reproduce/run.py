"""Run the study: pools of sentences, answers at the defaults, then one assumption at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from moesim.reproduce.balance import judged_domains, pool_of
from moesim.reproduce.cases import Pools
from moesim.reproduce.curves import CURVES, Row
from moesim.reproduce.mapping import Progress, mapping
from moesim.reproduce.parameters import PARAMETERS, Assumptions, Parameter
from moesim.reproduce.settings import NODES, TASKS
from moesim.reproduce.study import LEVELS, Answer
from moesim.reproduce.table import Change
from moesim.reproduce.work import Answered, AnswerWork, CurveWork, PoolsWork, PoolWork


@dataclass(frozen=True)
class Found:
    """The study's answers by change, and the rows of its figures."""

    values: Assumptions
    answers: Mapping[Change | None, Mapping[str, Answer]]
    curves: Mapping[str, Sequence[Row]]


@dataclass(frozen=True)
class Plan:
    """What is simulated: ``parameters`` are varied one at a time."""

    values: Assumptions
    pools: Pools
    nodes: tuple[int, ...] = NODES
    parameters: tuple[Parameter, ...] = PARAMETERS
    tasks: tuple[str, ...] = tuple(TASKS)
    figures: tuple[str, ...] = tuple(CURVES)

    def changes(self, task: str) -> list[Change]:
        """The single changes that can move the answers of ``task``."""
        return [
            Change(one.name, value)
            for one in self.parameters
            if task in one.tasks
            for value in (*one.others, one.default)
            if value != self.values[one.name]
        ]

    def figure_tasks(self) -> list[tuple[str, str]]:
        """Each figure with each of its tasks."""
        pairs = [(figure, task) for figure in self.figures for task in CURVES[figure][1]]
        return [(figure, task) for figure, task in pairs if task in self.tasks]

    def pool_works(self) -> list[PoolWork]:
        """The pools that the defaults and the changes draw from."""
        works: dict[Path, PoolWork] = {}
        for task in self.tasks:
            for change in (None, *self.changes(task)):
                values = _changed(self.values, change)
                times = {1, pool_of(self.values)} if change is None else {1}
                for domain, size in product(range(len(LEVELS)), times):
                    work = PoolWork(task, domain, values, self.pools, size)
                    works.setdefault(work.path, work)
        return [work for path, work in works.items() if not path.is_file()]

    def larger_pools(self, task: str, base: Answered) -> PoolsWork:
        """The larger pools that placements are judged on under a change, of the domains that
        ``base`` found.
        """
        works: dict[Path, PoolWork] = {}
        for change in self.changes(task):
            values = _changed(self.values, change)
            for domain in sorted(judged_domains(TASKS[task], base.chosen)):
                work = PoolWork(task, domain, values, self.pools, pool_of(values))
                works.setdefault(work.path, work)
        return PoolsWork(tuple(work for path, work in works.items() if not path.is_file()))


def run_study(plan: Plan, jobs: int = 1, progress: Progress | None = None) -> Found:
    """Everything that the table and the figures hold, with ``jobs`` processes."""
    plan.pools.folder.mkdir(parents=True, exist_ok=True)
    pools, figures = plan.pool_works(), plan.figure_tasks()
    total = len(pools) + sum(2 + len(plan.changes(task)) for task in plan.tasks) + len(figures)
    with mapping(jobs, total, progress) as mapped:
        mapped(pools)
        base = dict(zip(plan.tasks, mapped([_base(plan, one) for one in plan.tasks]), strict=True))
        mapped([plan.larger_pools(task, base[task]) for task in plan.tasks])
        varied = [work for task in plan.tasks for work in _varied(plan, task, base[task])]
        known = {setting: batch for one in base.values() for setting, batch in one.largest.items()}
        drawn = [
            CurveWork(figure, task, plan.values, plan.pools, plan.nodes, known)
            for figure, task in figures
        ]
        results = mapped([*varied, *drawn])
    under: dict[Change | None, dict[str, Answer]] = {None: {}}
    for one in base.values():
        under[None] |= one.answers
    for work, result in zip(varied, results, strict=False):
        under.setdefault(work.change, {}).update(base[work.task].answers | result.answers)
    curves: dict[str, list[Row]] = {figure: [] for figure in plan.figures}
    for (figure, _), rows in zip(figures, results[len(varied) :], strict=True):
        curves[figure] += rows
    return Found(plan.values, under, curves)


def _changed(values: Assumptions, change: Change | None) -> Assumptions:
    return values if change is None else {**values, change.parameter: change.value}


def _base(plan: Plan, task: str) -> AnswerWork:
    return AnswerWork(task, plan.values, plan.pools, plan.nodes)


def _varied(plan: Plan, task: str, base: Answered) -> Iterator[AnswerWork]:
    """The work of each change: the domain with the largest ratio stays, and what fits, unless the
    change is about them.
    """
    by_name = {one.name: one for one in plan.parameters}
    for change in plan.changes(task):
        known = {} if by_name[change.parameter].memory else base.largest
        chosen = {} if change.parameter == "domain" else base.chosen
        moves = by_name[change.parameter].moves
        yield AnswerWork(task, plan.values, plan.pools, plan.nodes, change, known, chosen, moves)
