"""The pack ``two_cores`` on docs/evidence_offloading.md: errors by model and format."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

COLUMNS = {"tg32": "answer", "pp16": "prompt of 16", "pp128": "of 128", "pp512": "of 512"}
"""How a run ends, and what it is."""
PLAIN = "-nr"
"""Ends the name of a model whose weights are not interleaved."""


def summary_table(table: pd.DataFrame) -> Sequence[str]:
    """A row of each model and format: errors in percent of one thread / two."""
    names = table["run"].str.extract(r"^(?P<model>.*)-t(?P<threads>\d)-(?P<what>\w+)$")
    wide = table.join(names).pivot_table("error_percent", "model", ["what", "threads"])
    head = f"| model, format | {' | '.join(COLUMNS.values())} |"
    return [head, "|---|" + "---|" * len(COLUMNS), *(_row(*one) for one in wide.iterrows())]


def _row(model: object, errors: pd.Series[float]) -> str:
    told = [f"{errors[one, '1']:+.0f} / {errors[one, '2']:+.0f}" for one in COLUMNS]
    name = str(model)
    name = name.removesuffix(PLAIN) + (", `--repack 0`" if name.endswith(PLAIN) else "")
    return f"| {name} | {' | '.join(told)} |"
