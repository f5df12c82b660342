"""The requests of a run that serves some, for its figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from moesim.report.figures.base import Figure
    from moesim.results.result import Result

NEEDS = "a run of requests that are served (batching: continuous)"


def served_run(figure: Figure, folder: Path) -> Result:
    """A run, which may serve requests; the figure's error where the folder has none."""
    from moesim.results import is_result, read_result

    if not is_result(folder):
        raise figure.unsuitable(folder, "the folder holds no run")
    return read_result(folder)


def served_requests(
    figure: Figure, folder: Path, *, counted: bool = False, result: Result | None = None
) -> pd.DataFrame:
    """The requests with their whole answers, in order of arrival, of the ``result`` in a folder;
    the figure's error where it has none. ``counted``: without those of the warm-up, which the
    summary leaves out, too.
    """
    result = result or served_run(figure, folder)
    if "arrival_ns" not in result.requests.columns:
        raise figure.unsuitable(folder, "its requests are in batches")
    came = result.requests[result.requests["arrival_ns"] >= 0]
    came = came.sort_values(["arrival_ns", "request_id"], kind="stable")
    warm_up = (result.configuration.get("serving") or {}).get("warm_up") or 0
    came = came[warm_up if counted else 0 :]
    done: pd.DataFrame = came[came["completed"].astype(bool)]
    if done.empty:
        raise figure.unsuitable(folder, "no request of it has its whole answer")
    return done.reset_index(drop=True)


def served_steps(figure: Figure, folder: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The steps of a run that serves requests, and its summary; the figure's error where the folder
    has none.
    """
    result = served_run(figure, folder)
    if "running" not in result.steps.columns or result.steps.empty:
        raise figure.unsuitable(folder, "it has no steps of requests that are served")
    return result.steps, result.summary
