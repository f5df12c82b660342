"""Numbers that an earlier moesim called otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from moesim.config.errors import InputError, Problem

RENAMED: Mapping[str, str] = {"dropped_tokens": "dropped_choices"}
"""The names of today by the earlier ones."""

COLUMNS: Mapping[str, str] = {"turns": "activations"}
"""The same of the columns of a run's tables."""


def check_names(where: str, names: Iterable[str], renamed: Mapping[str, str] = RENAMED) -> None:
    """An InputError where ``names`` of a result has an earlier one: what it says today would be
    taken to be unknown.
    """
    if old := [name for name in names if name in renamed]:
        now = ", ".join(f"'{name}', which is '{renamed[name]}' now" for name in old)
        what = f"an earlier moesim wrote it: it has {now}; run the experiment again"
        raise InputError([Problem(where, "", what)])
