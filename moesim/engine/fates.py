"""What became of the gate weight that tokens gave their experts: by variant, skipped or dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.chunk import Work
from moesim.engine.routing import Key, Routing
from moesim.runtime.compiled import njit, types
from moesim.trace.routing import NO_EXPERT

FULL, DROPPED = "full", "dropped"
"""The fates of what the first variant serves, or the only one, and of what a capacity drops."""
Dropped = NDArray[np.bool_]
NONE_DROPPED: Dropped = np.zeros((0, 0, 0), np.bool_)
_SUMS = types.int64[:, :, ::1]


@dataclass(frozen=True, eq=False)
class Fates:
    """Of each of ``names``, the choices of tokens and their gate weight in units of
    1 / WEIGHT_UNIT: ``by_layer`` int64[2, MoE layers, fates] and ``by_request`` int64[2, requests,
    fates], those that ran, in file order. ``unpacking_ns`` int64[passes, gpus]: what unpacking the
    variants that served took.
    """

    names: tuple[str, ...]
    by_layer: Ints
    by_request: Ints
    unpacking_ns: Ints


@njit(
    types.void(
        types.uint16[:, :, ::1], _SUMS, types.int8[:, :, ::1], types.boolean[:, :, ::1],
        types.int64[::1], types.int64[::1], _SUMS, _SUMS,
    ),
    cache=True,
)  # fmt: skip
def add_choices(
    ids: Any, weights: Any, fate: Any, dropped: Any, of_pass: Any, request: Any, by_layer: Any,
    by_request: Any,
) -> None:  # fmt: skip
    """Add choices ``ids`` [tokens, MoE layers, k] and their ``weights`` to the sums, by the
    ``fate`` [passes, MoE layers, experts] of their expert; the last one has those that are
    ``dropped``, if some are, like ``ids``.
    """
    last, drops = by_layer.shape[2] - 1, len(dropped) > 0
    for token in range(ids.shape[0]):
        own = by_request[:, request[token]]
        for layer in range(ids.shape[1]):
            number = whole = 0  # most have the first fate, whose sums in memory would be waited for
            for rank in range(ids.shape[2]):
                expert = ids[token, layer, rank]
                if expert == NO_EXPERT:
                    continue
                found, weight = fate[of_pass[token], layer, expert], weights[token, layer, rank]
                if drops and dropped[token, layer, rank]:
                    found = last
                if found == 0:
                    number += 1
                    whole += weight
                    continue
                by_layer[0, layer, found] += 1
                by_layer[1, layer, found] += weight
                own[0, found] += 1
                own[1, found] += weight
            by_layer[0, layer, 0] += number
            by_layer[1, layer, 0] += whole
            own[0, 0] += number
            own[1, 0] += whole


@njit(types.void(types.int8[:, :, ::1], types.int64, *[types.int64[::1]] * 3), cache=True)
def _note(fate: Any, layer: int, offsets: Any, experts: Any, fates: Any) -> None:
    """Fill in the ``fates`` of a layer's ``experts``, from ``offsets`` [passes + 1] on."""
    for step in range(len(offsets) - 1):
        for i in range(offsets[step], offsets[step + 1]):
            fate[step, layer, experts[i]] = fates[i]


