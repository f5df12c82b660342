"""LLMServingSim's ``moe.csv``: tokens, activated experts, microseconds (checked with a real file).

The file does not name its model: the shape comes from ``--set hidden=... inter=... experts=...
top_k=... dtype=... device=...``.
"""

from __future__ import annotations

import io
from typing import ClassVar

import numpy as np
import pandas as pd

from moesim.calibrate.importers.base import File, Importer
from moesim.hardware.measurements.validate import LINE

HEADER = ["tokens", "activated_experts", "time_us"]


class LLMServingSim(Importer):
    """The time of one MoE layer by tokens and activated experts."""

    kind: ClassVar[str] = "llmservingsim"

    def recognises(self, file: File) -> bool:
        """By its header."""
        return file.start.split("\n", 1)[0].strip().split(",") == HEADER

    def read(self, file: File) -> pd.DataFrame:
        """Every row."""
        raw = pd.read_csv(io.BytesIO(file.content))
        return pd.DataFrame(
            {
                "op": "moe",
                "tokens": raw["tokens"],
                "distinct_experts": raw["activated_experts"],
                "latency_ns": raw["time_us"] * 1e3,
                "source": "LLMServingSim " + file.name.rsplit("/", 1)[-1],
                LINE: np.arange(2, len(raw) + 2),
            }
        )
