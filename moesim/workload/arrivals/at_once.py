"""All requests are there at the start, as with ``vllm bench serve --request-rate inf``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.random import Generator

from moesim.workload.arrivals.base import Arrivals, Arrived


class AtOnce(Arrivals):
    """All requests at the start: how fast an offline batch is."""

    kind: Literal["at_once"] = "at_once"
    clockless: ClassVar[bool] = True

    def arrive(self, count: int, stream: Generator, folders: Sequence[Path]) -> Arrived:
        """See ``Arrivals``."""
        del stream, folders
        return Arrived(np.zeros(count, np.int64))
