"""What llama.cpp read of a mapped file of which memory held a part, beside an LRU of experts and
what page faults read ahead (docs/storage.md; ``tests/data/page_cache``).
"""

from __future__ import annotations

import csv
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import pytest

import moesim

DATA = Path(__file__).parents[2] / "data" / "page_cache"
EXPERIMENTS = Path(__file__).parents[3] / "experiments" / "two_cores"
OWN_MIB = 14
"""What a process has besides its weights: a cache of 1,024 tokens, buffers, tables of pages."""


class Setting(NamedTuple):
    """A row of the measurements: MB a token, in one run or the mean of two."""

    trace: str
    limit_mib: int
    read_ahead_kib: int
    tokens: int
    measured: float


def measured() -> list[Setting]:
    """All that were."""
    with (DATA / "measured.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [
        Setting(
            row["trace"],
            int(row["limit_mib"]),
            int(row["read_ahead_kib"]),
            int(row["tokens"]),
            mean(float(row[key]) for key in ("mb_a_token", "again") if row[key]),
        )
        for row in rows
    ]


class Weights(NamedTuple):
    """A model, its layers, and the bytes of its file that are no experts."""

    model: str
    layers: int
    dense: int


WEIGHTS = {
    "qwen3-q8_0": Weights("qwen3-30b-a3b-3-layers.json@q8_0", 3, 65_596_416),
    "qwen3-q4_k_m": Weights("qwen3-30b-a3b-3-layers.json@q4_k_m", 3, 36_776_960),
    "gpt-oss-mxfp4": Weights("gpt-oss-20b-2-layers.json@mxfp4_moe", 2, 62_606_848),
}


def megabytes(row: Setting, read_ahead: int) -> float:
    """Those a token that moesim reads, with so many KiB of read-ahead: a drive of 1 GB/s waits a ms
    for each.
    """
    weights = WEIGHTS[row.trace]
    drive = {"base": "nvme-pcie3", "bandwidth": "1 GB/s", "mapped_bandwidth": "1 GB/s"}
    room = (row.limit_mib - OWN_MIB) * 2**20 - weights.dense
    run = moesim.run({
        "model": str(EXPERIMENTS / weights.model),
        "hardware": {
            "gpu": "rtx-4080",
            "host": str(EXPERIMENTS / "two-cores.yaml"),
            "storage": drive | {"read_ahead": f"{read_ahead} KiB"},
        },
        "software": "llama.cpp-cpu",
        "trace": str(DATA / f"{row.trace}.parquet"),
        "host_layers": weights.layers,
        "records": "step",
        "experts": {"host": {"capacity": f"{room} B"}},
        "workload": {"context": 16, "batching": {"kind": "static", "batch_size": 1},
                     "phase": "decode"},
    })  # fmt: skip
    steps = run.steps[row.tokens // 3 : row.tokens]
    return float(steps["waiting_for_storage_ns"].mean()) / 1e6


def over_measured(row: Setting) -> float:
    """What moesim reads over what was measured."""
    return megabytes(row, row.read_ahead_kib) / row.measured


LINUX = [row for row in measured() if row.read_ahead_kib == 128]
MORE = [row for row in measured() if row.read_ahead_kib > 128]


@pytest.mark.parametrize("row", LINUX, ids=lambda row: f"{row.trace}-{row.limit_mib}")
def test_with_linuxs_read_ahead_bytes_are_within_six_percent(row: Setting) -> None:
    assert over_measured(row) == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("row", MORE, ids=lambda row: f"{row.trace}-{row.limit_mib}-{row.tokens}")
def test_larger_windows_take_memory_too_which_is_not_modelled(row: Setting) -> None:
    assert 0.64 < over_measured(row) < 1


def test_experts_alone_are_up_to_a_quarter_too_few() -> None:
    """Less without what is read around them, which a read-ahead of a KiB hardly is."""
    row = next(one for one in LINUX if (one.trace, one.limit_mib) == ("qwen3-q4_k_m", 450))
    assert megabytes(row, 1) / row.measured == pytest.approx(0.74, abs=0.02)
