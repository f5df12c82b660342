"""Prices of everything in a forward pass but its expert kernels, copies and exchanges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.provenance import Provenance
from moesim.engine.routing import end_of_block
from moesim.engine.terms import (
    Term,
    Terms,
    categories_of,
    charges_of,
    joined,
    setting_of,
)
from moesim.hardware.charge import Charge, Shapes, Stage
from moesim.model.spec import LayerSpec
from moesim.trace.routing import Phase
from moesim.workload.schedule import AttentionSums, over_groups, requests_of_steps
from moesim.workload.sources import SourceSums

Placed = tuple[str, Charge]


class Pricing:
    """Prices the terms of a case; ``experts`` a layer has."""

    def __init__(self, case: Case, experts: int, provenance: Provenance) -> None:
        self.case, self.experts, self.provenance = case, experts, provenance
        self.setting = setting_of(case)
        layers = case.model.layers
        self.alike = [replace(layer, index=0) for layer in layers]
        self.charges = {layer: charges_of(case, layer) for layer in self.alike}
        self.ends = charges_of(case, layers[-1], head=True)
        self.categories = categories_of(case)
        self._of_block: dict[LayerSpec, list[Term]] = {}
        self.first = self.last = 0

    def _reach(self, first: int, last: int) -> None:
        """Have sums of passes first:last, a piece; all before them are priced."""
        if last > self.last:
            self._sum_up(first)

    def _sum_up(self, first: int) -> None:
        """Sum up the passes from ``first`` to the end of its block, or of those that are known."""
        case, self.first = self.case, first
        self.last = min(end_of_block(first), case.schedule.passes)
        schedule = case.schedule.between(first, self.last)
        self.encode = schedule.phase == Phase.ENCODE
        own = schedule.logits(case.gpus)
        self.logits = None if own is None else over_groups(own, case.group)
        windows = {layer.attention.window for layer in case.model.layers} | {None}
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
        self.drafting = requests_of_steps(schedule, case.gpus) if case.drafter else None
        self.sources: SourceSums | None = None
        if any(layer.cross_attention for layer in case.model.layers):
            sources = SourceSums.of(schedule, case.trace, case.gpus)
            self.sources = sources.of_groups(case.group)
        self._of_block.clear()

    def tokens(self, first: int, last: int) -> Ints:
        """Tokens int64[passes, gpus] of passes first:last."""
        self._reach(first, last)
        return self.sums[None].tokens[first - self.first : last - self.first]

    def terms(self, first: int, last: int, rows: Ints, capacity: Ints) -> Terms:
        """The terms of passes first:last; ``rows`` int64[passes, MoE layers, gpus] that were routed
        from each GPU, ``capacity`` int64[passes, MoE layers]. Equal layers are priced once.
        """
        self._reach(first, last)
        span, layers = slice(first - self.first, last - self.first), self.case.model.layers
        alike = self.alike
        times = Counter(alike)
        known = {layer: self._of_passes(layer, span, times[layer]) for layer in times}
        found = [joined(known[layer]) if layer.moe is None else () for layer in alike]
        moe = [layer.index for layer in layers if layer.moe is not None]
        for group in _equal_layers([alike[index] for index in moe], rows, capacity):
            layer, of_group = alike[moe[group[0]]], group[0]
            routed = self._shapes(layer, span, rows[:, of_group], capacity[:, of_group])
            priced = self._priced(self._charges(layer, by_routing=True), layer, routed, len(group))
            terms = joined([*known[layer], *priced])
            for place in group:
                found[moe[place]] = terms
        head = self._priced(self.ends, layers[-1], self._shapes(layers[-1], span), 1)
        return Terms(found, joined(head), self.categories)

    def _of_passes(self, layer: LayerSpec, span: slice, times: int) -> list[Term]:
        """Terms of one of ``times`` equal layers that need no routing, priced for the whole block:
        many passes have the same shape.
        """
        if layer not in self._of_block:
            charges = self._charges(layer, by_routing=False)
            shapes = self._shapes(layer, slice(None))
            self._of_block[layer] = self._priced(charges, layer, shapes, times)
        return [term._replace(ns=term.ns[span]) for term in self._of_block[layer]]

    def _charges(self, layer: LayerSpec, *, by_routing: bool) -> list[Placed]:
        found = self.charges[layer]
        return [(kind, charge) for kind, charge in found if charge.by_routing is by_routing]

    def _priced(
        self, charges: Sequence[Placed], layer: LayerSpec, shapes: Shapes, times: int
    ) -> list[Term]:
        """The terms of one of ``times`` equal layers, or of the end of a pass."""
        terms = []
        for kind, charge in charges:
            shape = charge.of(layer, shapes)
            price = self.case.prices.price(kind, *shape)
            price = np.broadcast_to(price, shapes.tokens.shape)
            self.provenance.add(kind, price, *shape, times=times, charge=charge.category)
            by_gpu = price.reshape(-1, self.case.gpus)
            terms.append(self._placed(charge, by_gpu))
        return terms

    def _placed(self, charge: Charge, ns: Ints) -> Term:
        """Rows are permuted as part of the gate where nothing waits for counts."""
        apart = self.case.permutes_beside or self.case.gating.agrees
        if charge.stage is Stage.PERMUTE and not apart:
            return Term(Stage.GATE, charge.category, "", ns)
        return Term(charge.stage, charge.category, charge.name, ns)

    def _shapes(
        self, layer: LayerSpec, span: slice, rows: Ints | None = None, capacity: Ints | None = None
    ) -> Shapes:
        """What the prices of ``layer`` depend on in passes ``span`` of those summed up; ``rows``
        int64[passes, gpus], ``capacity`` int64[passes].
        """
        case, tokens = self.case, self.sums[None].tokens[span]
        group = self.shared_sums[layer.attention.window]
        gated = group.tokens[span] if case.gathers else tokens
        logits = group.tokens[span] if self.logits is None else self.logits[span]
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
            drafting=None if self.drafting is None else self.drafting[span].ravel(),
            rows=None if rows is None else rows.ravel(),
            capacity=None if capacity is None else np.repeat(capacity, case.gpus),
        )

    def _padded(self, tokens: Ints, span: slice, here: bool) -> Ints:
        """``tokens`` of passes ``span``, with the padding of captured ones, if it is ``here``."""
        return tokens if self.padding is None or not here else tokens + self.padding[span]

    def _served(self, group: AttentionSums) -> tuple[Ints, ...]:
        """``Shapes.served`` of the passes summed up."""
        if not group.decoding and self.padding is None:
            return ()
        nothing = np.zeros_like(group.tokens)
        padding = nothing if self.padding is None else self.padding
        return *(group.decoding or (nothing,) * 3), padding


def _equal_layers(alike: list[LayerSpec], rows: Ints, capacity: Ints) -> list[list[int]]:
    """Places of MoE layers that are alike and have the same ``rows`` and ``capacity``: all their
    terms cost the same.
    """
    groups: list[list[int]] = []
    for place, layer in enumerate(alike):
        for group in groups:
            same = alike[group[0]] == layer
            same = same and np.array_equal(rows[:, group[0]], rows[:, place])
            if same and np.array_equal(capacity[:, group[0]], capacity[:, place]):
                group.append(place)
                break
        else:
            groups.append([place])
    return groups
