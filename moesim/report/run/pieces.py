"""What each request that is served has of the steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

INSTANCE = "instance"
TIMES = ("start_ns", "end_ns", INSTANCE)


def pieces_of_requests(entries: pd.DataFrame, steps: pd.DataFrame) -> pd.DataFrame:
    """``entries`` by request and step, each with its step's ``start_ns`` and ``end_ns``, and with
    the end of the request's one before (``idle_ns``; -1: it is the first). ``preempted``: what had
    been computed was given up since then; ``handed``: another instance has the request now.
    """
    times = steps.set_index("step")
    found = entries.join(times[[name for name in TIMES if name in times]], on="step")
    found = found.sort_values(["request_id", "step"], ignore_index=True)
    before = found.groupby("request_id").shift()
    late = before["end_ns"] < found["start_ns"]
    again = ~found["decodes"].astype(bool) & (found["first_token"] <= before["first_token"])
    found["idle_ns"] = before["end_ns"].fillna(-1).astype("int64")
    found["preempted"] = again & late
    moved = found[INSTANCE] != before[INSTANCE] if INSTANCE in found else False
    found["handed"] = moved & (found["idle_ns"] >= 0)
    return found
