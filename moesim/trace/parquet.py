"""The Parquet form of a trace: one row a token, ids and weights as fixed-size binary columns.

Columns: request_id int32, position int32, phase uint8, expert_ids fixed_size_binary(L * k * 2)
(little-endian uint16 [L, k]), and optionally gate_weights (float16 [L, k]) and predicted_ids
(uint16 [L, k], or [D, L, k] over D distances) likewise. The schema metadata ``moesim`` is JSON
(``moesim.trace.metadata``), and ``moesim.losses`` what transforms took, if some did. Row groups
hold whole requests; a reader takes row groups of any size.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.config.errors import InputError, Problem, located
from moesim.config.files.files import check_regular, replacing
from moesim.config.files.inputs import unchanged
from moesim.config.files.paths import look_up
from moesim.trace.cards import trace_card
from moesim.trace.columns import PER_CHOICE, PER_TOKEN, check_columns, empty, fill
from moesim.trace.losses import encode_losses
from moesim.trace.metadata import decode_metadata, encode_metadata
from moesim.trace.routing import RoutingTrace

METADATA_KEY = b"moesim"
LOSSES_KEY = b"moesim.losses"
BATCH_TOKENS = 8192
GROUP_TOKENS = 16384
FORMATS = (".parquet", ".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml", ".npz", ".npy")
"""Endings of a name that say a format."""


def write_trace(trace: RoutingTrace, path: str | Path) -> None:
    """Write ``trace`` to ``path``, atomically; the same trace gives the same bytes."""
    import pyarrow.parquet as pq

    path = Path(path)
    check_target(path)
    table = _table(trace)
    binary = [name for name in PER_CHOICE if name in table.column_names]
    # Splitting the bytes of a row into streams lets zstd see each (layer, slot) as one sequence.
    encoding: dict[str, str] = dict.fromkeys(binary, "BYTE_STREAM_SPLIT")
    encoding |= {"request_id": "DELTA_BINARY_PACKED", "position": "DELTA_BINARY_PACKED"}
    encoding["phase"] = "PLAIN"
    with (
        replacing(path) as temporary,
        pq.ParquetWriter(
            temporary,
            table.schema,
            compression="zstd",
            compression_level=9,
            use_dictionary=False,
            column_encoding=encoding,
            write_statistics=["request_id", "position", "phase"],
            write_page_checksum=True,
        ) as writer,
    ):
        for start, end in _row_groups(trace.request_offsets()):
            writer.write_table(table.slice(start, end - start), row_group_size=end - start)


def load_trace(path: str | Path) -> RoutingTrace:
    """Read a trace file; columns, types and metadata are checked, the routing itself is not.

    Where there is no file at ``path``, it may name a shipped trace, as ``gpt-oss-20b`` or, as
    experiments do, ``traces/gpt-oss-20b.parquet``.
    The peak memory is the arrays plus one batch of rows. Raises InputError if the file is no trace.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    if not path.exists():
        path = trace_card(str(path)) or look_up(path) or path
    with located(path):
        _refuse_other_files(path)
        try:
            # memory of Arrow's own allocator, given back when the batch is dropped
            with (
                unchanged(path),
                pq.ParquetFile(path, buffer_size=1 << 20, page_checksum_verification=True) as file,
            ):
                return _read(file)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise InputError(f"not readable as Parquet ({_first_line(error)}); {_REMEDY}") from None


def read_trace(path: str | Path) -> RoutingTrace:
    """Read and check a trace file; an InputError lists everything that a replay cannot accept."""
    from moesim.trace.validate import findings

    trace = load_trace(path)
    fatal = [finding for finding in findings(trace) if finding.fatal]
    if fatal:
        raise InputError(Problem(str(path), finding.column, finding.what) for finding in fatal)
    return trace


def check_target(path: Path, suffix: str = ".parquet") -> None:
    """Raise an InputError if no file can be written at ``path``, or its name says another format
    than ``suffix``, its own.
    """
    if path.suffix in FORMATS and path.suffix != suffix:
        what = f"is written as {suffix}, whose name must not end in {path.suffix}; write"
        raise InputError([Problem(str(path), "", f"{what} '{path.with_suffix(suffix)}'")])
    if not path.parent.is_dir():
        raise InputError([Problem(str(path), "", "its folder does not exist; make it first")])
    if path.is_dir():
        raise InputError([Problem(str(path), "", "is a folder; name the file to write")])


_REMEDY = "import the recording with 'moesim trace import', or copy the file again"


def _refuse_other_files(path: Path) -> None:
    if path.is_dir():
        raise InputError("is a folder: name a trace file (.parquet)")
    if not path.exists():
        raise InputError("no such file; name a trace file (.parquet)")
    check_regular(path, "trace file (.parquet)")
    if path.stat().st_size == 0:
        raise InputError(f"is empty (0 bytes): a trace is a Parquet file; {_REMEDY}")
    with path.open("rb") as file:
        if file.read(4) != b"PAR1":
            raise InputError(f"is not a Parquet file (it does not start with PAR1); {_REMEDY}")


def _read(file: Any) -> RoutingTrace:
    schema, tokens = file.schema_arrow, file.metadata.num_rows
    text = (schema.metadata or {}).get(METADATA_KEY)
    if text is None:
        raise InputError(f"a Parquet file without '{METADATA_KEY.decode()}' metadata: {_REMEDY}")
    metadata = decode_metadata(text, schema.metadata.get(LOSSES_KEY))
    names = check_columns(schema, metadata)
    if tokens == 0:
        raise InputError("has 0 tokens: a trace must have one at least")
    try:
        arrays = {name: empty(name, tokens, metadata, schema) for name in names}
    except ValueError as error:
        raise InputError(
            f"its footer claims {tokens} rows ({error}): copy the file again"
        ) from None
    fill(arrays, file.iter_batches(BATCH_TOKENS, columns=names))
    return RoutingTrace(
        expert_ids=arrays["expert_ids"],
        request_id=arrays["request_id"],
        position=arrays["position"],
        phase=arrays["phase"],
        gate_weights=arrays.get("gate_weights"),
        predicted_ids=arrays.get("predicted_ids"),
        metadata=metadata,
    )


def _table(trace: RoutingTrace) -> Any:
    import pyarrow as pa

    # from buffers: pa.array would import pandas
    columns = {
        name: pa.Array.from_buffers(
            pa.from_numpy_dtype(dtype), trace.tokens, [None, pa.py_buffer(getattr(trace, name))]
        )
        for name, dtype in PER_TOKEN.items()
    }
    for name in PER_CHOICE:
        array = getattr(trace, name)
        if array is not None:
            buffers = [None, pa.py_buffer(array)]
            columns[name] = pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(array[0].nbytes), trace.tokens, buffers
            )
    fields = [pa.field(name, column.type, nullable=False) for name, column in columns.items()]
    metadata = {METADATA_KEY: encode_metadata(trace.metadata)}
    if (losses := trace.metadata.losses) is not None:
        metadata[LOSSES_KEY] = encode_losses(losses)
    return pa.table(columns, schema=pa.schema(fields, metadata=metadata))


def _row_groups(offsets: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Rows [start, end) of whole requests, about GROUP_TOKENS each."""
    start = 0
    for end, after in zip(offsets[1:], [*offsets[2:], None], strict=True):
        if after is None or after - start > GROUP_TOKENS:
            yield start, int(end)
            start = int(end)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
