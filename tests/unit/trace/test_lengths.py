"""Tokens of requests as a user gives them."""

from __future__ import annotations

from pathlib import Path

import pytest

from moesim.config.errors import InputError
from moesim.trace.lengths import parse_lengths


@pytest.mark.parametrize(
    ("text", "lengths"), [("7", 7), ("0", 0), ("7,12,9", [7, 12, 9]), ("7, 12", [7, 12])]
)
def test_numbers(text: str, lengths: object) -> None:
    assert parse_lengths(text, "--prompt-tokens") == lengths


@pytest.mark.parametrize("content", ["7\n12\n9\n", "7, 12,\n9", "7 12 9", "\ufeff7,12,9"])
def test_a_file_of_numbers(tmp_path: Path, content: str) -> None:
    (tmp_path / "lengths.txt").write_text(content, encoding="utf-8")
    assert parse_lengths(str(tmp_path / "lengths.txt"), "--prompt-tokens") == [7, 12, 9]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("7,-1", "--prompt-tokens: '-1' is no whole number; write tokens as in 7"),
        ("7,1.5", "'1.5' is no whole number"),
        (",", "has no number"),
        ("99999999999", "there is no such file"),
        ("nowhere.txt", "nowhere.txt: there is no such file"),
    ],
)
def test_what_is_no_number(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_lengths(text, "--prompt-tokens")


def test_a_file_with_something_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "lengths.txt").write_text("7\ntwelve")
    with pytest.raises(InputError, match=r"lengths\.txt: 'twelve' is no whole number"):
        parse_lengths(str(tmp_path / "lengths.txt"), "--prompt-tokens")
