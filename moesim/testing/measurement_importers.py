"""What every importer of measurements keeps."""

from __future__ import annotations

import pandas as pd

from moesim.calibrate.importers.base import File, Importer
from moesim.hardware.measurements.validate import LINE, valid
from moesim.testing.importers import STRANGE


def reads_a_valid_table(importer: Importer, file: File) -> pd.DataFrame:
    """``file`` is recognised and becomes rows that can be, each with its line. Returns them."""
    name = type(importer).__name__
    assert importer.recognises(file), f"{name} does not recognise {file.name}"
    raw = importer.read(file)
    assert LINE in raw.columns, f"{name}: rows have no lines"
    table, found = valid(raw)
    assert len(table), f"{name}: no row can be used: {found[:3]}"
    assert not found, f"{name}: rows that cannot be: {found[:3]}"
    return table


def recognises_without_an_error(importer: Importer, file: File) -> None:
    """Other files, and every beginning of ``file``, are recognised or not, without an error."""
    whole = file.content
    parts = (whole[: len(whole) * share // 8] for share in range(8))
    for content in (*STRANGE, *parts):
        found = importer.recognises(File(file.name, content))
        assert isinstance(found, bool), f"{type(importer).__name__} says {found!r}"
