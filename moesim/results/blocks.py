"""The blocks of a result: what its intervals, and comparisons with others, are made from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from moesim.config.json_text import read_object
from moesim.metrics.blocks import Blocks
from moesim.results.folder import PROVENANCE, SUMMARY, read_table
from moesim.results.result import Result
from moesim.results.store import has_failed, is_stored, read_stored

BLOCKS = "blocks.parquet"


def blocks_of_result(result: Result) -> Blocks | None:
    """The blocks of ``result``; None where no run, or an older moesim, wrote it."""
    return _blocks(result.summary, result.provenance, result.blocks)


def read_blocks(folder: Path) -> Blocks | None:
    """The blocks of the result in ``folder``, or of the sweep's point that it names, read without
    its other tables; None where it has none.
    """
    if is_stored(folder):
        return None if has_failed(folder) else blocks_of_result(read_stored(folder, ("blocks",)))
    if not (folder / BLOCKS).is_file():
        return None
    table = read_table(folder / BLOCKS)
    return _blocks(read_object(folder / SUMMARY), read_object(folder / PROVENANCE), table)


def _blocks(
    summary: Mapping[str, Any], provenance: Mapping[str, Any], table: pd.DataFrame
) -> Blocks | None:
    made = summary.get("intervals")
    if not made or table.empty:
        return None
    trace = provenance.get("inputs", {}).get("trace", {}).get("sha256", "")
    warm_up = int((table["first_step"] < made["warm_up_steps"]).sum())
    return Blocks(table, made["block"], warm_up, trace)
