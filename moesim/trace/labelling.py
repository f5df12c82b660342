"""A recorded trace told what its requests are about."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unicodedata import category

import numpy as np

from moesim.config.counted import counted
from moesim.config.errors import InputError, Problem
from moesim.config.files.files import read_file
from moesim.config.text import decoded
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
    """The lines of a text file, a name each. Raises InputError with the line where one is empty or
    has characters that are no text; where the file is not UTF-8, by which two might become one.
    """
    content = read_file(path, "file with a name for each request")
    names = [line.strip() for line in re.split("\r\n|\r|\n", decoded(content, str(path)))]
    if not names[-1]:
        names.pop()
    for number, name in enumerate(names, 1):
        if not name or any(category(one) == "Cc" for one in name):
            what = f"is {name!a}, no text" if name else "has no name"
            what += "; write what the request is about"
            raise InputError([Problem(f"{path}:{number}", "", what)])
    return names
