"""JSON from outside: one line with the place of what is wrong."""

from typing import Any

import pytest

from moesim.config.errors import InputError
from moesim.config.json_text import DEEPEST, is_deeper, parse_json, read_object

NESTED = '{"a":\n ' + "[" * 100_000


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        (NESTED, "2:101", "nested too deeply"),
        ("[" * 101 + "]" * 101, "1:101", "nested too deeply"),
        ('{"a": 1,\n "b"', "2:5", "is not valid JSON"),
        ('{"a": {"b": 1,\n "b": 2}}', "2:2", "the key 'b' occurs twice"),
        ('{"a": 1,\n "\\u0061": 2}', "2:2", "the key 'a' occurs twice"),
        ('{"a":\n NaN}', "2:2", "NaN is no number"),
        ('{"a":\n -Infinity}', "2:2", "-Infinity is no number"),
        ('{"a":\n 1e999}', "2:2", "1e999 is no number"),
        ('{"a":\n ' + "9" * 5000 + "}", "2:2", "is no number"),
        ('{"a":\n "\\ud800"}', "2:2", "half of a surrogate pair"),
        (b'{"a":\n "\xe9"}', "2:3", "0xE9 is not UTF-8"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(text, where, words):
    with pytest.raises(InputError) as error:
        parse_json(text, "f.json")
    (problem,) = error.value.problems
    assert problem.where == f"f.json:{where}"
    assert words in problem.what
    assert "\n" not in str(problem)


def test_the_lines_of_a_part_are_those_of_its_file():
    with pytest.raises(InputError, match=r"^f\.jsonl:7:5: is not valid JSON"):
        parse_json("[1, ", "f.jsonl", 7)


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"a": NaN}', '{"a": -Infinity}'])
def test_other_programs_may_write_a_key_twice_and_what_is_no_number(text):
    assert set(parse_json(text, "f.json", strict=False)) == {"a"}
    with pytest.raises(InputError, match="nested too deeply"):
        parse_json(NESTED, "f.json", strict=False)


def test_braces_keys_and_numbers_in_texts_are_text():
    text = '{"a": "[{NaN \\" 1e999", "b": {"a": "\\ud83d\\ude00"}, "c": [{"a": 1}, {"a": 2}]}'
    assert parse_json(text, "f.json")["b"] == {"a": "\U0001f600"}


def test_depth_counts_what_lies_in_one_another():
    value: Any = 0
    for _ in range(DEEPEST):
        value = [value, {"a": 1}] if isinstance(value, list) else [value]
    assert not is_deeper(value)
    assert is_deeper([value])
    assert not is_deeper(0)


def test_a_file_that_holds_no_object(tmp_path):
    (tmp_path / "f.json").write_text("[1]")
    with pytest.raises(InputError, match=r"f\.json: holds a list, no JSON object"):
        read_object(tmp_path / "f.json")
