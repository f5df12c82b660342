"""What the requests of a trace are about: domains, such as languages or data sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.config.errors import InputError

Ints = NDArray[np.int64]


class Domain(NamedTuple):
    """The ``requests`` of a domain, by runs of their ids: the first and the last of each."""

    name: str
    requests: tuple[tuple[int, int], ...]


def domains_of(names: Sequence[str], ids: Ints) -> tuple[Domain, ...]:
    """The domains of requests with ``ids`` int64[n], of which each has its name, by name."""
    found, names_of = [], np.asarray(names)
    for name in sorted(set(names)):
        own = np.sort(ids[names_of == name])
        begins = np.flatnonzero(np.diff(own, prepend=own[0] - 2) > 1)
        last = np.append(begins[1:], len(own)) - 1
        runs = zip(own[begins].tolist(), own[last].tolist(), strict=True)
        found.append(Domain(name, tuple(runs)))
    return tuple(found)


def domain_of(domains: tuple[Domain, ...], ids: Ints) -> Ints:
    """Which of ``domains`` each request with ``ids`` int64[n] is of, -1: of none."""
    found = np.full(len(ids), -1)
    for number, domain in enumerate(domains):
        for first, last in domain.requests:
            found[(ids >= first) & (ids <= last)] = number
    return found


def as_json(domains: tuple[Domain, ...]) -> dict[str, list[list[int]]]:
    """As metadata have them: runs of request ids by name."""
    return {name: [list(run) for run in runs] for name, runs in domains}


def from_json(value: Any) -> tuple[Domain, ...]:
    """Those of ``as_json``; InputError where ``value`` is something else."""
    if not isinstance(value, dict) or not all(map(_are_runs, value.values())):
        what = f"'domains' is {value!r} in the trace metadata: must be runs of request ids by name,"
        raise InputError(f"{what} as in {{'code': [[0, 7]]}}")
    return tuple(Domain(name, tuple(map(tuple, value[name]))) for name in sorted(value))


def _are_runs(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(run, list) and [type(one) for one in run] == [int, int] for run in value
    )
