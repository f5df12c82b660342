"""Predict published runs anew: the tables and the figure of docs/evidence*.md, what
``verification/published_runs.py`` compares with, and the hosts that are fitted to one run each.

``python scripts/published_runs.py [PACK ...] [--because WHY]``, of those packs [all]; to be run
again where a price has changed. The other packs' tables stay as they were kept. A number that has
grown by more than it may is kept with a reason alone. Results go to ``MOESIM_CACHE``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import llama_bench
import pandas as pd
import two_cores
import yaml
from evidence_pairs import pairs_table
from evidence_targets import targets

from moesim.calibrate.host.fit import HostFit
from moesim.calibrate.host.host_file import host_text
from moesim.calibrate.published.overview import KEPT, others, overview
from moesim.calibrate.published.pack import PublishedRun, pack_folder, read_pack, shipped_packs
from moesim.calibrate.published.predict import (
    FittedHosts,
    blind,
    fitted_hosts,
    judged,
    median_error,
    right_pairs,
)
from moesim.experiment.running.cache import cache_folder
from moesim.hardware.described.host import Host
from moesim.report.judged.evidence import inside_line, wrong_lines
from moesim.report.judged.evidence_overview import markdown, short_table
from moesim.report.judged.published import hosts_table, runs_table, save, summary
from verification import kept

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("evidence*.md"))
FIGURE = ROOT / "docs" / "figures" / "published_runs.png"
PUBLISHED = "published"
SHOWN = (
    "throughputs", "vllm_runs", "phone", "offload_sweeps", "offload_reports", "offload_late",
)  # fmt: skip
"""Packs whose runs stand on the page too."""
DRAWN = ("llama_bench", "offload_sweeps")
"""Packs that have a figure."""
TOLD = (
    "throughputs", "offload_sweeps", "offload_reports", "closed_loops", "llama_bench", "phone",
    "two_cores", "offload_late",
)  # fmt: skip
"""Those of which it says what the runs that are far off would imply."""
GROUPS = {
    "runs whose models take nearly the whole DRAM": ("x16", "x17"),
    "engines whose copies are their own": ("r29", "r32", "r33", "r40"),
    "hosts by their prior, beyond 20 %": ("r01", "r12", "r16", "r18"),
}
"""The runs that are furthest off, by why."""
MORE_HOSTS = (
    "9950x-235b-0k", "7965wx-235b-ik-0k", "7975wx-r1-0k", "9355-iq3-0k",
    "6980p-r1-cpu-0k", "9965-k2-cpu-0k",
)  # fmt: skip
"""Of packs that judge the range of what hosts reach, the runs whose hosts are shipped, too: the
first of each host whose speed and machine are certain, but for a second Ryzen 9 7950X.
"""
OF_HOSTS = ("offload_sweeps", "offload_reports")
"""The packs that have them."""
HOSTS = ROOT / "hardware_profiles" / "hosts"
LEAST_SHARE = 0.2
"""Of a host that is shipped: below it, something else than the memory was measured."""


def chosen(runs: Sequence[PublishedRun], hosts: FittedHosts) -> Mapping[PublishedRun, HostFit]:
    """The first fit of each host whose share is one of memory."""
    found: dict[PublishedRun, HostFit] = {}
    for run in runs:
        fit = hosts.fits.get(run.run)
        if fit and fit.share >= LEAST_SHARE and run.host not in {one.host for one in found}:
            found[run] = fit
    return found


def write_hosts(fits: Mapping[PublishedRun, HostFit]) -> None:
    """A file each, which names its run as the source."""
    for run, fit in fits.items():
        gpu = "no GPU" if run.gpu == "none" else run.gpu
        source = f"{run.engine}, {run.model}, {gpu} ({run.source})"
        file = HOSTS / f"{run.host}.yaml"
        text = host_text(with_power_of(fit, file), f"{run.cpu}; fitted to one run", source)
        file.write_text(text, encoding="utf-8")


def with_power_of(fit: HostFit, file: Path) -> HostFit:
    """``fit`` with the power of its CPU as ``file`` has it: no run's experiment says it."""
    before = yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else {}
    power, sources = before.get("power"), fit.profile.sources
    if power is not None:
        sources = sources | {"package_power": before["sources"][power["source"]]}
        power = power | {"source": "package_power"}
    host = Host.model_validate(fit.profile.host.model_dump(mode="json") | {"power": power})
    return replace(fit, profile=fit.profile.model_copy(update={"host": host, "sources": sources}))


