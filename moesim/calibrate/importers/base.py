"""What an importer of measurements is."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import pandas as pd

START_BYTES = 4096


class File(NamedTuple):
    """A file of any kind: its path (inside a wheel too) and its content."""

    name: str
    content: bytes

    @property
    def start(self) -> str:
        """The first lines, as text; empty for a Parquet file."""
        return self.content[:START_BYTES].decode("utf-8", errors="ignore")

    @property
    def text(self) -> str:
        """The whole content as text."""
        return self.content.decode("utf-8", errors="replace")


class Importer:
    """Reads one kind of file; a subclass has its ``kind``."""

    kind: ClassVar[str]

    def recognises(self, file: File) -> bool:
        """Whether the file looks like this kind; cheap, and never an error."""
        raise NotImplementedError

    def read(self, file: File) -> pd.DataFrame:
        """The file's rows as a measurement table, with their lines in ``LINE``.

        Rows that another table form cannot say are left out; the attribute ``left_out`` of the
        table (``attrs``) maps each reason to their number.
        """
        raise NotImplementedError


def left_out(table: pd.DataFrame, kept: pd.Series[bool], why: str) -> pd.DataFrame:
    """The rows that are ``kept``; the others are counted under ``why``."""
    reasons = dict(table.attrs.get("left_out", {}))
    if number := int((~kept).sum()):
        reasons[why] = reasons.get(why, 0) + number
    chosen = table[kept]
    chosen.attrs["left_out"] = reasons
    return chosen
