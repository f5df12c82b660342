"""The division of the start holds for the whole run."""

from __future__ import annotations

from typing import Literal

from moesim.workload.splits.base import Split


class Static(Split):
    """What is set aside for keys and values stays so."""

    kind: Literal["static"] = "static"
