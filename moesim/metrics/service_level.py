"""What a service promises its clients, and how many requests it keeps that for."""

from __future__ import annotations

import re
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, WithJsonSchema

from moesim.config.params import Params
from moesim.config.units import Duration

Limit = Annotated[Duration, Field(gt=0)] | None
COUNTED = r"^\s*([0-9]+)\s+requests?\s*$"


def _counted(value: Any) -> Any:
    """The number of ``100 requests``."""
    found = re.match(COUNTED, value) if isinstance(value, str) else None
    return int(found[1]) if found else value


Requests = Annotated[
    int,
    Field(ge=0),
    BeforeValidator(_counted),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": COUNTED, "examples": ["100 requests"]},
            ]
        }
    ),
]
DIMENSIONS = ("ttft", "tpot", "e2el")
MS = 1e6


class Slo(Params):
    """The longest times that a request may take; those that are left out are no limit."""

    ttft: Limit = Field(default=None, description="To the first token, queue and all.")
    tpot: Limit = Field(
        default=None, description="From token to token, at the mean; 0 of one that has only one."
    )
    e2el: Limit = Field(default=None, description="To the last token.")


class Service(Params):
    """What is asked of a service, and from which request on its latencies count."""

    slo: Slo = Field(default=Slo(), description="What makes a request good (request_goodput).")
    warm_up: Requests | None = Field(
        default=None,
        description="Requests, in order of arrival, that latencies and slo_attainment leave out; "
        "by default none, and intervals as many as MSER-5 says.",
    )

    @property
    def limits_ms(self) -> dict[str, float]:
        """By dimension, those that are set, in ms."""
        values = {name: getattr(self.slo, name) for name in DIMENSIONS}
        return {name: value / MS for name, value in values.items() if value is not None}


NO_SERVICE = Service()


def kept(service: Service, times_ms: dict[str, Any], done: NDArray[np.bool_]) -> dict[str, Any]:
    """By dimension that has a limit, which requests keep it, bool[n]: those without their whole
    answer keep none.
    """
    return {
        name: done & (np.nan_to_num(times_ms[f"{name}_ms"], nan=0.0) <= limit)
        for name, limit in service.limits_ms.items()
    }


def good(service: Service, times_ms: dict[str, Any], done: NDArray[np.bool_]) -> Any:
    """Which requests keep every limit, bool[n]; None where there is none."""
    each = list(kept(service, times_ms, done).values())
    return np.logical_and.reduce(each) if each else None


def attainment(
    service: Service, times_ms: dict[str, Any], done: NDArray[np.bool_], of: NDArray[np.bool_]
) -> dict[str, float] | None:
    """The share of the requests ``of`` that is good (``all``), and that keeps each limit by
    itself: the least of these binds. None without limits.
    """
    each = kept(service, times_ms, done)
    if not each or not of.any():
        return None
    whole = {"all": np.logical_and.reduce(list(each.values())), **each}
    return {name: float(one[of].mean()) for name, one in whole.items()}
