"""A policy declares what its functions read, or is told where they read it."""

from __future__ import annotations

from contextlib import nullcontext
from inspect import getsourcelines
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from moesim.config.errors import InputError, Problem
from moesim.memory import policy as words
from moesim.memory.policies import registry as policies
from moesim.memory.policy import (
    INSERTED,
    LAST_USE,
    NEXT_USE,
    ROWS,
    USAGE,
    CachePolicy,
    reads_usage,
)
from moesim.memory.policy_reads import Reads, keys_stay, reads_of
from moesim.runtime.compiled import inlined, njit

OWN, MORE = ROWS, ROWS + 1


@inlined
def noted(state: Any, expert: Any) -> Any:
    return state[OWN, expert]


@njit()
def of_next_use(scale: Any, state: Any) -> Any:
    return scale * state[NEXT_USE, 0]


def told_of(function: Any, name: str = "key", **declared: Any) -> list[tuple[int, str]]:
    """Lines within ``function``, from 0, and what is said of a policy with it."""
    functions = {
        "key": staticmethod(lambda e, s, d, p, c: s[LAST_USE, e]),
        name: staticmethod(function),
    }
    types = {"kind": Literal["probe"]} | dict.fromkeys(declared, ClassVar[Any])
    space = {"__module__": __name__, "__annotations__": types, "kind": "probe"}
    problems: tuple[Problem, ...] = ()
    metaclass: Any = type(CachePolicy)
    try:
        metaclass("Probe", (CachePolicy,), space | functions | declared)
    except InputError as error:
        problems = error.problems
    first = getsourcelines(function)[1]
    places = [problem.where.rpartition(":") for problem in problems]
    assert {
        (place, problem.path) for (place, *_), problem in zip(places, problems, strict=True)
    } <= {(__file__, f"Probe.{name}")}
    lines = [int(line) - first for *_, line in places]
    return list(zip(lines, (problem.what for problem in problems), strict=True))


def drawn(expert: Any, state: Any, chance: Any, position: Any, candidates: Any) -> Any:
    if candidates > 1:
        return int(chance * candidates)
    return chance


def test_a_draw_is_asked_for() -> None:
    what = (
        "reads 'draw', which is 0 unless the class asks for it; write draws: ClassVar[bool] = True"
    )
    assert told_of(drawn) == [(2, what)]
    assert told_of(drawn, draws=True) == []


def weighed(expert: Any, hit: Any, step: Any, layer: Any, weight: Any, state: Any) -> None:
    state[OWN, expert] += weight


def test_a_weight_is_asked_for() -> None:
    ((line, what),) = told_of(weighed, "before_activation", memory=1)
    assert (line, what.partition(",")[0]) == (1, "reads 'weight'")
    assert what.endswith("write weighs: ClassVar[bool] = True")
    assert told_of(weighed, "before_activation", memory=1, weighs=True) == []


