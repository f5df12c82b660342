"""What the functions are given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moesim.experiment.loading.resolve import Resolved, Source


def resolved_of(experiment: Source, overrides: Sequence[str]) -> Resolved:
    """The experiment alone: none of these answers looks at the points of its sweep."""
    from moesim.experiment.loading.resolve import load_experiment

    return load_experiment(experiment, overrides, alone=True)
