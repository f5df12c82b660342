"""What a GPU's part of the experts takes in engines' tables, over the price of as many rows.

``python scripts/parts_of_experts.py WHEEL``: the 5th, 50th and 95th percentile of that ratio by
engine, GPUs that share the experts and rows of an expert, of launches on four cards with even
loads; each GPU has the tokens of all, as these tables seem to count them.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pandas as pd
from profiles import ENGINES

from moesim.calibrate.importers.aiconfigurator import Aiconfigurator
from moesim.calibrate.importers.base import File
from moesim.calibrate.prices.price import price_table
from moesim.hardware import HardwareProfile, load_hardware
from moesim.hardware.measurements.validate import valid
from moesim.hardware.prices.calibrated import ExpertFit

CARDS = ("h100-sxm", "h200-sxm", "b200-sxm", "gb200")
GPUS = (2, 4, 8)
ENDS = (0.05, 0.5, 0.95)
MANY = 64
"""Rows an expert of large batches and of prompts."""


def parts(wheel: Path, path: str) -> pd.DataFrame:
    """Launches of a part as those of experts with so many rows; ``gpus`` share them."""
    with ZipFile(wheel) as inside:
        name = next(one for one in inside.namelist() if path in one)
        raw = pd.read_parquet(io.BytesIO(inside.read(name)))
    each = raw["num_tokens"] * raw["topk"] / raw["num_experts"]
    even = (raw["distribution"] == "balanced") & (each >= 1) & (each % 1 == 0)
    whole = (raw["num_experts"] % raw["moe_ep_size"] == 0) & (raw["moe_tp_size"] == 1)
    shared = raw["moe_ep_size"].isin(GPUS) & (raw["num_tokens"] % raw["moe_ep_size"] == 0)
    raw = raw[even & whole & shared & (raw["topk"] * raw["moe_ep_size"] <= raw["num_experts"])]
    content = io.BytesIO()
    raw.assign(moe_ep_size=1).to_parquet(content)
    table = Aiconfigurator().read(File(name, content.getvalue()))
    gpus, rows = raw["moe_ep_size"].to_numpy(), each[raw.index].to_numpy(int)
    local = table["experts"].to_numpy() // gpus
    lists = [[of] * number for of, number in zip(rows, local, strict=True)]
    of_all = table["tokens"].to_numpy()
    spread = {"tokens": of_all // gpus, "rows": lists, "distinct_experts": local}
    return valid(table.assign(gpus=gpus, of_all=of_all, **spread))[0]


def ratios(profile: HardwareProfile, table: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """``table`` with the time over the price by the fit of the same kernel and format."""
    assert profile.calibrated is not None, "a card that was measured"
    for fit in profile.calibrated.experts:
        own = table[_of(fit, table)]
        if len(own):
            part = profile.calibrated.model_copy(update={"experts": (fit,)})
            alone = profile.model_copy(update={"calibrated": part})
            own = own.reset_index(drop=True)
            prices = price_table(alone, own)
            yield own.assign(ratio=own["latency_ns"].to_numpy() / prices.price_ns)


def _of(fit: ExpertFit, table: pd.DataFrame) -> pd.Series[bool]:
    alike = (table["dtype"] == fit.dtype) & (table["kernel_source"] == fit.kernel)
    blocks = table["block_scaled"].isna() | (table["block_scaled"] == bool(fit.block_scaled))
    return alike & blocks & (table["framework"] == fit.framework)


def line(name: str, found: pd.DataFrame) -> str:
    """A row of a table: how many launches there are, and the ``ENDS`` of their ratios."""
    told = " | ".join(f"{value:.2f}" for value in np.quantile(found["ratio"], ENDS))
    return f"| {name} | {len(found):,} | {told} |"


def main(wheel: Path) -> int:
    """Print the table."""
    found = []
    for card, (system, versions) in ENGINES.items():
        for engine, version in versions.items() if card in CARDS else ():
            table = parts(wheel, f"{system}/moe/{engine}/{version}/moe_perf")
            found += [one.assign(engine=engine) for one in ratios(load_hardware(card), table)]
    every = pd.concat(found)
    few = every["of_all"] * every["top_k"] < MANY * every["experts"]
    rows = np.where(few, f"fewer than {MANY}", f"from {MANY}")
    for group, part in every.groupby(["engine", "gpus", rows]):
        print(line("{}, {} GPUs, {} rows an expert".format(*group), part))
    print(line("all", every))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
