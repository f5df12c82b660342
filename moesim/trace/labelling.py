"""A recorded trace told what its requests are about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from moesim.config.counted import counted
from moesim.config.errors import InputError, Problem
from moesim.config.files import read_file
from moesim.trace.domains import domains_of
from moesim.trace.routing import RoutingTrace


def with_domains(trace: RoutingTrace, names: Sequence[str]) -> RoutingTrace:
    """``trace`` whose requests are about what ``names`` say, one a request in their order.

    Raises InputError where there are not as many.
    """
    if len(names) != trace.requests:
        what = f"{counted(len(names), 'name')}, and the trace has"
        raise InputError(f"{what} {counted(trace.requests, 'request')}; write one a request")
    ids = trace.request_id[trace.request_offsets()[:-1]].astype(np.int64)
    said = replace(trace.metadata, domains=domains_of(names, ids))
    return replace(trace, metadata=said)


def read_names(path: Path) -> list[str]:
    """The lines of a text file, a name each. Raises InputError with the line where one is empty."""
    text = read_file(path, "file with a name for each request").decode("utf-8", errors="replace")
    names = [line.strip() for line in text.splitlines()]
    if (empty := next((n for n, name in enumerate(names) if not name), None)) is not None:
        where = f"{path}:{empty + 1}"
        raise InputError([Problem(where, "", "has no name; write what the request is about")])
    return names
