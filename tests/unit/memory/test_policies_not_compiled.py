"""A policy that numba cannot compile is one line: where, which function, and why."""

from __future__ import annotations

import sys
from inspect import getsourcelines
from pathlib import Path
from typing import Any, Literal

import numba
import pytest

from moesim import run
from moesim.config.errors import InputError
from moesim.experiment.loading.resolve import load_experiment
from moesim.memory.misses.load import Load
from moesim.memory.policy import LAST_USE, CachePolicy
from moesim.memory.slots.residency import decide_in_of, first_of

CONFIG: Any = numba.config


def helped(value: Any) -> Any:
    return value


class WrongName(CachePolicy):
    kind: Literal["wrong_name"] = "wrong_name"

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        return state[LAST_USE, expert] + missing  # type: ignore[name-defined]  # noqa: F821


class WrongType(CachePolicy):
    kind: Literal["wrong_type"] = "wrong_type"

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        last = state[LAST_USE, expert]
        return last + "a"


class PlainHelper(CachePolicy):
    kind: Literal["plain_helper"] = "plain_helper"

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        return helped(state[LAST_USE, expert])


class WrongResult(CachePolicy):
    kind: Literal["wrong_result"] = "wrong_result"

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        return "first"


class Unreadable(CachePolicy):
    kind: Literal["unreadable"] = "unreadable"

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        import math

        return math.pi


@pytest.mark.parametrize(
    ("policy", "line", "reason"),
    [
        (WrongName, 0, "name 'missing' is not defined"),
        (WrongType, 3, r"there is no add\(int64, Literal\[str\]\(a\)\)"),
        (PlainHelper, 2, "Untyped global name 'helped'"),
        (Unreadable, 2, r"Use of unsupported opcode \(IMPORT_NAME\) found"),
    ],
)
def test_a_key_is_told_in_one_line(policy: type[CachePolicy], line: int, reason: str) -> None:
    with pytest.raises(InputError, match=f"numba cannot compile it: .*{reason}") as caught:
        first_of(policy)
    (problem,) = caught.value.problems
    first = getsourcelines(policy.key)[1]
    assert problem.where == f"{__file__}:{first + line}"
    assert problem.path == f"{policy.__name__}.key"
    assert problem.what.endswith("is made with moesim.runtime.compiled.inlined")
    assert len(str(problem).splitlines()) == 1
    assert caught.value.__suppress_context__  # numba's hundred lines


class Divides(CachePolicy):
    kind: Literal["divides"] = "divides"

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        return 1 // (state[LAST_USE, expert] - state[LAST_USE, expert])


class Raises(CachePolicy):
    kind: Literal["raises"] = "raises"

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        if state[LAST_USE, expert] > 50:
            raise ValueError("too late")
        return state[LAST_USE, expert]


class Overruns(CachePolicy):
    kind: Literal["overruns"] = "overruns"

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        return state[LAST_USE, expert]

    def start(self, state: Any, slots: int, resident: Any, layers: int) -> None:
        state[99] = slots


LINE = getsourcelines(Raises.key)[1] + 3
RAISED = {
    Divides: rf"compiled code of 'divides' \({__file__}\) ended with ZeroDivisionError: int",
    Raises: rf"'raises' raises ValueError: too late \({__file__}:{LINE}\)",
    Overruns: rf"'overruns' raises IndexError: index 99 .*\({__file__}:",
}


@pytest.mark.skipif(CONFIG.DISABLE_JIT, reason="only compiled code cannot hand it on")
@pytest.mark.parametrize("engine", ["replay", "des"])
@pytest.mark.parametrize("policy", RAISED)
def test_what_a_policy_raises_ends_the_run_with_its_name(
    tmp_path: Path, policy: type[CachePolicy], engine: str
) -> None:
    """It had been lines on stderr, and a result of whatever was decided until then."""
    source: dict[str, Any] = {
        "model": "small-moe",
        "hardware": "rtx-4060-8gb",
        "trace": "traces/small-moe.parquet",
        "experts": {"capacity": "8 slots/layer"},
        "engine": engine,
    }
    base = load_experiment(source).experiment
    experts = base.experts.model_copy(update={"policy": policy()})
    before = sys.unraisablehook
    with pytest.raises(InputError, match=f"experts.policy: {RAISED[policy]}"):
        run(base.model_copy(update={"experts": experts}), out=tmp_path / "out")
    assert sys.unraisablehook is before
    assert not (tmp_path / "out").exists()


class CutOff(CachePolicy):
    kind: Literal["cut_off"] = "cut_off"

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        return state[LAST_USE, expert] / 3


@pytest.mark.parametrize(
    ("policy", "given", "compiled"),
    [
        (CutOff, "float64", first_of),
        (CutOff, "float64", lambda policy: decide_in_of(policy, Load)),
        (WrongResult, r"Literal\[str\]\(first\)", first_of),
    ],
)
def test_a_key_that_is_no_whole_number_is_told(
    policy: type[CachePolicy], given: str, compiled: Any
) -> None:
    with pytest.raises(InputError, match=f"gives {given}, which is no whole number") as caught:
        compiled(policy)
    (problem,) = caught.value.problems
    assert problem.where == f"{__file__}:{getsourcelines(policy.key)[1]}"
    assert problem.path == f"{policy.__name__}.key"
    assert len(str(problem).splitlines()) == 1


class WrongAttribute(CachePolicy):
    kind: Literal["wrong_attribute"] = "wrong_attribute"

    @staticmethod
    def after_activation(expert: Any, hit: Any, victim: Any, now: Any, state: Any) -> None:
        state.uses[expert] = now

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        return state[LAST_USE, expert]


def test_so_is_what_sees_the_activations() -> None:
    with pytest.raises(InputError, match="Unknown attribute 'uses' of type array") as caught:
        decide_in_of(WrongAttribute, Load)
    (problem,) = caught.value.problems
    assert problem.path == "WrongAttribute.after_activation"
    assert problem.where == f"{__file__}:{getsourcelines(WrongAttribute.after_activation)[1] + 2}"
