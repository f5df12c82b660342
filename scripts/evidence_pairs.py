"""Which offload runs are in the wrong order, and what would turn each pair: a table of
docs/evidence_offloading.md, which ``scripts/published_runs.py`` writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import pandas as pd

from moesim.calibrate.host.fit import fit_host
from moesim.calibrate.host.measured import Measured
from moesim.calibrate.published.pack import PublishedRun
from moesim.experiment.loading.resolve import load_experiment

READ = {"x16": 1.0e9, "x17": 1.4e9}
"""Bytes of experts that the CPU reads for a token, of runs that are priced without a drive."""
FAULTS = 230e6
"""Bytes a second of page faults, the least that they were seen to reach."""
PAIRS = ("pair", "first", "second", "which term", "what would turn it")


def pairs_table(table: pd.DataFrame, runs: Sequence[PublishedRun]) -> list[str]:
    """Markdown: a line for each pair of ``runs`` of one engine that ``table`` has in the wrong
    order, in milliseconds a token.
    """
    files = {run.run: run for run in runs}
    rows = [PAIRS]
    for one, other in _wrong(table):
        term, turn = _of_drive(one, other) if other["run"] in READ else _of_host(one, other, files)
        rows.append((f"{one['run']}, {other['run']}", _both(one), _both(other), term, turn))
    head, *lines = (f"| {' | '.join(row)} |" for row in rows)
    return [head, "|" + "---|" * len(PAIRS), *lines]


def _wrong(table: pd.DataFrame) -> Iterator[tuple[Mapping[Any, Any], Mapping[Any, Any]]]:
    """Pairs, the one that was measured to be faster first."""
    for _, mine in table.groupby("family"):
        for pair in combinations(mine.to_dict("records"), 2):
            faster, slower = sorted(pair, key=lambda row: -row["measured_tokens_per_s"])
            same = faster["measured_tokens_per_s"] == slower["measured_tokens_per_s"]
            if not same and faster["predicted_tokens_per_s"] <= slower["predicted_tokens_per_s"]:
                yield faster, slower


def _ms(row: Mapping[Any, Any], which: str) -> float:
    return 1e3 / float(row[f"{which}_tokens_per_s"])


def _both(row: Mapping[Any, Any]) -> str:
    measured, predicted = _ms(row, "measured"), _ms(row, "predicted")
    return f"{measured:.3g} / {predicted:.1f}"


def _of_drive(one: Mapping[Any, Any], other: Mapping[Any, Any]) -> tuple[str, str]:
    """What the ``other`` would have to read from a drive."""
    name = other["run"]
    late = _ms(one, "predicted") - _ms(other, "predicted")
    read = late / 1e3 * FAULTS
    turn = f"{late:.1f} ms of reads: {read / 1e6:.1f} MB a token by page faults"
    share = f"{100 * read / READ[name]:.2g} % of the {READ[name] / 1e9:.1f} GB that a token takes"
    return f"the drive: {name} is priced without reads", f"{turn}, {share}"


def _of_host(
    one: Mapping[Any, Any], other: Mapping[Any, Any], files: Mapping[str, PublishedRun]
) -> tuple[str, str]:
    """What either host would have to reach, by fits to the speed of the other run."""
    fits = [
        fit_host(
            load_experiment(files[a["run"]].file, files[a["run"]].settings, alone=True).experiment,
            Measured(b["predicted_tokens_per_s"]),
        ).share
        for a, b in ((one, other), (other, one))
    ]
    waits = [
        f"{a['waiting_for_cpu_percent'] / 100 * _ms(a, 'predicted'):.1f}" for a in (one, other)
    ]
    term = (
        f"what experts wait for the CPU: {waits[0]} and {waits[1]} ms, at 50 % of the DRAM's peak"
    )
    names = one["run"], other["run"]
    return term, f"{fits[0]:.0%} in {names[0]}, or {fits[1]:.0%} in {names[1]}".replace("%", " %")