class Ledger:
    """Adds up the fates of a case that ``tells_fates``, chunk by chunk."""

    def __init__(self, case: Case, routing: Routing) -> None:
        self.case, self.routing = case, routing
        self.names, self.fate_of = fates_of(case)
        self._differ = bool(self.fate_of.any())
        """Whether activations have different fates."""
        layers, fates = len(routing.moe_layers), len(self.names)
        self.by_layer = np.zeros((2, layers, fates), np.int64)
        self.by_request = np.zeros((2, 0, fates), np.int64)
        self.each_ns = unpacking_of_forms(case)
        self._unpacking = [np.zeros((0, case.gpus), np.int64)]

    def mark(self) -> tuple[Ints, Ints, int]:
        """What ``back`` goes back to."""
        return self.by_layer.copy(), self.by_request.copy(), len(self._unpacking)

    def back(self, mark: tuple[Ints, Ints, int]) -> None:
        """Nothing has been added since then."""
        self.by_layer, self.by_request, parts = mark
        del self._unpacking[parts:]

    def add(
        self, first: int, last: int, works: Mapping[Key, Work], dropped: Dropped = NONE_DROPPED
    ) -> None:
        """Those of passes first:last, whose ``works`` are of all MoE layers and GPUs; ``dropped``
        as ``drops.dropped_choices`` gives it.
        """
        made = {
            key: (work.active_experts.offsets, work.activations.expert, work.activations.form)
            for key, work in works.items()
        }
        self._add((first, last), made, dropped)

    def add_served(self, first: int, served: NDArray[np.int8], dropped: Dropped) -> None:
        """Those of passes from ``first`` on, whose activations were ``served`` in such forms (see
        ``Undecided``).
        """
        made, steps = dict[Key, tuple[Ints, Ints, Any]](), np.arange(len(served) + 1)
        for layer, gpu in np.ndindex(served.shape[1:3]):
            step, expert = np.nonzero(served[:, layer, gpu] >= 0)
            forms = served[step, layer, gpu, expert]
            made[layer, gpu] = np.searchsorted(step, steps), expert, forms
        self._add((first, first + len(served)), made, dropped)

    def _add(
        self, span: tuple[int, int], made: Mapping[Key, tuple[Ints, Ints, Any]], dropped: Dropped
    ) -> None:
        """Those of the passes of ``span``; ``made`` by MoE layer and GPU: offsets of activations
        int64[passes + 1], their experts and forms.
        """
        passes = span[1] - span[0]
        rows = passes if self._differ else 1
        fate = np.zeros((rows, len(self.routing.moe_layers), self.routing.numbers), np.int8)
        spent = np.zeros((passes, self.case.gpus), np.int64)
        for (layer, gpu), (offsets, expert, form) in made.items() if self._differ else ():
            numbers = self.routing.numbers_of(layer, gpu)
            _note(fate, layer, offsets, numbers[expert], self.fate_of[form])
            if self.each_ns.any():
                so_far = np.append(0, np.cumsum(self.each_ns[layer, form]))
                spent[:, gpu] += np.diff(so_far[offsets])
        self.unpacked(spent)
        self.add_fate(*span, fate, dropped)

    def add_fate(
        self, first: int, last: int, fate: NDArray[np.int8], dropped: Dropped = NONE_DROPPED
    ) -> None:
        """Those of passes first:last, by the ``fate`` int8[passes, MoE layers,
        ``Routing.numbers``] of each expert, or of one pass where it is that of all.
        """
        _, weights, of_pass = self.routing.chosen_weights(first, last)
        ids, request = self._ran(first, last, of_pass), self.requests(first, last)
        of_pass = of_pass if len(fate) > 1 else np.zeros_like(of_pass)
        sums = self.by_layer, self.by_request
        add_choices(ids, weights, fate, dropped, of_pass, request, *sums)

    def _ran(self, first: int, last: int, of_pass: Ints) -> NDArray[np.uint16]:
        """Which expert each choice goes to, NO_EXPERT in layers that its pass does not run."""
        ids, active = self.routing.numbered(first, last), self.routing.active(first, last)
        if active.all():
            return ids
        return np.where(active[of_pass][:, :, None], ids, np.uint16(NO_EXPERT))

    def unpacked(self, unpacking_ns: Ints) -> Ints:
        """Take what unpacking takes in the next passes, int64[passes, gpus]."""
        self._unpacking.append(unpacking_ns)
        return unpacking_ns

    def requests(self, first: int, last: int) -> Ints:
        """The requests of the tokens of passes first:last, for which there is room then."""
        schedule = self.case.schedule
        span = slice(schedule.offsets[first], schedule.offsets[last])
        request: Ints = schedule.request[span].astype(np.int64)
        if (more := int(request.max(initial=-1)) + 1 - self.by_request.shape[1]) > 0:
            room = np.zeros((2, more, len(self.names)), np.int64)
            self.by_request = np.concatenate((self.by_request, room), axis=1)
        return request

    @property
    def total(self) -> Fates:
        """Those of all chunks so far."""
        unpacking = np.concatenate(self._unpacking)
        return Fates(self.names, self.by_layer, self.by_request, unpacking)


def tells_fates(case: Case) -> bool:
    """Whether choices of ``case`` may have different fates, as far as a run tells them: variants
    are choices without weights, too.
    """
    loses = case.skips or case.gating.drops is not None
    return case.variants is not None or (loses and case.trace.gate_weights is not None)


def fates_of(case: Case) -> tuple[tuple[str, ...], Ints]:
    """The names of the fates in ``case``, and by form the place of its one among them."""
    forms, variants = case.forms, case.variants
    dropped = () if case.gating.drops is None else (DROPPED,)
    if variants is None:
        out = list(dict.fromkeys(form.counted for form in forms if form.runs_on == "nowhere"))
        fate = [1 + out.index(form.counted) if form.counted in out else 0 for form in forms]
        return (FULL, *out, *dropped), np.array(fate)
    count = len(variants.names)
    left_out = [form.counted for form in variants.forms[count : count + variants.leaves_out]]
    return (FULL, *variants.names[1:], *left_out, *dropped), variants.variant_of


def unpacking_of_forms(case: Case) -> Ints:
    """What unpacking one expert takes by its variant, int64[MoE layers, forms]; nothing where it is
    left out, or where there are no variants.
    """
    if (variants := case.variants) is None:
        return np.zeros((len(case.model.moe_layers), len(case.forms)), np.int64)
    (specs, kinds), one = case.moe_kinds, np.ones(1, np.int64)
    prices = np.array([case.prices.price("unpacking", spec, one)[0] for spec in specs])
    each = np.zeros((len(kinds), len(variants.forms)), np.int64)
    for form, variant in enumerate(variants.variant_of.tolist()):
        if variants.copied[form]:
            each[:, form] = prices[kinds[:, variant]]
    return each
