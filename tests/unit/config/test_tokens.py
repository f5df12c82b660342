"""Numbers of tokens."""

from __future__ import annotations

from typing import Any

import pytest

from moesim.config.quantity import QuantityError
from moesim.config.tokens import parse_tokens


@pytest.mark.parametrize(
    ("written", "tokens"),
    [(16384, 16384), ("16384", 16384), ("16k", 16384), (" 128 K ", 131_072), ("1M", 1 << 20)],
)
def test_a_number_or_thousands_of_1024(written: Any, tokens: int) -> None:
    assert parse_tokens(written) == tokens


@pytest.mark.parametrize("written", ["16x", "", "k", "-1k", "1.5k", 0, "0k", True, None, 16.0])
def test_anything_else_is_told_how_it_is_written(written: Any) -> None:
    with pytest.raises(QuantityError, match="16384 or 16k"):
        parse_tokens(written)
