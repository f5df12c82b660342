"""What a rule is: a function that says which keys do not go together, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from moesim.experiment.schema.experiment import Experiment

if TYPE_CHECKING:
    from moesim.model import ModelSpec


@dataclass(frozen=True)
class Conflict:
    """Keys that do not go together: reported at the first of ``keys``, caused by any of them."""

    keys: tuple[str, ...]
    what: str


Rule = Callable[[Experiment, "ModelSpec | None"], Conflict | None]


def first_wrong(
    keys: tuple[str, ...], said: str, wrong: Mapping[str, str | bool]
) -> Conflict | None:
    """The first key of ``wrong`` with words for it, beside ``keys``; they end what is ``said``."""
    for key, what in wrong.items():
        if what:
            return Conflict((*keys, key), f"{said} {what}")
    return None
