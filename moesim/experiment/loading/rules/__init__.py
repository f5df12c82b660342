"""Rules over several keys of an experiment; each is a function that says what is wrong. A file a
concept, whose ``RULES`` are read here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from moesim.experiment.loading.rules import (
    copies,
    gpus,
    kernels,
    layers,
    near_memory,
    parts,
    passes,
    placement,
    prefetch,
    prices,
    serving,
    slots,
    storage,
    variants,
)
from moesim.experiment.loading.rules.asked import may_miss
from moesim.experiment.loading.rules.rule import Conflict
from moesim.experiment.schema.experiment import Experiment

if TYPE_CHECKING:
    from moesim.model import ModelSpec

__all__ = ["CONCEPTS", "Conflict", "conflicts", "may_miss"]

CONCEPTS = (
    passes,
    serving,
    kernels,
    gpus,
    placement,
    slots,
    copies,
    prefetch,
    storage,
    near_memory,
    variants,
    parts,
    layers,
    prices,
)


def conflicts(experiment: Experiment, model: ModelSpec | None) -> Iterator[Conflict]:
    """Every rule that ``experiment`` breaks; those about the model are left out where it is
    None.
    """
    for concept in CONCEPTS:
        for rule in concept.RULES:
            if (found := rule(experiment, model)) is not None:
                yield found
