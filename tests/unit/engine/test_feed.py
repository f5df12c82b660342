"""How chunks come to the processes of the GPUs."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

from moesim.engine.des.run import _Feed


class Numbered(int):
    """A chunk that is its number."""

    first = 0


def fed(chunks: int, gpus: int) -> Any:
    program, tally = Mock(), Mock()
    program.chunks.return_value = map(Numbered, range(chunks))
    tally.add.side_effect = lambda chunk: f"counts of {chunk}"
    return _Feed(program, tally, gpus, Mock())


def test_a_gpu_that_meets_no_other_may_be_any_number_of_chunks_ahead() -> None:
    feed, played = fed(4, 2), [0, 1, 2, 3, None]
    taken: list[Any] = [feed(number) for number in range(5)]
    assert taken == played
    assert [feed(number) for number in range(5)] == played


def test_what_nobody_plays_any_more_is_forgotten() -> None:
    feed = fed(3, 2)
    for number in range(3):
        assert feed(number) == feed(number) == number
        assert feed.counted(number) == (number, f"counts of {number}")
        assert list(feed._held) == [number]