def write_pages(tables: Mapping[str, Sequence[str]]) -> None:
    """Put each table between its marks, on the page that has them."""
    texts = {path: path.read_text(encoding="utf-8") for path in PAGES}
    for name, lines in tables.items():
        path = next(path for path, text in texts.items() if f"<!-- {name} -->\n" in text)
        before, mark, rest = texts[path].partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        parts = [before, mark, "\n", *(f"{line}\n" for line in lines), "\n", end, after]
        texts[path] = "".join(parts)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")


def keep(name: str, table: pd.DataFrame, reason: str) -> None:
    """What later runs are compared with, and an overview reads."""
    kept.keep(name, table[list(KEPT)], f"{datetime.now(UTC):%Y-%m-%d}", reason)


def groups(table: pd.DataFrame) -> list[str]:
    """What the median and the order would be without each group, and without all."""
    every = tuple(run for runs in GROUPS.values() for run in runs)
    told = []
    for why, runs in {**GROUPS, "all these": every}.items():
        left, mine = (table[table["run"].isin(runs) == inside] for inside in (False, True))
        right, pairs = right_pairs(left)
        errors = ", ".join(f"{row.run} {row.error_percent:+.0f}" for row in mine.itertuples())
        which = f" ({errors} %)" if why in GROUPS else ""
        told.append(
            f"- without {why}{which}: {median_error(left):.0f} % of {len(left)} runs,"
            f" {right} of {pairs} pairs"
        )
    return told


def write_more_hosts() -> None:
    """Hosts of runs that no range rests on, and how far off each of their other runs is by it."""
    runs = [run for name in OF_HOSTS for run in read_pack(pack_folder(name)) if not run.of]
    hosts = fitted_hosts([run for run in runs if run.run in MORE_HOSTS])
    fits = {run: hosts.fits[run.run] for run in runs if run.run in hosts.fits}
    write_hosts(fits)
    by_fit = judged(runs, hosts).groupby("fitted_to")["error_percent"]
    off = {run.host: by_fit.get_group(run.run).tolist() for run in fits}
    write_pages({"more hosts": hosts_table({run.host: fit for run, fit in fits.items()}, off)})


def kept_tables() -> Mapping[str, Sequence[str]]:
    """What stands on the pages of all packs, as they are kept, by the tables' names."""
    found = {path.stem: kept.read(path.stem) for path in sorted(kept.FOLDER.glob("*.csv"))}
    table = pd.concat([overview(found), others()], ignore_index=True)
    rows = {"packs": markdown(table), "targets": targets(found), "growths": kept.lines()}
    rows["llama_bench"] = llama_bench.summary_table(found["llama_bench"])
    rows["two_cores"] = two_cores.summary_table(found["two_cores"])
    return rows | {name: short_table(found[name]) for name in SHOWN if name in found}


def write_published(reason: str) -> None:
    """The first pack, its figure and the fitted hosts, and print what is told of it."""
    runs = read_pack(pack_folder(PUBLISHED))
    table = blind(runs, ranges=True, cache=cache_folder(None))
    hosts = fitted_hosts(runs)
    by_others, fits = judged(runs, hosts), chosen(runs, hosts)
    keep(PUBLISHED, table, reason)
    write_hosts(fits)
    told = [*summary(table, by_others), *inside_line(table)]
    write_pages({
        "summary": [f"- {line.strip()}" for line in told],
        "runs": runs_table(table),
        "wrong": wrong_lines(table),
        "groups": groups(table),
        "pairs": pairs_table(table, runs),
        "hosts": hosts_table({run.host: fit for run, fit in fits.items()}),
    })  # fmt: skip
    save(table, FIGURE)
    print("\n".join(told))
    for run in runs:
        if run.host and run not in fits:
            why = hosts.refused.get(run.run, "its host has another run, or reaches too little")
            print(f"no host is fitted to {run.run}: {why}")


def main() -> None:
    """Write everything of the packs that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packs", nargs="*", metavar="PACK", default=shipped_packs())
    parser.add_argument("--because", metavar="WHY", default="", help="why a number may have grown")
    asked = parser.parse_args()
    for name in asked.packs:
        if name == PUBLISHED:
            write_published(asked.because)
        else:
            runs = read_pack(pack_folder(name))
            table = blind(runs, ranges=True, cache=cache_folder(None))
            keep(name, table, asked.because)
            if name in DRAWN:
                save(table, FIGURE.with_stem(name))
            if name in TOLD:
                write_pages({f"wrong {name}": wrong_lines(table)})
    if set(OF_HOSTS) & set(asked.packs):
        write_more_hosts()
    write_pages(kept_tables())


if __name__ == "__main__":
    main()
