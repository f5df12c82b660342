"""Prices of everything in a forward pass but its expert kernels, copies and exchanges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from moesim.config.registry import answering
from moesim.engine.case import Case, Ints
from moesim.engine.instants import NEVER
from moesim.engine.pricing.by_rows import PricesByRows
from moesim.engine.pricing.prices import MOST, PricedOperation, told
from moesim.engine.pricing.provenance import Provenance
from moesim.engine.pricing.terms import (
    Term,
    Terms,
    categories_of,
    charges_of,
    joined,
    setting_of,
)
from moesim.engine.routing import end_of_block
from moesim.hardware.charge import Charge, Drafted, Shapes, Stage
from moesim.hardware.cost_model import KEY, registry
from moesim.model.spec import LayerSpec
from moesim.trace.routing import Phase
from moesim.workload.going_on import GoingOn
from moesim.workload.schedule import AttentionSums, over_groups, requests_of_steps
from moesim.workload.sources import SourceSums

Placed = tuple[str, Charge]
BEGINNING = 64
"""Passes by which layers that differ are told apart at first."""


class Shaped(NamedTuple):
    """A place of an operation, and which of its shapes passes and GPUs have: ``numbers``
    int64[passes, gpus].
    """

    charge: Charge
    operation: PricedOperation
    numbers: Ints


class Pricing:
    """Prices the terms of a case; ``experts`` a layer has."""

    def __init__(self, case: Case, experts: int, provenance: Provenance) -> None:
        self.case, self.experts, self.provenance = case, experts, provenance
        self.setting = setting_of(case)
        layers = case.model.layers
        self.kinds, numbers = case.model.kinds
        of_layer = np.array(numbers)
        self.places = [np.flatnonzero(of_layer == kind) for kind in range(len(self.kinds))]
        self.moe_place = np.cumsum([layer.moe is not None for layer in layers]) - 1
        charges = [charges_of(case, layer) for layer in self.kinds]
        self.charges, self.routed = (
            [[one for one in of_kind if one[1].by_routing is routed] for of_kind in charges]
            for routed in (False, True)
        )
        self.charges.append(charges_of(case, layers[-1], head=True))
        self.priced_as = [*self.kinds, layers[-1]]
        """Whose charges those are: a layer of each kind, and the last one, of the passes' ends."""
        self.categories = categories_of(case)
        self.waits = bool(getattr(case.prices, "waits_for_longest", False))
        self.crosses = any(layer.cross_attention for layer in layers)
        self.going_on: GoingOn | None = None
        self._of_block: dict[int, list[Shaped]] = {}
        self._operations: dict[tuple[Any, ...], PricedOperation] = {}
        self.first = self.last = 0
        self._marked = False

    def _reach(self, first: int, last: int) -> None:
        """Have sums of passes first:last, a piece; all before them are priced."""
        begun = self.first <= first  # earlier ones come again where they were taken back
        if begun and last <= self.last:
            return
        known = self.going_on if begun else None
        if known is not None and known.has(self.case.schedule, first, last):
            self.last = last
        else:
            self._sum_up(first)

    def _sum_up(self, first: int) -> None:
        """Sum up the passes from ``first`` to the end of its block, or of those that are known and
        those that seem to come.
        """
        case, self.first = self.case, first
        self.last = min(end_of_block(first), case.schedule.passes)
        schedule, self.going_on = case.schedule.between(first, self.last), None
        if case.schedule.grows and not self.crosses:
            self.going_on = GoingOn.of(schedule, first)
        if self.going_on is not None:
            schedule = self.going_on.schedule
        self.encode = schedule.phase == Phase.ENCODE
        self.decode = schedule.phase == Phase.DECODE
        own = schedule.logits(case.gpus)
        self.logits = None if own is None else over_groups(own, case.group)
        windows = {layer.attention.window for layer in case.model.cached_layers} | {None}
        self.sums = {
            window: AttentionSums.of(schedule, case.trace, case.gpus, window) for window in windows
        }
        self.shared_sums = {
            window: sums.of_groups(case.group) for window, sums in self.sums.items()
        }
        present = self.shared_sums[None].tokens
        self.padding: Ints | None = None
        if case.captured is not None:
            self.padding = case.captured.padding(schedule, present, case.group)
        self.requests = requests_of_steps(schedule, case.gpus) if case.drafter else None
        self.sources: SourceSums | None = None
        if self.crosses:
            sources = SourceSums.of(schedule, case.trace, case.gpus)
            self.sources = sources.of_groups(case.group)
        self._of_block.clear()
        if not self._marked:  # who marks settles there alone
            self._settle_many()

    def _settle_many(self) -> None:
        """Count what prices rest on where there are many, which are forgotten then."""
        if any(len(one.cache) > MOST for one in self._operations.values()):
            self.settle()
            self._of_block.clear()

    def tokens(self, first: int, last: int) -> Ints:
        """Tokens int64[passes, gpus] of passes first:last."""
        self._reach(first, last)
        return self.sums[None].tokens[first - self.first : last - self.first]

    def by_rows(self, most: int) -> PricesByRows | None:
        """What of one GPU goes by how many rows it permutes, at ``most`` so many; None where what
        knows of the routing goes by more than that.
        """
        found, rows = PricesByRows(len(self.case.model.moe_layers), most), np.arange(1 + most)
        a, b, c, d, e, f = (np.ones_like(rows) for _ in range(6))
        shapes = Shapes(self.setting, 1, self.experts, a, b, c, d, e, f, rows=rows, capacity=a)
        for kind, charges in enumerate(self.routed):
            layer, own = self.kinds[kind], self.moe_place[self.places[kind]]
            for name, charge in charges:
                shape = charge.of(layer, shapes)
                if not all(one is layer or one is rows for one in shape):
                    return None
                operation = self._operation(name, charge.category, shape)
                numbers = operation.numbers(self.case.prices, shape, len(rows), 0)
                term = self._placed(charge, operation.cache.of(numbers))
                if not found.add(term, own, operation.cache, numbers):
                    return None
        return found

    def terms(self, first: int, last: int, rows: Ints | None, capacity: Ints) -> Terms:
        """The terms of passes first:last; ``rows`` int64[passes, MoE layers, gpus] that were routed
        from each GPU, ``capacity`` int64[passes, MoE layers]. Equal layers are priced once. Without
        ``rows``, none of what knows them.
        """
        self._reach(first, last)
        told = None if rows is None else (_by_layer(rows), _by_layer(capacity))
        gpus = self.case.gpus
        span, layers = slice(first - self.first, last - self.first), self.case.model.layers
        alike: list[tuple[Term, ...]] = []
        of_layer = np.empty(len(layers), np.int64)
        for kind, layer in enumerate(self.kinds):
            places = self.places[kind]
            known = self._of_passes(kind, span, len(places))
            if layer.moe is None or told is None:
                of_layer[places] = len(alike)
                alike.append(joined(known))
                continue
            shapes = self._shapes(layer, span)
            for group in _equal_layers(self.moe_place[places], *told):
                own = self.moe_place[places[group[0]]]
                of_rows, room = (one[own] for one in told)
                room = room if gpus == 1 else np.repeat(room, gpus)
                routed = replace(shapes, rows=of_rows.ravel(), capacity=room)
                found = self._shaped(self.routed[kind], layer, routed, len(group))
                priced = [
                    self._placed(one.charge, one.operation.cache.of(one.numbers)) for one in found
                ]
                of_layer[places[group]] = len(alike)
                alike.append(joined([*known, *priced]))
        head = joined(self._of_passes(len(self.kinds), span, 1))
        return Terms(alike, of_layer, head, self.categories)

    def until_all_reduce(self, step: int) -> Ints:
        """What each GPU does in pass ``step``, whose terms are made, before the first all-reduce of
        those that share attention, int64[gpus]; NEVER where it has none.
        """
        if self.case.group == 1:
            return np.full(self.case.gpus, NEVER)
        kind, at = self.case.model.kinds[1][0], step - self.first
        ns = np.zeros(self.case.gpus, np.int64)
        for (_, charge), one in zip(self.charges[kind], self._of_block[kind], strict=True):
            if charge.stage is Stage.BEFORE_GATE and not charge.reduced:
                ns += one.operation.cache.of(one.numbers[at])
        here = slice(at, at + 1)
        tokens = self._padded(self.shared_sums[None].tokens[here], here, True)[0]
        return np.where(tokens > 0, ns, NEVER)

    def settle(self) -> None:
        """Count what all prices so far rest on."""
        for operation in self._operations.values():
            operation.settle(self.provenance)

    def mark(self) -> dict[tuple[Any, ...], Ints]:
        """What ``back`` goes back to: how often shapes were used."""
        self._marked = True
        self._settle_many()
        return {key: one.cache.uses() for key, one in self._operations.items()}

    def back(self, mark: dict[tuple[Any, ...], Ints]) -> None:
        """What was asked for since then was not used."""
        for key, one in self._operations.items():
            one.cache.used_as(mark.get(key, np.zeros(0, np.int64)))

    def forget_from(self, last: int) -> None:
        """Passes from ``last`` on are not those that were summed up."""
        self.last = min(self.last, last)

    def _of_passes(self, kind: int, span: slice, times: int) -> list[Term]:
        """Terms of so many layers of a ``kind``, or of the passes' ends, that need no routing,
        priced for the whole block.
        """
        if kind not in self._of_block:
            layer = self.priced_as[kind]
            shapes = self._shapes(layer, slice(None))
            if kind == len(self.kinds):
                shapes = replace(shapes, drafting=self._drafted())
            self._of_block[kind] = self._shaped(self.charges[kind], layer, shapes)
        return self._used(self._of_block[kind], span, times)

    def _shaped(
        self, charges: Sequence[Placed], layer: LayerSpec, shapes: Shapes, times: int = 0
    ) -> list[Shaped]:
        """The prices of a layer, or of the end of a pass, used so many ``times``."""
        found = []
        for kind, charge in charges:
            with answering(KEY, registry.components[kind]):
                shape = charge.of(layer, shapes)
            operation = self._operation(kind, charge.category, shape)
            numbers = operation.numbers(self.case.prices, shape, len(shapes.tokens), times)
            found.append(Shaped(charge, operation, numbers.reshape(-1, self.case.gpus)))
        return found

    def _used(self, found: list[Shaped], span: slice, times: int) -> list[Term]:
        """The terms of passes ``span``, which are used in so many equal layers."""
        terms = []
        for charge, operation, numbers in found:
            here = numbers[span]
            operation.cache.use(here.ravel(), times)
            terms.append(self._placed(charge, operation.cache.of(here)))
        return terms

    def _operation(self, kind: str, category: str, shape: tuple[Any, ...]) -> PricedOperation:
        """What prices the operation ``kind`` of shapes like this one."""
        key = (kind, category, *told(shape))
        if key not in self._operations:
            self._operations[key] = PricedOperation(kind, category, shape)
        return self._operations[key]

    def _placed(self, charge: Charge, ns: Ints) -> Term:
        """Rows are permuted as part of the gate where nothing waits for counts."""
        apart = self.case.permutes_beside or self.case.gating.agrees
        if charge.stage is Stage.PERMUTE and not apart:
            return Term(Stage.GATE, charge.category, "", ns)
        return Term(charge.stage, charge.category, charge.name, ns)

    def _shapes(self, layer: LayerSpec, span: slice) -> Shapes:
        """What the prices of ``layer`` depend on in passes ``span`` of those summed up, but for its
        routing.
        """
        case, tokens = self.case, self.sums[None].tokens[span]
        group = self.shared_sums[layer.attention.window]
        gated = group.tokens[span] if case.gathers else tokens
        logits = group.tokens[span] if self.logits is None else self.logits[span]
        read = logits  # of prompts that no scheduler cuts the head has all, of which none is read
        if self.logits is None:
            read = np.where(self.decode[span, None], logits, 0)
        sources: tuple[Ints, ...] = ()
        if self.sources is not None:
            of = self.sources
            sources = (of.context_tokens, of.kv_tokens, of.projected_tokens)
        return Shapes(
            setting=self.setting,
            row_bytes=case.model.hidden_size * case.model.activation_bytes,
            experts=self.experts,
            tokens=self._padded(gated, span, case.group == 1 or case.gathers).ravel(),
            most_tokens=np.repeat(case.of_senders(tokens).max(axis=1), case.gpus),
            output_tokens=np.where(self.encode[span, None], 0, logits).ravel(),
            group_tokens=self._padded(group.tokens[span], span, True).ravel(),
            context_tokens=group.context_tokens[span].ravel(),
            kv_tokens=group.kv_tokens[span].ravel(),
            served=tuple(one[span].ravel() for one in self._served(group)),
            sources=tuple(one[span].ravel() for one in sources),
            read=read.ravel(),
        )

    def _drafted(self) -> Drafted | None:
        """``Shapes.drafting`` of all passes summed up; encoders draft nothing."""
        case, everywhere = self.case, slice(None)
        if self.requests is None or case.drafter is None:
            return None
        runs = np.where(self.encode[:, None], 0, 1)
        tokens, requests = self.sums[None].tokens * runs, self.requests * runs
        shared = [over_groups(one, case.group) for one in (tokens, requests)]
        own = shared if case.gathers else [tokens, requests]
        padded = [self._padded(own[0], everywhere, case.group == 1 or case.gathers)]
        padded.append(self._padded(shared[0], everywhere, True))
        every = [over_groups(one, case.gpus) for one in (tokens, requests)]
        known = [*(one * runs for one in padded), every[0], own[1], shared[1], every[1]]
        of_windows = [self.shared_sums[window] for window in case.drafter.windows]
        sums = [
            one * runs
            for group in of_windows
            for one in (group.context_tokens, group.kv_tokens, *self._served(group))
        ]
        return Drafted._make([*map(np.ravel, known), tuple(map(np.ravel, sums))])

    def _padded(self, tokens: Ints, span: slice, here: bool) -> Ints:
        """``tokens`` of passes ``span``, with the padding of captured ones, if it is ``here``."""
        return tokens if self.padding is None or not here else tokens + self.padding[span]

    def _served(self, group: AttentionSums) -> tuple[Ints, ...]:
        """``Shapes.served`` of the passes summed up."""
        waits = self.waits and bool(group.longest.any()) and int(group.tokens.max()) > 1
        if not group.decoding and self.padding is None and not waits:
            return ()
        nothing = np.zeros_like(group.tokens)
        padding = nothing if self.padding is None else self.padding
        apart = *(group.decoding or (nothing,) * 3), padding
        return (*apart, group.longest) if waits else apart


def _by_layer(values: Ints) -> Ints:
    """``values`` [passes, MoE layers, ...] as [MoE layers, passes, ...]."""
    by_layer = np.moveaxis(values, 1, 0)
    return np.ascontiguousarray(by_layer) if values.strides[1] else by_layer


def _equal_layers(places: Ints, rows: Ints, capacity: Ints) -> list[list[int]]:
    """Which of the MoE layers ``places``, all alike, have the same ``rows`` and ``capacity``, which
    are by layer: all their terms cost the same.
    """
    told = [one for one in (rows, capacity) if one.strides[0]]  # else all layers are one
    groups: dict[bytes, list[list[int]]] = {}
    for number, place in enumerate(places.tolist()):
        begins = b"".join(one[place, :BEGINNING].tobytes() for one in told)
        known = groups.setdefault(begins, [])
        for group in known:
            other = places[group[0]]
            if all(np.array_equal(one[place], one[other]) for one in told):
                group.append(number)
                break
        else:
            known.append([number])
    return sorted(group for known in groups.values() for group in known)
