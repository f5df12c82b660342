"""Numbers of tokens."""

from __future__ import annotations

from typing import Any

import pytest

from moesim.config.amounts.quantity import QuantityError
from moesim.config.errors import InputError
from moesim.config.tokens import many_tokens_of, parse_tokens, tokens_of


@pytest.mark.parametrize(
    ("written", "tokens"),
    [(16384, 16384), ("16384", 16384), ("16k", 16384), (" 128 K ", 131_072), ("1M", 1 << 20),
     ("512 tokens", 512), ("16k tokens", 16384), ("1 token", 1)],
)  # fmt: skip
def test_a_number_or_thousands_of_1024(written: Any, tokens: int) -> None:
    assert parse_tokens(written) == tokens


@pytest.mark.parametrize("written", ["16x", "", "k", "-1k", "1.5k", 0, "0k", True, None, 16.0])
def test_anything_else_is_told_how_it_is_written(written: Any) -> None:
    with pytest.raises(QuantityError, match="16384 or 16k"):
        parse_tokens(written)


@pytest.mark.parametrize("written", [10**12, "9999999999999"])
def test_too_many_are_told_so(written: Any) -> None:
    with pytest.raises(QuantityError, match="has more than 12 digits"):
        parse_tokens(written)


def test_options_have_one_or_several() -> None:
    assert tokens_of("128k", "--context") == 131_072
    assert many_tokens_of("4096, 16k,1M,4k", "--context") == (4096, 16384, 1 << 20)
    with pytest.raises(InputError, match="--context: '16x' is no number of tokens"):
        many_tokens_of("4k,16x", "--context")
