import math
import os
from itertools import pairwise
from pathlib import Path

import pytest

from moesim.config.document import Mark
from moesim.config.errors import InputError
from moesim.config.strict_yaml.compose import Composer, FastComposer, Plain
from moesim.config.strict_yaml.yaml import (
    compose,
    is_parquet,
    parse_document,
    parse_value,
    read_document,
    with_end_mark,
)


def value(text):
    return parse_document(f"a: {text}", "f.yaml").data["a"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e9", 1_000_000_000),
        ("-2E3", -2000),
        ("1e30", 1e30),
        ("1.5e-3", 0.0015),
        (".5", 0.5),
        ("4.", 4.0),
        ("007", 7),
        ("0x1F", 31),
        ("0o17", 15),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        (".inf", math.inf),
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2001-01-01", "2001-01-01"),
        ("'1'", "1"),
        ('"true"', "true"),
        ("8 slots/layer", "8 slots/layer"),
        ("25 %", "25 %"),
        ("[1, no, {b: 2}]", [1, "no", {"b": 2}]),
    ],
)
def test_scalars_are_read_as_in_yaml_1_2(text, expected):
    found = value(text)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("a: 1\nb: 2\na: 3", "3:1", "twice; first at line 1, column 1"),
        ("a: {b: 1, b: 2}", "1:11", "twice; first at line 1, column 5"),
        ("a: &x 1", "1:4", "anchor '&x'"),
        ("a: 1\nb: *x", "2:4", "alias '*x'"),
        ("a: !!python/name:os.system x", "1:4", "tag"),
        ("a: !size 3", "1:4", "tag '!size'"),
        ("<<: {a: 1}", "1:1", "merge key"),
        ("a: 1\n---\nb: 2", "2:1", "second document"),
        ("", "1:1", "is empty"),
        ("# a comment\n", "1:1", "is empty"),
        ("a:\n\tb: 1", "2:1", "tab"),
        ("a: [1, 2", "1:9", "not YAML"),
        ("a: b: c", "1:5", "not YAML"),
        ("a: 'b", "1:6", "not YAML"),
        ("a: 1\n  b: 2", "2:4", "not YAML"),
        ("a: \x00", "1:4", "U+0000"),
        ("[" * 5000, "1:101", "nested too deeply"),
        ("".join(f"{' ' * n}a:\n" for n in range(200)), "101:101", "nested too deeply"),
        ("? [a]\n: 1", "1:3", "a key must be"),
        ("'': 1", "1:1", "a key must be"),
        ("a: 1e999", "1:4", "too large"),
        ("a: " + "9" * 5000, "1:4", "too long"),
        ('a: "\\ud800"', "1:4", "surrogate"),
    ],
)
def test_what_is_not_plain_yaml_is_one_line_with_its_place(text, where, words):
    with pytest.raises(InputError) as error:
        parse_document(text, "f.yaml")
    (problem,) = error.value.problems
    assert problem.where == f"f.yaml:{where}"
    assert words in problem.what
    assert "\n" not in str(problem)


def test_all_readable_mistakes_come_at_once_by_line():
    with pytest.raises(InputError) as error:
        parse_document("a: &x 1\nb: *x\na: 2\nc: !t 3", "f.yaml")
    assert [p.where for p in error.value.problems] == [
        "f.yaml:1:4",
        "f.yaml:2:4",
        "f.yaml:3:1",
        "f.yaml:4:4",
    ]


def test_every_value_and_key_keeps_its_place():
    document = parse_document("a:\n  b: [10, {c: 20}]\n'x.y': 3\nd:\n", "f.yaml")
    assert document.value_mark(("a", "b", 1, "c")) == Mark("f.yaml", 2, 15)
    assert document.key_mark(("a", "b")) == Mark("f.yaml", 2, 3)
    assert document.value_mark(("x.y",)) == Mark("f.yaml", 3, 8)
    assert document.value_mark(("d",)) == Mark("f.yaml", 4, 1)
    assert document.value_mark(("a", "missing")) == Mark("f.yaml", 2, 3)


def test_merge_keys_in_quotes_are_keys():
    assert parse_document("'<<': 1", "f.yaml").data == {"<<": 1}


def test_aliases_cannot_grow():
    bomb = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in pairwise("abcdef"))
    assert len(compose(bomb, "f.yaml").problems) == 16


def test_files_are_utf_8(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_bytes("﻿name: é".encode())
    assert read_document(path).data == {"name": "é"}
    path.write_bytes(b"name: x\nmodel: caf\xe9")
    with pytest.raises(InputError, match=r"f\.yaml:2:11: the byte 0xE9 is not UTF-8"):
        read_document(path)


def test_files_that_cannot_be_opened(tmp_path):
    with pytest.raises(InputError, match="there is no such file"):
        read_document(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="is a folder; name the YAML file"):
        read_document(tmp_path)
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(InputError, match="is a pipe; name the YAML file"):
        read_document(tmp_path / "pipe.yaml")
    assert not is_parquet(tmp_path / "pipe.yaml")


def test_an_options_value_is_yaml_and_errors_name_the_option():
    assert parse_value("[4 slots/layer, 1e3]", "--set a") == ["4 slots/layer", 1000]
    assert parse_value("", "--set a") is None
    with pytest.raises(InputError, match=r"^--set a=\[1: this is not YAML"):
        parse_value("[1", "--set a=[1")


def test_a_parquet_file_is_named_as_one(tmp_path):
    (tmp_path / "t.yaml").write_bytes(b"PAR1\xfc\x00")
    with pytest.raises(InputError, match=r"t\.yaml: is a Parquet file; a YAML file is expected"):
        read_document(tmp_path / "t.yaml")
    assert is_parquet(tmp_path / "t.yaml")
    assert not is_parquet(tmp_path / "none.yaml")


def size_of(file: Path) -> int:
    return file.stat().st_size


ROOT = Path(__file__).parents[4]
SHIPPED = [*ROOT.glob("hardware_profiles/*.yaml"), *ROOT.glob("experiments/**/*.yaml")]
LARGE = [file for file in SHIPPED if size_of(file) > 100_000]
"""Profiles with tables of measured prices, which all are of one form."""


@pytest.mark.parametrize(
    "files",
    [
        pytest.param(
            [*sorted(set(SHIPPED) - set(LARGE)), min(LARGE, key=size_of)], id="and a large one"
        ),
        pytest.param(LARGE, id="large", marks=pytest.mark.long),
    ],
)
def test_both_parsers_read_every_shipped_file_alike(files: list[Path]) -> None:
    """libyaml's is the fast one; PyYAML's own words its errors, and stands in where it lacks."""
    assert len(files) > 5
    assert len(set(SHIPPED) - set(LARGE)) > 20
    for file in files:
        text = file.read_text(encoding="utf-8")
        found = []
        for composer in (FastComposer, Composer):
            plain = Plain(file.name, [])
            node = composer(text).get_single_node()
            assert node is not None
            found.append((plain.value(node, ()), plain.values))
        assert found[0] == found[1], file.name


def test_an_end_mark_is_written_once():
    text = with_end_mark("# a comment\ntitle: x\nsources: {}\n")
    assert text == '# a comment\nend_mark: "..."\ntitle: x\nsources: {}\n...\n'
    assert with_end_mark(text) == text
    assert with_end_mark(text.removesuffix("...\n")) == text
