"""The columns of a trace file: their types, and how they become arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.config.counted import counted
from moesim.config.errors import InputError, Problem, nearest
from moesim.trace.routing import TraceMetadata

PER_TOKEN: dict[str, type[np.generic]] = {
    "request_id": np.int32,
    "position": np.int32,
    "phase": np.uint8,
}
PER_CHOICE: dict[str, type[np.generic]] = {
    "expert_ids": np.uint16,
    "gate_weights": np.float16,
    "predicted_ids": np.uint16,
}
OPTIONAL = ("gate_weights", "predicted_ids")


def check_columns(schema: Any, metadata: TraceMetadata) -> list[str]:
    """The columns to read; an InputError lists all that are missing, unknown or of another type."""
    import pyarrow as pa

    width = len(metadata.moe_layer_ids) * metadata.top_k * 2
    known = [*PER_TOKEN, *PER_CHOICE]
    problems = [
        Problem("", name, f"is not a column of a trace; {nearest(name, known)}")
        for name in schema.names
        if name not in known
    ]
    for name in known:
        index = schema.get_field_index(name)
        if index < 0:
            if name not in OPTIONAL:
                problems.append(Problem("", name, f"column missing; the file has {schema.names}"))
            continue
        found = schema.field(index).type
        if name in PER_TOKEN and not pa.types.is_integer(found):
            problems.append(Problem("", name, f"is {found}: must be {PER_TOKEN[name].__name__}"))
        wide = name == "predicted_ids" and pa.types.is_fixed_size_binary(found)
        if wide and found.byte_width and found.byte_width % width == 0:
            continue
        if name in PER_CHOICE and found != pa.binary(width):
            rule = (
                f"{counted(len(metadata.moe_layer_ids), 'layer')} x top-{metadata.top_k} x 2 bytes"
            )
            what = f"is {found}: must be fixed_size_binary[{width}] ({rule}, as the metadata says)"
            problems.append(Problem("", name, what))
    if problems:
        raise InputError(problems)
    return [name for name in known if name in schema.names]


def empty(name: str, tokens: int, metadata: TraceMetadata, schema: Any) -> NDArray[Any]:
    """An array for the column ``name`` of a file of this ``schema``, not yet filled."""
    if name in PER_TOKEN:
        return np.empty(tokens, dtype=PER_TOKEN[name])
    chosen = (len(metadata.moe_layer_ids), metadata.top_k)
    distances = schema.field(name).type.byte_width // (2 * chosen[0] * chosen[1])
    shape = (tokens, *chosen) if distances == 1 else (tokens, distances, *chosen)
    return np.empty(shape, dtype=PER_CHOICE[name])


def fill(arrays: dict[str, NDArray[Any]], batches: Iterator[Any]) -> None:
    """Fill each array from its column, batch of rows by batch of rows; an InputError unless there
    are as many rows as the arrays are long.
    """
    start, claimed = 0, len(next(iter(arrays.values())))
    for batch in batches:
        if start + batch.num_rows > claimed:
            raise _other_number(claimed, f"more than {claimed}")
        for name, array in arrays.items():
            column = batch.column(name)
            if column.null_count:
                raise InputError(
                    [Problem("", name, f"has empty cells from row {start} on: must be full")]
                )
            read: Callable[[Any, NDArray[Any]], None] = _copy if name in PER_CHOICE else _cast
            read(column, array[start : start + len(column)])
        start += batch.num_rows
    if start < claimed:
        raise _other_number(claimed, str(start))


def _other_number(claimed: int, found: str) -> InputError:
    return InputError(
        f"its footer claims {counted(claimed, 'row')}, there are {found}: copy the file again"
    )


def _copy(column: Any, target: NDArray[Any]) -> None:
    width = column.type.byte_width
    target.reshape(-1).view(np.uint8)[:] = np.frombuffer(
        column.buffers()[1], dtype=np.uint8, count=len(column) * width, offset=column.offset * width
    )


def _cast(column: Any, target: NDArray[Any]) -> None:
    import pyarrow as pa

    wanted = pa.from_numpy_dtype(target.dtype)
    exact = column if column.type == wanted else column.cast(wanted, safe=True)
    # through the buffer: Array.to_numpy would import pandas
    target[:] = np.frombuffer(
        exact.buffers()[1],
        dtype=target.dtype,
        count=len(exact),
        offset=exact.offset * target.itemsize,
    )
