"""A policy's functions take what the cache gives them, or say so in one line."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from moesim.config.errors import InputError
from moesim.memory.policy import CachePolicy


def test_too_few_arguments_are_told_with_the_file_and_those_expected() -> None:
    with pytest.raises(InputError) as caught:

        class Wrong(CachePolicy):
            @staticmethod
            def before_activation(expert, hit, step, layer, state) -> None:  # type: ignore[override]
                """Without the weight."""

    (problem,) = caught.value.problems
    place, _, line = problem.where.rpartition(":")
    assert place == __file__
    assert int(line) > 1
    assert problem.path.endswith("Wrong.before_activation")
    assert problem.what == (
        "takes (expert, hit, step, layer, state) -> 'None'; "
        "write @staticmethod before_activation(expert, hit, step, layer, weight, state)"
    )


def test_every_wrong_function_is_told_and_one_that_is_not_static() -> None:
    with pytest.raises(InputError) as caught:

        class Wrong(CachePolicy):
            def key(  # type: ignore[override]
                self, expert: Any, state: Any, draw: Any, position: Any
            ) -> Any:
                """Five with self, as many as a static key has."""

            @staticmethod
            def after_activation(expert: Any, hit: Any) -> None:  # type: ignore[override]
                """Too few."""

    key, after = caught.value.problems
    assert "is no @staticmethod" not in after.what
    assert "and is no @staticmethod; write @staticmethod key(expert, state, draw" in key.what


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_earlier_name_is_refused_with_todays(when: str) -> None:
    with pytest.raises(InputError) as caught:
        type("Earlier", (CachePolicy,), {f"{when}_turn": staticmethod(lambda *_: None)})
    (problem,) = caught.value.problems
    assert problem.where.startswith(f"{__file__}:")
    assert problem.path == f"Earlier.{when}_turn"
    assert problem.what.startswith(
        f"is '{when}_activation' now; write @staticmethod {when}_activation(expert, hit, "
    )


def test_other_names_and_inherited_functions_are_taken() -> None:
    class Right(CachePolicy):
        @staticmethod
        def key(e: Any, s: Any, *rest: Any) -> Any:
            """By position."""
            return s[0, e]

    class Child(Right):
        """With the key of its parent."""

    assert Child.key is Right.key


def test_a_policy_without_a_key_is_told_what_to_write() -> None:
    class Family(CachePolicy):
        """With no kind it is no policy yet."""

    with pytest.raises(InputError) as caught:

        class Keyless(Family):
            kind: Literal["keyless"] = "keyless"

    (problem,) = caught.value.problems
    assert problem.path.endswith("Keyless.key")
    assert problem.what == (
        "is missing; write @staticmethod key(expert, state, draw, position, candidates)"
    )


def test_a_field_that_no_method_reads_is_named() -> None:
    with pytest.raises(InputError, match=r"Half.life: is a field that reaches nothing.*in start"):

        class Half(CachePolicy):
            life: int = 3

            @staticmethod
            def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
                return state[0, expert]
