"""The terms of a forward pass: the time of every operation but experts, copies and exchanges."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.hardware.charge import (
    CHARGES,
    PREDICTION,
    REBALANCING,
    WAITING_FOR_STORAGE,
    Charge,
    Setting,
    Stage,
)
from moesim.hardware.cost_model import charges_in
from moesim.model.spec import LayerSpec


class Term(NamedTuple):
    """Nanoseconds int64[passes, gpus] at a stage, charged to a category; ``name`` of its spans."""

    stage: Stage
    category: str
    name: str
    ns: Ints


@dataclass(eq=False)
class Terms:
    """Terms of layers that are ``alike`` in the order in which they run, which of these each model
    layer has, ``of_layer`` int64[layers], and those of the passes' ends. Time is charged to the
    case's ``categories``.
    """

    alike: list[tuple[Term, ...]]
    of_layer: Ints
    head: tuple[Term, ...]
    categories: tuple[str, ...]

    def of(self, layer: int) -> tuple[Term, ...]:
        """Those of a model layer."""
        return self.alike[int(self.of_layer[layer])]

    def put_first(self, term: Term) -> None:
        """Put ``term`` before all others of the first layer."""
        self.alike.append(joined([term, *self.of(0)]))
        self.of_layer[0] = len(self.alike) - 1

    def charges(self, runs: NDArray[np.bool_]) -> Ints:
        """What passes are charged, int64[passes, gpus, categories]; ``runs`` bool[passes, model
        layers].
        """
        every, sums = bool(runs.all()), dict[str, Ints]()
        times_of = dict[tuple[str, int], tuple[Any, Ints]]()
        for number, terms in enumerate(self.alike):
            own = self.of_layer == number
            times = own.sum() if every else runs[:, own].sum(axis=1)[:, None]
            for term in terms:  # layers have those in common that know nothing of their routing
                before, _ = times_of.get((term.category, id(term.ns)), (0, term.ns))
                times_of[term.category, id(term.ns)] = before + times, term.ns
        times_of |= {(term.category, id(term.ns)): (1, term.ns) for term in self.head}
        for (category, _), (times, ns) in times_of.items():
            if category not in sums:
                sums[category] = times * ns
            else:
                sums[category] += ns if every and times == 1 else times * ns
        charged = np.zeros((*self.head[0].ns.shape, len(self.categories)), np.int64)
        for category, ns in sums.items():
            charged[:, :, self.categories.index(category)] = ns
        return charged


def joined(terms: list[Term]) -> tuple[Term, ...]:
    """``terms`` in order of stages, with those of one stage and category as one, where the first of
    them comes.
    """
    groups: dict[tuple[Stage, str], list[Term]] = {}
    for term in sorted(terms, key=lambda term: term.stage):
        groups.setdefault((term.stage, term.category), []).append(term)
    found = []
    for (stage, category), one in groups.items():
        names = dict.fromkeys(term.name for term in one if term.name)
        ns = reduce(np.add, [term.ns for term in one])
        found.append(Term(stage, category, " and ".join(names) or category, ns))
    return tuple(found)


def setting_of(case: Case) -> Setting:
    """What decides which operations ``case`` has."""
    on_device = case.decide == "device" and case.needs_decision
    gating, stages = case.gating, max(1, len(case.stages))
    behind_gates = 0 if case.prefetch.before_pass else case.prediction_ns
    software, logit_wait = case.software, None
    if software.logits_to_host:
        logit_wait = int(software.synchronisation_ns + 0.5)
    asked = (gating.uneven, gating.masks, on_device, stages, software.pinned, case.drafter)
    return Setting(case.group, *asked, behind_gates, logit_wait, software.input_copies)


def charges_of(case: Case, layer: LayerSpec, *, head: bool = False) -> list[tuple[str, Charge]]:
    """The operations of a layer of ``case``, or of the end of a pass, and their places."""
    return charges_in(setting_of(case), layer, head=head)


def categories_of(case: Case) -> tuple[str, ...]:
    """What time is charged to in ``case``: ``CHARGES``, then what its operations add."""
    layers, _ = case.model.kinds
    found = [charge.category for layer in layers for _, charge in charges_of(case, layer)]
    found += [one.category for _, one in charges_of(case, case.model.layers[-1], head=True)]
    own = CHARGES if case.host_cache is None else (*CHARGES, WAITING_FOR_STORAGE)
    found += [PREDICTION] if case.prefetch.fetches and case.prefetch.cost > 0 else []
    found += [] if case.rebalance is None else [REBALANCING]
    return (*own, *sorted(set(found) - set(own)))


def launched_ns(case: Case, layer: LayerSpec, *, head: bool = False) -> int:
    """What the host launches for a layer, or the end of a pass, beyond the software profile's
    kernels; nothing in a graph, and of captured parts.
    """
    if case.execution in ("graph", "splits"):
        return 0
    captured = (Stage.BEFORE_GATE, Stage.AFTER, Stage.HEAD)
    charges = [charge for _, charge in charges_of(case, layer, head=head)]
    if case.execution == "piecewise":
        charges = [charge for charge in charges if charge.stage not in captured]
    return int(sum(charge.launches for charge in charges) * case.software.launch_ns + 0.5)
