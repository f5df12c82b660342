"""Published runs of real engines, which no number of moesim's was fitted to, beside its own.

No pack of evidence may get worse than it was when its errors were kept, nor than it was at best.
"""

from __future__ import annotations

import pandas as pd

from moesim.calibrate.published.pack import pack_folder, read_pack, shipped_packs
from verification import kept
from verification.check import RESULTS, Measured, check

EVERY = {"throughputs": 7, "closed_loops": 5, "llama_bench": 5}
"""Of packs whose runs take minutes as many are left to one that is predicted."""
PUBLISHED = "published"
LAW = "median and p90 of the errors, runs outside and pairs in the wrong order have not grown"
WHY = (
    "2 points of the median, 4 of p90, 5 of the runs outside, 2 of the pairs, or a tenth of it, or"
    " one run (one pair), is what a better price elsewhere may cost"
)
UNIT = "times what it may grow by; 100 where a run has no prediction any more"
ALL = 100.0


def grown(before: pd.DataFrame, table: pd.DataFrame) -> tuple[float, str]:
    """How many times as much as it may any number of ``table``'s runs grew since ``before``, and
    the medians in words.
    """
    most, told = 0.0, []
    for of, mine in kept.kinds(table):
        old = before.set_index("run").loc[mine["run"]].reset_index()
        lost = mine["error_percent"].isna().to_numpy() & old["error_percent"].notna()
        now, then = kept.numbers(mine), kept.numbers(old)
        more = [kept.over(then[name].percent, now[name]) for name in now]
        most = max(most, ALL if lost.any() else max(more))
        medians = f"{then['median'].percent:.1f} % before, {now['median'].percent:.1f} %"
        told.append(f"{of or 'speed'}: {medians} of {len(mine)} runs")
    return most, "; ".join(told)


def judged_by_best(pack: str, before: pd.DataFrame, table: pd.DataFrame) -> tuple[float, str]:
    """``grown``, and the same of the whole pack, by ``table`` where that has its run, beside the
    best that its numbers were; nothing where a reason was given.
    """
    most, told = grown(before, table)
    others = before[~before["run"].isin(table["run"])]
    columns = list(before.columns)
    whole = pd.concat([others, table[columns]]) if len(others) else table[columns]
    found = kept.grown(pack, whole, kept.best(), kept.growths())
    above = [kept.over(one.best, kept.Number(one.now, kept.MAY[one.number])) for one in found]
    return max([most, *above]), "; ".join([told, *map(kept.words, found)])


@check(
    f"Evidence, published: {LAW}",
    tolerance=1,
    why=WHY,
    unit=UNIT,
)
def evidence_published() -> Measured:
    from moesim.calibrate.published.predict import blind, fitted_hosts, judged
    from moesim.report.judged.published import draw, summary

    runs = read_pack(pack_folder(PUBLISHED))
    table, hosts = blind(runs, ranges=True), fitted_hosts(runs)
    others = judged(runs, hosts)
    RESULTS.mkdir(exist_ok=True)
    table.to_csv(RESULTS / "published_runs.csv", index=False)
    others.to_csv(RESULTS / "published_runs_judged.csv", index=False)
    columns = ["run", "family", "measured_tokens_per_s", "predicted_tokens_per_s", "error_percent"]
    print(table[[*columns, "rests_on"]].round(1).to_string(index=False))
    more, told = judged_by_best(PUBLISHED, kept.read(PUBLISHED), table)
    detail = "\n       ".join([told, *summary(table, others)])
    return Measured(more, detail, lambda axes: draw(table, axes))


def judge(pack: str) -> None:
    """Register the check of ``pack``, whose runs are kept."""

    def measure() -> Measured:
        from moesim.calibrate.published.predict import blind
        from moesim.report.judged.published import draw

        before = kept.read(pack)
        known = set(before["run"])
        runs = [run for run in read_pack(pack_folder(pack)) if run.run in known]
        RESULTS.mkdir(exist_ok=True)
        table = blind(runs[:: EVERY.get(pack, 1)], ranges=True, cache=RESULTS)
        more, told = judged_by_best(pack, before, table)
        return Measured(more, told, lambda axes: draw(table, axes))

    measure.__name__ = f"evidence_{pack}"
    check(f"Evidence, {pack}: {LAW}", tolerance=1, why=WHY, unit=UNIT)(measure)


for name in shipped_packs():
    if name != PUBLISHED and (kept.FOLDER / f"{name}.csv").is_file():
        judge(name)
