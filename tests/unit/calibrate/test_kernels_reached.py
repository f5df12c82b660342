"""What llama.cpp's runs on cards took over their price, by which other cards are off."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

import moesim
from moesim.calibrate.published.pack import pack_folder, read_pack
from moesim.hardware.described.reached import KERNELS, STUDENT, kernels_reach
from moesim.hardware.operations.kernels.cpu_expert import PRODUCTS_OFF
from moesim.metrics.price_interval import GUESSED, speed_reason
from moesim.report.run.trust import trust_lines
from moesim.results import Result
from verification import kept

NAMES = {"RTX 5090": "rtx-5090", "RTX 3090 24GB": "rtx-3090", "RTX 3090 Ti 24GB": "rtx-3090-ti"}
"""Of cards as packs have them."""
RESIDENT = re.compile(
    r"c[12]|3090ti-30b-.*|3090-20b-.*|.*-(gb10|m2-ultra)-(decode-\d+-x1|prompt-\d+)"
)
"""Runs whose experts are all on the GPU: of one request, or of a prompt."""


def times_of_cards() -> pd.DataFrame:
    """A row each run: its ``gpu`` and the ``log`` of its measured over its predicted time."""
    tables = []
    for pack in ("published", "llama_bench", "offload_sweeps"):
        cards = {run.run: NAMES.get(run.gpu, run.gpu) for run in read_pack(pack_folder(pack))}
        table = kept.read(pack)
        table = table[table["run"].str.fullmatch(RESIDENT)]
        tables.append(table.assign(gpu=table["run"].map(cards)))
    found = pd.concat(tables)
    speeds = (found["predicted_tokens_per_s"], found["measured_tokens_per_s"])
    return found.assign(log=np.log(speeds[0] / speeds[1]))


def test_they_are_those_of_the_packs_as_they_are_kept() -> None:
    by_card = times_of_cards().groupby("gpu")["log"]
    assert by_card.size().to_dict() == {one.gpu: one.runs for one in KERNELS}
    for one in KERNELS:
        own = by_card.get_group(one.gpu)
        assert one.middle == pytest.approx(own.mean(), abs=0.001), one.gpu
        assert one.width == pytest.approx(own.std(), abs=0.001), one.gpu


@pytest.mark.parametrize("gpu", [*(one.gpu for one in KERNELS), "rx-7900-xtx"])
def test_no_card_is_off_by_runs_of_its_own(gpu: str) -> None:
    others = [one for one in KERNELS if one.gpu != gpu]
    middles = np.array([one.middle for one in others])
    between = middles.var(ddof=1) * (1 + 1 / len(others))
    within = np.mean([one.width**2 for one in others])
    width = np.sqrt(between + within) * STUDENT[len(others) - 1]
    ends = np.exp([middles.mean() - width, middles.mean() + width])
    assert kernels_reach(gpu) == pytest.approx(tuple(ends))
    assert ends[0] < 1 < ends[1]
    assert ends[1] * ends[0] > 1, "cards took longer than their price"


def run(gpu: str, software: str) -> Result:
    machine = {"hardware": {"gpu": gpu, "host": "ddr5-6000-2ch-64gb"}, "software": software}
    source = {"model": "small-moe@q8_0", "trace": "traces/small-moe.parquet"}
    return moesim.run(source | machine | {"experts": {"capacity": "32 slots/layer"}})


def test_every_makers_card_has_that_range_under_llama_cpp_alone() -> None:
    amd, nvidia, other = (
        run(gpu, software)
        for gpu, software in (
            ("rx-7900-xtx", "llama.cpp"), ("rtx-3090", "ik_llama.cpp"), ("rx-7900-xtx", "vllm"),
        )
    )  # fmt: skip
    for one, gpu in ((amd, "rx-7900-xtx"), (nvidia, "rtx-3090")):
        rows = {row["of"]: row for row in one.summary["price_interval"]["factors"]}
        row = rows[f"datasheet of {gpu}"]
        assert (row["low"], row["high"]) == kernels_reach(gpu)
        assert "runs of llama.cpp on" in "\n".join(trust_lines(one.summary))
    assert nvidia.summary["price_error"]["of"].endswith("4 other cards")
    assert other.summary["price_interval"]["reason"] == GUESSED
    prices = [one.summary["price_interval"] for one in (amd, nvidia)]
    assert speed_reason(*prices) is None


def test_hosts_whose_reads_were_measured_are_off_by_what_one_models_runs_were() -> None:
    table = kept.read("two_cores")
    runs = table[table["run"].str.startswith("qwen3")]
    times = runs["predicted_tokens_per_s"] / runs["measured_tokens_per_s"]
    assert len(times) == 72
    assert tuple(times.quantile([0.05, 0.95])) == pytest.approx(PRODUCTS_OFF, abs=0.01)
