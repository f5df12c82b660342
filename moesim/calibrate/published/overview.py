"""All packs of evidence in one table: a row a pack and what was measured."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from moesim.calibrate.published.others import KERNELS, LOOP, STUDY, closed_loop, kernels, study
from moesim.calibrate.published.predict import equal_pairs, median_error, right_pairs, within

COLUMNS = (
    "what", "runs", "median_percent", "p90_percent", "inside", "ranged", "right", "pairs",
    "equal_pairs", "no_prediction",
)  # fmt: skip
KEPT = (
    "run", "of", "family", "measured_tokens_per_s", "predicted_tokens_per_s", "low_tokens_per_s",
    "high_tokens_per_s", "error_percent",
)  # fmt: skip
"""What an overview reads of a pack's table."""
WORDS = {
    "mean_tpot_ms": "time between tokens",
    "mean_ttft_ms": "time to first token",
    "mean_e2el_ms": "time end to end",
}


def overview(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Of each pack's table (``blind``'s, or of ``KEPT`` alone) a row for each number that its runs
    are of: how many runs have a prediction, the median and the 90th percentile of the errors' sizes
    in percent of the measured time, how many of those with a range lie in it, and how many pairs of
    one engine are in the measured order, beside those measured to be equal; ``no_prediction`` names
    the others, with the reason.
    """
    rows = [
        _row(pack, str(of), mine)
        for pack, table in tables.items()
        for of, mine in table.fillna({"of": ""}).groupby("of", sort=False)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def others() -> pd.DataFrame:
    """The rows of an overview that need no run; of the kernels the middle fit's errors."""
    fits = kernels()
    middle = (fits["median_percent"].median(), fits["p90_percent"].median())
    row = (f"{KERNELS} (fits)", len(fits), *middle, 0, 0, 0, 0, 0, "")
    rows = pd.DataFrame([row], columns=list(COLUMNS))
    return pd.concat([rows, overview({STUDY: study(), LOOP: closed_loop()})], ignore_index=True)


def _row(pack: str, of: str, table: pd.DataFrame) -> tuple[object, ...]:
    known = table.dropna(subset="error_percent")
    what = f"{pack}: {WORDS[of]}" if of else pack
    p90 = float(known["error_percent"].abs().quantile(0.9))
    without = table[table["error_percent"].isna()].reindex(columns=["run", "reason"])
    why = "; ".join(f"{run}: {reason}" for run, reason in without.to_numpy())
    pairs = (*right_pairs(known), equal_pairs(known))
    return what, len(known), median_error(known), p90, *within(known), *pairs, why
