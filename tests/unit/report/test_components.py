"""Components in words."""

from __future__ import annotations

import pytest

from moesim.sweep.words import in_words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("lru", "lru"),
        (8, "8"),
        ('{"kind": "oracle", "recall": "50 %"}', "oracle, recall 50 %"),
        ('{"kind": "gshard", "min_capacity": 4}', "gshard, min capacity 4"),
    ],
)
def test_a_component_is_told_by_its_kind(value: object, words: str) -> None:
    assert in_words(value) == words
