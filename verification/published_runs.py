"""Published runs of real engines, which no number of moesim's was fitted to, beside its own."""

from __future__ import annotations

from pathlib import Path

from verification.check import RESULTS, Measured, check

FOLDER = Path(__file__).parents[1] / "experiments" / "published"
BEFORE = Path(__file__).with_name("published_errors.csv")
"""Errors in percent as scripts/published_runs.py found them last."""
LEAST_GROWTH = 0.1
"""Of the median error: less is none."""


@check(
    "Published runs: the median error of the time a token has not grown",
    tolerance=2,
    why="less, or a tenth of the error, is what a better price elsewhere may cost",
    unit="points of the median error; all of it where a run has no prediction",
)
def published_runs() -> Measured:
    import pandas as pd

    from moesim.calibrate.published.pack import read_pack
    from moesim.calibrate.published.predict import blind, fitted_hosts, judged, median_error
    from moesim.report.published import draw, summary

    runs = read_pack(FOLDER)
    table, hosts = blind(runs), fitted_hosts(runs)
    others = judged(runs, hosts)
    RESULTS.mkdir(exist_ok=True)
    table.to_csv(RESULTS / "published_runs.csv", index=False)
    others.to_csv(RESULTS / "published_runs_judged.csv", index=False)
    columns = ["run", "family", "measured_tokens_per_s", "predicted_tokens_per_s", "error_percent"]
    print(table[[*columns, "rests_on"]].round(1).to_string(index=False))
    before, now = median_error(pd.read_csv(BEFORE)), median_error(table)
    grown = now - before if now > before * (1 + LEAST_GROWTH) else 0.0
    if table["predicted_tokens_per_s"].isna().any():
        grown = now
    detail = "\n       ".join([f"before: {before:.1f} %", *summary(table, others)])
    return Measured(grown, detail, lambda axes: draw(table, axes))