def by_name(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
    return -state[NEXT_USE, expert]


def by_module(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
    return -state[words.NEXT_USE, expert]


def by_number(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
    return -state[3, expert]


def by_another(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
    return of_next_use(2, state)


@pytest.mark.parametrize("function", [by_name, by_module, by_number, by_another])
def test_a_next_use_is_asked_for(function: Any) -> None:
    ((_, what),) = told_of(function)
    assert what == (
        "reads NEXT_USE, which is not filled in unless the class asks for it; "
        "write looks_ahead: ClassVar[bool] = True"
    )
    assert told_of(function, looks_ahead=True) == []


def beyond(expert: Any, hit: Any, victim: Any, now: Any, state: Any) -> None:
    state[OWN, expert] = now
    state[MORE, 0] = state[ROWS + 1, 0] + 1
    state[OWN] = 0


def test_rows_of_its_own_are_asked_for() -> None:
    there = f"of state, which has {ROWS} and 0 of the policy's own; write memory: ClassVar[int] ="
    assert told_of(beyond, "after_activation") == [
        (1, f"uses row {OWN} {there} 1"),
        (2, f"uses row {MORE} {there} 2"),
    ]
    assert [line for line, _ in told_of(beyond, "after_activation", memory=1)] == [2]
    assert told_of(beyond, "after_activation", memory=2) == []


def through_another(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
    return noted(state, expert)


def test_a_function_that_is_given_the_state_is_read_too() -> None:
    ((line, what),) = told_of(through_another)
    assert what.startswith(f"uses row {OWN} ")
    assert line < 0  # where it stands, further up
    assert told_of(through_another, memory=1) == []


def unknown(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
    row = 3
    return state[row, expert] + state[position, expert] + state[OWN + position, expert]


def test_a_row_that_is_known_later_is_not_looked_at() -> None:
    assert told_of(unknown) == []


def test_a_family_declares_for_its_members() -> None:
    class Family(CachePolicy):
        """No policy yet, so that nothing is missing."""

        key = staticmethod(drawn)  # type: ignore[assignment,pydantic-field]

    class Member(Family):
        kind: Literal["member"] = "member"
        draws: ClassVar[bool] = True

    with pytest.raises(InputError, match="reads 'draw'"):

        class Forgetful(Family):
            kind: Literal["forgetful"] = "forgetful"


FILE = """
from typing import Any, Literal
from moesim.memory.policy import CachePolicy
class Edited(CachePolicy):
    kind: Literal["edited"] = "edited"
    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        return {}
"""


def test_a_file_that_was_edited_is_read_anew(tmp_path: Path) -> None:
    """As in a notebook, where the module is loaded again."""
    path = tmp_path / "edited.py"
    for returned, error in (("expert", nullcontext()), ("draw", pytest.raises(InputError))):
        path.write_text(FILE.format(returned), encoding="utf-8")
        with error:
            exec(compile(path.read_text(), path, "exec"), {"__name__": __name__})


def of_its_own(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
    return state[LAST_USE, expert] - state[OWN, expert]


def its_last_use(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
    return state[LAST_USE, expert]


TABLE = (3, 1, 2)


def of_a_table(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
    return TABLE[state[LAST_USE, expert] % 3]


def of_some(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
    if state[LAST_USE, expert] < 9:
        return 9
    return state[LAST_USE, expert]


def of_another(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
    return state[LAST_USE, expert] - state[OWN, 0]


def of_its_place(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
    return state[LAST_USE, expert] + position


def of_any_row(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
    return state[expert % 2, expert]


def of_a_view(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
    own = state
    return own[LAST_USE, expert]


def through_a_helper(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
    return noted(state, expert)


def fades(expert: Any, hit: Any, victim: Any, now: Any, state: Any) -> None:
    for e in range(state.shape[1]):
        state[OWN, e] //= 2


def counts(expert: Any, hit: Any, victim: Any, now: Any, state: Any) -> None:
    state[OWN, expert] += state[MORE, 0]


def looks_at_loads(expert: Any, hit: Any, victim: Any, now: Any, state: Any) -> None:
    state[OWN, expert] = state[INSERTED, expert]


def probe_with(key: Any, after: Any) -> type[CachePolicy]:
    class Probe(CachePolicy):
        memory: ClassVar[int] = 2

    Probe.key = staticmethod(key)  # type: ignore[method-assign]
    if after is not None:
        Probe.after_activation = staticmethod(after)  # type: ignore[method-assign]
    return Probe


@pytest.mark.parametrize(
    ("key", "after", "reads"),
    [
        (of_its_own, None, Reads((LAST_USE, OWN), own=True)),
        (of_its_own, counts, Reads((LAST_USE, OWN, MORE), own=True)),
        (of_its_own, fades, Reads((LAST_USE, OWN), own=False)),
        (its_last_use, None, Reads((LAST_USE,), own=True, is_row=LAST_USE)),
        (of_a_table, None, Reads((LAST_USE,), own=True)),
        (of_some, None, Reads((LAST_USE,), own=True)),
        (of_another, None, Reads((LAST_USE, OWN), own=False)),
        (of_its_place, None, Reads((LAST_USE,), own=False)),
        (of_any_row, None, Reads(None, own=False)),
        (of_a_view, None, Reads(None, own=False)),
        (through_a_helper, None, Reads((OWN,), own=False)),
    ],
)
def test_what_the_decisions_may_leave_out_is_known(key: Any, after: Any, reads: Reads) -> None:
    """A row that is read is counted; a key that others change is worked out anew."""
    assert reads_of(probe_with(key, after)) == reads


@pytest.mark.parametrize(
    ("key", "after", "stays"),
    [
        (of_its_own, None, True),
        (of_its_own, counts, True),
        (of_its_own, fades, False),
        (of_its_own, looks_at_loads, False),
        (of_another, None, True),
        (of_another, counts, False),
        (through_a_helper, None, True),
        (through_a_helper, counts, False),
        (of_its_place, None, False),
        (of_any_row, None, False),
        (of_a_view, None, False),
    ],
)
def test_victims_go_at_once_where_no_activation_changes_who_goes(
    key: Any, after: Any, stays: bool
) -> None:
    assert keys_stay(probe_with(key, after), (LAST_USE, INSERTED), INSERTED) == stays


class _Learns(CachePolicy):
    """Looks at what was used in the trace's first part before it begins."""

    def start(self, state: Any, slots: Any, resident: Any, layers: Any) -> None:
        state[OWN] = state[USAGE] // slots


def test_the_trace_is_looked_at_for_who_reads_it() -> None:
    assert [reads_usage(type(policies.get(kind)())) for kind in ("static", "lfru")] == [True, False]
    assert reads_usage(_Learns)
