"""What is said of a published system: a record, from which its runs, tables and page are made."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from moesim.config.params import Params

Text = Annotated[str, Field(min_length=1)]
Names = Annotated[tuple[Text, ...], Field(min_length=1)]


class Points(Params):
    """An experiment and variants of it, each a list of settings as ``--set`` takes them.

    ``reduced``: settings of every point in quick runs.
    """

    experiment: Text
    points: Annotated[dict[str, tuple[Text, ...]], Field(min_length=1)]
    reduced: tuple[Text, ...] = ()


class Law(Params):
    """Something that holds between numbers: those of ``of`` at each point of ``at``, in order.

    ``are``: equal, rising, falling (equal ones too), ``ratios`` to the first, or at most or at
    least the one number of ``values``; exact but for ``within``, a share.
    """

    says: Text
    of: Names
    at: Names
    are: Literal["equal", "rising", "falling", "ratios", "at_most", "at_least"]
    values: tuple[float, ...] = ()
    within: Annotated[float, Field(ge=0)] = 1e-12

    @model_validator(mode="after")
    def _has_values(self) -> Self:
        terms = len(self.of) * len(self.at)
        wanted = {"ratios": terms, "at_most": 1, "at_least": 1}.get(self.are, 0)
        if len(self.values) != wanted:
            raise ValueError(f"'{self.are}' of {terms} numbers needs {wanted} values")
        if terms == 1 and wanted != 1:
            raise ValueError("compares one number with itself: name more points or metrics")
        return self


class Given(Params):
    """A published number and what is simulated for it: ``of`` at ``point``, or its ratio over that
    at ``over``.

    ``judged``: by a factor where the paper states its setting, by the sign (on which side of 1)
    where it leaves hardware, batch or software open, or not at all.
    """

    id: Text
    what: Text
    of: Text
    point: Text
    over: Text | None = None
    published: float
    source: Text
    judged: Literal["factor", "sign", "no"]
    factor: Annotated[float, Field(gt=1)] = 1.5
    note: str = ""


class Beyond(Params):
    """A question that the paper does not ask, answered by ``of`` at the points ``at``."""

    question: Text
    of: Names
    at: Names
    answer: Text


class Figure(Params):
    """``of`` over ``values`` (numbers or words), a line for each of ``series``: its points."""

    of: Text
    label: Text
    over: Text
    values: Annotated[tuple[float | str, ...], Field(min_length=1)]
    series: dict[str, Names]

    @model_validator(mode="after")
    def _as_long(self) -> Self:
        for name, points in self.series.items():
            if len(points) != len(self.values):
                raise ValueError(f"series '{name}' has {len(points)} points for {self.values}")
        return self


class System(Params):
    """A published system: question, mechanism, what holds, what the paper gives, what it lacks.

    ``missing``: the mechanism that moesim lacks; such a system has no points, and is not run.
    """

    title: Text
    paper: Text
    concepts: Names
    question: Text
    mechanism: Text
    missing: str = ""
    assumed: tuple[Text, ...] = ()
    not_to_read: tuple[Text, ...] = ()
    runs: tuple[Points, ...] = ()
    laws: tuple[Law, ...] = ()
    tested: tuple[Text, ...] = ()
    given: tuple[Given, ...] = ()
    beyond: Beyond | None = None
    figures: tuple[Figure, ...] = ()
    verdict: Text

    @model_validator(mode="after")
    def _runs_or_says_why(self) -> Self:
        if bool(self.runs) == bool(self.missing):
            raise ValueError("has either 'runs', or the mechanism that is 'missing'")
        points = [name for one in self.runs for name in one.points]
        if twice := sorted({name for name in points if points.count(name) > 1}):
            raise ValueError(f"names a point twice: {', '.join(twice)}")
        if unknown := sorted(set(self._named()) - set(points)):
            raise ValueError(f"names no point: {', '.join(unknown)}")
        return self

    def _named(self) -> list[str]:
        """Every point that a law, a number, a question or a figure names."""
        names = [name for law in self.laws for name in law.at]
        names += [name for one in self.given for name in (one.point, one.over) if name]
        names += self.beyond.at if self.beyond else []
        return names + [
            name for one in self.figures for series in one.series.values() for name in series
        ]
