"""Predict the published runs anew: the tables and the figure of docs/evidence.md, and the
hosts that are fitted to one run each.

``python scripts/published_runs.py``, some minutes; to be run again where a price has changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from moesim.calibrate.host.fit import HostFit
from moesim.calibrate.host.host_file import host_text
from moesim.calibrate.published.pack import PublishedRun, read_pack
from moesim.calibrate.published.predict import FittedHosts, blind, fitted_hosts, judged
from moesim.experiment.running.cache import cache_folder
from moesim.hardware.host import Host
from moesim.report.evidence import inside_line, wrong_lines
from moesim.report.published import hosts_table, runs_table, save, summary

ROOT = Path(__file__).parents[1]
PACK = ROOT / "experiments" / "published"
PAGE = ROOT / "docs" / "evidence.md"
FIGURE = ROOT / "docs" / "figures" / "published_runs.png"
ERRORS = ROOT / "verification" / "published_errors.csv"
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
        source = f"{run.engine}, {run.model}, {run.gpu} ({run.source})"
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


def write_page(tables: Mapping[str, Sequence[str]]) -> None:
    """Put each table between its marks."""
    page = PAGE.read_text(encoding="utf-8")
    for name, lines in tables.items():
        before, mark, rest = page.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        page = "".join([before, mark, "\n", *(f"{line}\n" for line in lines), "\n", end, after])
    PAGE.write_text(page, encoding="utf-8")


def main() -> None:
    """Write everything, and print what is told of it."""
    runs = read_pack(PACK)
    table = blind(runs, ranges=True, cache=cache_folder(None))
    hosts = fitted_hosts(runs)
    others, fits = judged(runs, hosts), chosen(runs, hosts)
    write_hosts(fits)
    told = [*summary(table, others), *inside_line(table)]
    table[["run", "error_percent"]].round(1).to_csv(ERRORS, index=False)
    write_page({
        "summary": [f"- {line.strip()}" for line in told],
        "runs": runs_table(table),
        "wrong": wrong_lines(table),
        "hosts": hosts_table({run.host: fit for run, fit in fits.items()}),
    })  # fmt: skip
    save(table, FIGURE)
    print("\n".join(told))
    for run in runs:
        if run.host and run not in fits:
            why = hosts.refused.get(run.run, "its host has another run, or reaches too little")
            print(f"no host is fitted to {run.run}: {why}")


if __name__ == "__main__":
    main()
