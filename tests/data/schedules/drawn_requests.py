"""Small workloads that are drawn for the schedulers of engines."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any


def drawn_requests(
    drawn: random.Random, changes: dict[str, Any], block_size: int
) -> Iterator[list[Any]]:
    """[prompt, answer, arrival, family, shared blocks, follows, think] of each; what ``changes``
    says of them is taken out. Who reads them may draw more between two.
    """
    count = changes.pop("count", 24)
    longest, answers = changes.pop("longest", 60), changes.pop("answers", 30)
    gap, shares = changes.pop("gap", 12), changes.pop("shares", 0)
    sessions, now, lengths = changes.pop("sessions", 0), 0, list[int]()
    for number in range(count):
        now += drawn.randrange(gap + 1)
        prompt, answer = drawn.randint(1, longest), drawn.randint(1, answers)
        family = drawn.randrange(3)
        shared = min(drawn.randint(0, shares), prompt // block_size)
        after = number - sessions if sessions and number >= sessions else None
        if after is not None:
            prompt += lengths[after]
        lengths.append(prompt + answer)
        arrival = now if after is None else 0
        yield [prompt, answer, arrival, family, shared, after, drawn.randrange(40)]
