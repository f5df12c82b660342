"""Published runs of real engines, which no number of moesim's was fitted to, beside its own."""

from __future__ import annotations

from pathlib import Path

from verification.check import RESULTS, Measured, check

FOLDER = Path(__file__).parents[1] / "experiments" / "published"


@check(
    "Published runs: every one has a prediction",
    tolerance=0,
    why="how far off they are is written, not judged, until hosts are measured rather than assumed",
    unit="runs without one",
)
def published_runs() -> Measured:
    from moesim.calibrate.published.pack import read_pack
    from moesim.calibrate.published.predict import blind, fitted_hosts, judged
    from moesim.report.published import draw, summary

    runs = read_pack(FOLDER)
    table, hosts = blind(runs), fitted_hosts(runs)
    others = judged(runs, hosts)
    RESULTS.mkdir(exist_ok=True)
    table.to_csv(RESULTS / "published_runs.csv", index=False)
    others.to_csv(RESULTS / "published_runs_judged.csv", index=False)
    columns = ["run", "family", "measured_tokens_per_s", "predicted_tokens_per_s", "error_percent"]
    print(table[[*columns, "rests_on"]].round(1).to_string(index=False))
    without = int(table["predicted_tokens_per_s"].isna().sum())
    detail = "\n       ".join(summary(table, others))
    return Measured(without, detail, lambda axes: draw(table, axes))
