"""A result as bytes: a head of JSON, then its tables in Arrow's stream format, compressed.

A sweep appends the results of its points to few files; a cache keeps one a file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.ipc

from moesim.config.errors import InputError
from moesim.config.json_text import parse_json
from moesim.results.files import UNREADABLE, first_line, plain
from moesim.results.provenance import FORMAT
from moesim.results.renamed import COLUMNS, check_names
from moesim.results.result import TABLES, Result
from moesim.results.shape import Configuration, Provenance, Shape, Summary, check_shape

MAGIC = b"moesim-result-1\n"
_DIGEST_BYTES, _LENGTH_BYTES = 32, 8
_HEAD_START = len(MAGIC) + _DIGEST_BYTES + _LENGTH_BYTES


SHAPES: Mapping[str, type[Shape]] = {
    "summary": Summary,
    "experiment": Configuration,
    "provenance": Provenance,
}


class DamagedError(ValueError):
    """Bytes that are not as ``pack`` made them."""


def pack(result: Result) -> bytes:
    """``result`` as bytes; the SHA-256 of all that follows stands behind the first ones."""
    tables = {name: _stream(getattr(result, name)) for name in TABLES if len(getattr(result, name))}
    head = {
        "summary": plain(result.summary),
        "experiment": plain(result.configuration),
        "provenance": plain({**result.provenance, "format": FORMAT}),
        "tables": {name: len(stream) for name, stream in tables.items()},
    }
    text = json.dumps(head, allow_nan=False, ensure_ascii=False).encode()
    body = b"".join((len(text).to_bytes(_LENGTH_BYTES, "little"), text, *tables.values()))
    return MAGIC + hashlib.sha256(body).digest() + body


def unpack(content: bytes, tables: Iterable[str] = tuple(TABLES)) -> Result:
    """The result in ``content``, of its tables only ``tables``; DamagedError where it is not
    whole.
    """
    digest, body = content[len(MAGIC) :][:_DIGEST_BYTES], content[len(MAGIC) + _DIGEST_BYTES :]
    if not content.startswith(MAGIC) or hashlib.sha256(body).digest() != digest:
        raise DamagedError("not as it was written")
    start = _HEAD_START + int.from_bytes(body[:_LENGTH_BYTES], "little")
    try:
        head = parse_json(content[_HEAD_START:start], "its head")
        for part, shape in SHAPES.items():
            check_shape(head[part], shape, f"its {part}")
        parts = _parts(head["tables"], start)
        wanted = {name: _table(content[parts[name]]) for name in tables if name in parts}
    except (*UNREADABLE, InputError) as error:
        raise DamagedError(f"no result, {first_line(error)}") from error
    return Result(head["summary"], head["experiment"], head["provenance"], **wanted)


def _parts(lengths: Mapping[str, int], start: int) -> dict[str, slice]:
    """Where each table's bytes stand."""
    parts = {}
    for name, length in lengths.items():
        parts[name] = slice(start, start + length)
        start += length
    return parts


def _stream(table: pd.DataFrame) -> bytes:
    columns = pa.Table.from_pandas(table, preserve_index=False)
    sink = pa.BufferOutputStream()
    options = pyarrow.ipc.IpcWriteOptions(compression="zstd", use_threads=False)
    with pyarrow.ipc.new_stream(sink, columns.schema, options=options) as writer:
        writer.write_table(columns)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _table(content: bytes) -> Any:
    table = pyarrow.ipc.open_stream(content).read_all().to_pandas()
    check_names("its tables", table.columns, COLUMNS)
    return table
