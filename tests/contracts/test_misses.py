"""Every registered way to handle misses, asked what hypothesis makes up."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moesim.config.errors import InputError
from moesim.memory.misses import registry
from moesim.memory.misses.base import MissHandling
from moesim.testing.misses import answers_as_it_says

NS = st.integers(0, 1 << 40)
ASKED = st.tuples(NS, NS, st.integers(0, 5), NS, NS, NS)


@pytest.mark.parametrize("kind", registry.components)
@settings(max_examples=25, deadline=None)
@given(asked=ASKED, planned=st.integers(0, 1))
def test_contract(kind: str, asked: tuple[int, int, int, int, int, int], planned: int) -> None:
    answers_as_it_says(registry.get(kind)(), asked, planned)


@settings(max_examples=25, deadline=None)
@given(asked=ASKED, uploads=st.integers(0, 4))
def test_a_limit_of_loads_is_kept(asked: tuple[int, int, int, int, int, int], uploads: int) -> None:
    cheapest: Any = registry.get("cheapest")
    answers_as_it_says(cheapest(uploads=uploads), asked)


class Nowhere(MissHandling):
    """Answers what it does not say."""

    @staticmethod
    def place(missing):
        return 2


class Sly(Nowhere):
    """Reads prices and does not say so."""

    @staticmethod
    def place(missing):
        return 1 if missing.host_ns < missing.copy_ns else 0


def test_one_that_takes_its_arguments_apart_is_told_the_record() -> None:
    with pytest.raises(InputError, match=r"Apart.place: takes \(copied, loads\); write .*missing"):

        class Apart(MissHandling):
            @staticmethod
            def place(copied, loads):  # type: ignore[override]
                return 0


def test_a_field_that_place_cannot_read_is_named() -> None:
    """A sweep over it gave the same numbers at each point."""
    with pytest.raises(InputError, match=r"AtMost.most: is a field that reaches nothing: place"):

        class AtMost(MissHandling):
            most: int = 2

    class Limited(MissHandling):
        most: int = 2

        def most_loads(self) -> int:
            return self.most

    class Later(Limited):
        pass

    assert Later(most=3).most_loads() == 3


def test_one_that_breaks_the_rules_is_named() -> None:
    with pytest.raises(AssertionError, match="Nowhere answers form 2, of 1"):
        answers_as_it_says(Nowhere(), (0, 0, 0, 1, 1, 1))
    with pytest.raises(AssertionError, match="Sly answers form 1, of 1"):
        answers_as_it_says(Sly(), (0, 0, 0, 9, 1, 1))
