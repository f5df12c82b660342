"""Published runs of real engines, which no number of moesim's was fitted to, beside its own.

No pack of evidence may get worse than it was when its errors were kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from moesim.calibrate.published.pack import pack_folder, read_pack, shipped_packs
from verification.check import RESULTS, Measured, check

if TYPE_CHECKING:
    import pandas as pd

BEFORE = Path(__file__).with_name("evidence")
"""Errors in percent, a file a pack, as scripts/published_runs.py found them last."""
LEAST_GROWTH = 0.1
"""Of the median error: less is none."""
EVERY = {"throughputs": 7, "closed_loops": 5, "llama_bench": 5}
"""Of packs whose runs take minutes as many are left to one that is predicted."""
PUBLISHED = "published"
WHY = "less, or a tenth of the error, is what a better price elsewhere may cost"
UNIT = "points of the median error; 100 where a run has no prediction any more"
ALL = 100.0
"""Percent that such a run is off by."""


def grown(before: pd.DataFrame, table: pd.DataFrame) -> tuple[float, str]:
    """By how much the median error of any number of ``table``'s runs is above that which they had
    ``before``, and both in words.
    """
    from moesim.calibrate.published.predict import median_error

    most, told, errors = 0.0, [], before.set_index("run")["error_percent"]
    for of, mine in table.groupby("of"):
        then, now = errors[mine["run"]].abs().median(), median_error(mine)
        more = now - then if now > then * (1 + LEAST_GROWTH) else 0.0
        lost = mine["error_percent"].isna() & errors[mine["run"]].notna().to_numpy()
        most = max(most, ALL if lost.any() else more)
        told.append(f"{str(of) or 'speed'}: {then:.1f} % before, {now:.1f} % of {len(mine)} runs")
    return most, "; ".join(told)


@check(
    "Evidence, published: the median error of the time a token has not grown",
    tolerance=2,
    why=WHY,
    unit=UNIT,
)
def evidence_published() -> Measured:
    import pandas as pd

    from moesim.calibrate.published.predict import blind, fitted_hosts, judged
    from moesim.report.judged.published import draw, summary

    runs = read_pack(pack_folder(PUBLISHED))
    table, hosts = blind(runs), fitted_hosts(runs)
    others = judged(runs, hosts)
    RESULTS.mkdir(exist_ok=True)
    table.to_csv(RESULTS / "published_runs.csv", index=False)
    others.to_csv(RESULTS / "published_runs_judged.csv", index=False)
    columns = ["run", "family", "measured_tokens_per_s", "predicted_tokens_per_s", "error_percent"]
    print(table[[*columns, "rests_on"]].round(1).to_string(index=False))
    more, told = grown(pd.read_csv(BEFORE / f"{PUBLISHED}.csv"), table)
    detail = "\n       ".join([told, *summary(table, others)])
    return Measured(more, detail, lambda axes: draw(table, axes))


def judge(pack: str) -> None:
    """Register the check of ``pack``, whose runs are kept as ``BEFORE`` has them."""

    def measure() -> Measured:
        import pandas as pd

        from moesim.calibrate.published.predict import blind
        from moesim.report.judged.published import draw

        before = pd.read_csv(BEFORE / f"{pack}.csv")
        known = set(before["run"])
        runs = [run for run in read_pack(pack_folder(pack)) if run.run in known]
        RESULTS.mkdir(exist_ok=True)
        table = blind(runs[:: EVERY.get(pack, 1)], cache=RESULTS)
        more, told = grown(before, table)
        return Measured(more, told, lambda axes: draw(table, axes))

    measure.__name__ = f"evidence_{pack}"
    law = f"Evidence, {pack}: the median error has not grown"
    check(law, tolerance=2, why=WHY, unit=UNIT)(measure)


for name in shipped_packs():
    if name != PUBLISHED and (BEFORE / f"{name}.csv").is_file():
        judge(name)
