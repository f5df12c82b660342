"""InferSim's grouped-GEMM tables (checked with real files): DeepGEMM, fp8.

Both products are timed apart; the row is their sum, without activation and reorderings. Every
local expert has ``tokens_per_expert`` rows.
"""

from __future__ import annotations

import io
from pathlib import PurePosixPath
from typing import ClassVar

import numpy as np
import pandas as pd

from moesim.calibrate.importers.base import File, Importer
from moesim.hardware.measurements.validate import LINE

NEEDED = {"num_local_experts", "tokens_per_expert", "up_proj_us", "down_proj_us"}
DEVICES = {"h20": "NVIDIA H20", "h800": "NVIDIA H800"}


class InferSim(Importer):
    """Grouped products by tokens per expert."""

    kind: ClassVar[str] = "infersim"

    def recognises(self, file: File) -> bool:
        """By its header."""
        return set(file.start.split("\n", 1)[0].strip().split(",")) >= NEEDED

    def read(self, file: File) -> pd.DataFrame:
        """Every row, as tokens over the local experts."""
        raw = pd.read_csv(io.BytesIO(file.content))
        rows = raw["num_local_experts"] * raw["tokens_per_expert"]
        whole = (rows % raw["topk"] == 0) & (raw["topk"] <= raw["num_local_experts"])
        top_k = raw["topk"].where(whole, 1)
        name = PurePosixPath(file.name).name
        return pd.DataFrame(
            {
                "op": "moe",
                "dtype": "fp8",
                "tokens": rows // top_k,
                "hidden": raw["hidden_size"],
                "inter": raw["intermediate_size"],
                "experts": raw["num_local_experts"],
                "top_k": top_k,
                "distinct_experts": raw["num_local_experts"],
                "gated": True,
                "latency_ns": (raw["up_proj_us"] + raw["down_proj_us"]) * 1e3,
                "device": DEVICES.get(name.split("_")[0].lower()),
                "kernel_source": "deepgemm_" + PurePosixPath(name).stem.split("_")[-1],
                "source": "InferSim " + name,
                LINE: np.arange(2, len(raw) + 2),
            }
        )
