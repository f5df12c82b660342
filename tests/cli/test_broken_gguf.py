"""Broken GGUF files: each gives exactly one line that names the mistake and the remedy."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import pytest

from moesim.config.errors import InputError
from moesim.model import load_model
from tests.gguf_files import Row, gguf, text, write

META: dict[str, Any] = {
    "general.architecture": "made", "made.block_count": 1, "made.embedding_length": 256,
    "made.attention.head_count": 4, "made.expert_count": 4, "made.expert_used_count": 2,
}  # fmt: skip
ROWS: list[Row] = [
    ("token_embd.weight", (256, 10), 0, 10240),
    ("blk.0.attn_q.weight", (256, 256), 0, 262144),
    ("blk.0.ffn_up_exps.weight", (256, 256, 4), 0, 1048576),
    ("blk.0.ffn_down_exps.weight", (256, 256, 4), 0, 1048576),
]
WHOLE = gguf(META, ROWS)
HEADER = b"GGUF" + struct.pack("<IQQ", 3, 1, 1)


def meta(**changes: Any) -> bytes:
    values = {**META, **{f"made.{key}": value for key, value in changes.items()}}
    return gguf({key: value for key, value in values.items() if value is not None}, ROWS)


def rows(*listed: Row) -> bytes:
    return gguf(META, listed)


def one_key(kind: int, raw: bytes) -> bytes:
    return HEADER + text("general.architecture") + struct.pack("<I", kind) + raw


BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is no GGUF file: it does not begin with 'GGUF'"),
    "something else": (b"PK\x03\x04" * 20, "is no GGUF file"),
    "the magic alone": (b"GGUF", "ends inside its header, at byte 4; download or copy"),
    "no counts": (b"GGUF\x03\0\0\0", "ends inside its header"),
    "version 1": (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "is GGUF version 1; convert"),
    "version 99": (b"GGUF" + struct.pack("<IQQ", 99, 0, 0), "is GGUF version 99"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "is a big-endian file; convert"),
    "endless tensors": (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0), f"has {2**60} tensors"),
    "endless keys": (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60), f"has {2**60} metadata keys"),
    "an endless key": (HEADER + struct.pack("<Q", 2**62), "ends inside its header"),
    "an endless text": (one_key(8, struct.pack("<Q", 2**62)), "ends inside its header"),
    "an unknown type": (one_key(77, b"\0" * 64), "a value of type 77 is unknown; it is damaged"),
    "an endless array": (
        one_key(9, struct.pack("<IQ", 4, 2**60)), f"says that it has {2**60} entries"),
    "an array beyond the end": (one_key(9, struct.pack("<IQ", 4, 10**6)), "ends inside its head"),
    "texts beyond the end": (one_key(9, struct.pack("<IQ", 8, 10**6)), "ends inside its header"),
    "arrays in an array": (one_key(9, struct.pack("<IQ", 9, 1)), "an array of arrays is unknown"),
    "an array of nothing": (one_key(9, struct.pack("<IQ", 66, 1)), "type 66 is unknown"),
    "cut in the metadata": (WHOLE[:150], "ends inside its header, at byte 150"),
    "cut in the tensors": (WHOLE[:-60], "ends inside its header"),
    "no dimensions": (rows(("x", (), 0, 4)), "tensor 'x' has 0 dimensions"),
    "many dimensions": (rows(("x", (1,) * 9, 0, 4)), "tensor 'x' has 9 dimensions"),
    "an empty dimension": (rows(("x", (256, 0), 0, 4)), "tensor 'x' is 256 x 0; it is damaged"),
    "an endless tensor": (rows(("x", (2**40, 2**40), 0, 4)), "tensor 'x' is .* it is damaged"),
    "a tensor without a name": (rows(("", (4, 4), 0, 64)), "has a tensor without a name at byte"),
    "a name of two lines": (rows(("x\ny", (4, 4), 0, 64)), "has a tensor without a name at byte"),
    "a key that is none": (gguf({"a\0b": 1}, ROWS), "has a key without a name at byte 24"),
    "one name twice": (rows(*ROWS, ROWS[0]), "has two tensors of one name"),
    "no architecture": (gguf({}, ROWS), "general.architecture: is missing; is it a model's"),
    "an architecture that is a number": (
        gguf({"general.architecture": 3}, ROWS), "general.architecture: is missing"),
    "no tensors": (gguf(META, []), "has no layers"),
    "a tower for images": (
        gguf({"general.architecture": "clip"}, [("v.blk.0.attn_q.weight", (4, 4), 0, 64)]),
        "has no layers"),
    "a dense model": (
        rows(ROWS[0], ("blk.0.ffn_up.weight", (256, 256), 0, 262144)),
        "has no experts .general.architecture 'made'.: no tensor is called ffn_._exps"),
    "an endless layer": (
        rows(*ROWS, ("blk.99999999.ffn_up_exps.weight", (256, 256, 4), 0, 1048576)),
        "has a layer 99999999"),
    "too few layers": (meta(block_count=7), "made.block_count: 7, but there are tensors of 1"),
    "text for layers": (meta(block_count="many"), "made.block_count: many: should be a whole"),
    "no hidden size": (meta(embedding_length=None), "made.embedding_length: is missing or 0"),
    "no top-k": (meta(expert_used_count=None), "made.expert_used_count: a token cannot choose 0"),
    "top-k above experts": (meta(expert_used_count=5), "cannot choose 5 of 4 experts"),
    "experts that are not there": (
        meta(expert_count=3), "made.expert_count: 3, but 'blk.0.ffn_up_exps.weight' holds 4"),
    "no table of tokens": (rows(*ROWS[1:]), "has no table of tokens"),
    "an alignment of nothing": (
        gguf({**META, "general.alignment": 0}, ROWS), "general.alignment: 0 is no alignment"),
}  # fmt: skip


def only_line(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_model(str(path))
    assert len(caught.value.problems) == 1
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_one_clear_line(case: str, tmp_path: Path) -> None:
    content, expected = BROKEN[case]
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    line = only_line(path)
    assert line.startswith(str(path))
    assert re.search(expected, line)


def test_no_cut_of_a_header_is_more_than_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    for length in range(4, len(WHOLE) - 32, 7):
        path.write_bytes(WHOLE[:length])
        assert "ends inside its header" in only_line(path)


def test_a_part_that_is_missing_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "m-00002-of-00003.gguf", META, ROWS)
    line = only_line(path)
    assert "of 3 parts 'm-00001-of-00003.gguf' and 1 more is missing; put all in" in line


def test_parts_that_do_not_belong_together(tmp_path: Path) -> None:
    alone = write(tmp_path / "alone.gguf", {**META, "split.count": 3}, ROWS)
    assert "split.count: is part of 3 files, but its name is of 1" in only_line(alone)
    first = write(tmp_path / "m-00001-of-00002.gguf", {**META, "split.tensors.count": 9}, ROWS[:2])
    write(tmp_path / "m-00002-of-00002.gguf", {}, ROWS[2:])
    assert "its parts hold 4 of 9 tensors" in only_line(first)
    odd = write(tmp_path / "m-00009-of-00002.gguf", META, ROWS)
    assert "is named part 9 of 2; restore its name" in only_line(odd)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "neither a shipped card nor a path" in only_line(tmp_path / "absent.gguf")
