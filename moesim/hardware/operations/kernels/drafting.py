"""Drafts of further tokens, made before a pass verifies them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import numpy as np

from moesim.hardware.charge import COUNT_BYTES, Charge, Drafted, Setting, Shapes, Stage
from moesim.hardware.cost_model import charges_in, operations_of
from moesim.hardware.operation import Operation
from moesim.hardware.prices.arrays import Floats, Ints
from moesim.hardware.prices.parts import Part
from moesim.model.drafting import Drafter
from moesim.model.spec import LayerSpec, MoeSpec
from moesim.model.spread import Spread


class Call(NamedTuple):
    """So many ``times`` the price of an ``operation`` of ``shape``, of which each pass has the one
    at its place in ``which``.
    """

    kind: str
    operation: Operation
    shape: tuple[Any, ...]
    times: Ints
    which: Ints

    def price(self) -> Floats:
        """Nanoseconds [n]."""
        price = np.asarray(self.operation.price(*self.shape), np.float64)
        return np.asarray(price[self.which] * self.times, np.float64)

    def provenance(self, price_ns: Floats) -> Floats:
        """Nanoseconds by source float64[5] of its part of prices."""
        known = len(np.asarray(self.operation.price(*self.shape)))
        of_shapes = np.bincount(self.which, np.ravel(price_ns), known).astype(np.float64)
        return self.operation.provenance(of_shapes, *self.shape)


class Run(NamedTuple):
    """One draft of each pass, int64[n]: its ``shapes`` by window of what drafts, and the tokens of
    ``every`` GPU. It is made so many ``times``.
    """

    shapes: dict[int | None, Shapes]
    every: Ints
    times: Ints


def _drafted(_layer: LayerSpec, at: Shapes) -> tuple[Any, ...]:
    assert at.drafting is not None, "what drafts is told what it depends on"
    return at.setting.drafter, *at.drafting[:-1], *at.drafting.sums


class Drafting(Operation):
    """What the layers and the head of the drafter take, one draft after the other, each a pass of
    its own: the prices of their operations at the places that they have in the model's own layers,
    one after the other.

    The first draft runs over all tokens of the pass, whose keys and values it adds; a further one
    over one token of each request. Tokens, and their choices of experts, are spread evenly, so that
    as many experts as there are choices have rows; experts of a layer are one launch.
    """

    kind: ClassVar[str] = "drafting"
    charges: ClassVar[tuple[Charge, ...]] = (
        Charge(
            Stage.HEAD,
            "drafting",
            _drafted,
            "drafting",
            when=lambda setting, _: setting.drafter is not None,
        ),
    )

    def parts(self, drafter: Drafter, *numbers: Any) -> list[Part]:
        """``numbers`` int64[n] each as ``Drafted`` has them, sums last."""
        return [Part(call.price(), name=call.kind) for call in self._calls(drafter, numbers)]

    def provenance(self, price_ns: Floats, *shape: Any) -> Floats:
        """See ``Operation``: that of all its operations."""
        calls = list(self._calls(shape[0], shape[1:]))
        own = [call.price() for call in calls]
        whole = np.asarray(price_ns) / np.maximum(np.sum(own, axis=0), np.finfo(np.float64).tiny)
        found = [call.provenance(ns * whole) for call, ns in zip(calls, own, strict=True)]
        return np.asarray(np.sum(found, axis=0), np.float64)

    def _calls(self, drafter: Drafter, numbers: tuple[Any, ...]) -> Iterator[Call]:
        fixed = len(Drafted._fields) - 1
        given = [np.asarray(one, np.int64) for one in np.broadcast_arrays(*map(np.ravel, numbers))]
        drafted = Drafted._make([*given[:fixed], tuple(given[fixed:])])
        operations = self._operations(drafter)
        for run in (_first(drafter, drafted), _further(drafter, drafted)):
            if np.any(run.times):
                yield from self._of_run(drafter, operations, run)

    def _operations(self, drafter: Drafter) -> dict[str, Any]:
        known = self.__dict__.setdefault("_known", {})
        if id(drafter) not in known:
            choices = {"gpus_per_node": self.gpus_per_node, "nodes": self.nodes}
            own = operations_of(self.hardware, drafter.model, measured=self.measured, **choices)
            known[id(drafter)] = drafter, own  # which keeps the object alive
        found: dict[str, Any] = known[id(drafter)][1]
        return found

    def _of_run(self, drafter: Drafter, operations: dict[str, Any], run: Run) -> Iterator[Call]:
        model, each, times = drafter.model, np.arange(len(run.every)), run.times
        setting = next(iter(run.shapes.values())).setting
        if drafter.joining.elements:
            at = next(iter(run.shapes.values()))
            yield Call("joining", operations["joining"], (drafter.joining, at.tokens), times, each)
        layers, numbers = model.kinds
        for number, layer in enumerate(layers):
            often, at = times * numbers.count(number), run.shapes[layer.attention.window]
            for kind, charge in charges_in(setting, layer):
                yield Call(kind, operations[kind], charge.of(layer, at), often, each)
            if layer.moe is not None:
                yield _experts(drafter, operations["experts"], layer, run)._replace(times=often)
                for one in _exchanges(drafter, operations["all_to_all"], layer, run.every):
                    yield one._replace(times=often * one.times)
        for kind, charge in charges_in(setting, layers[-1], head=True):
            yield Call(kind, operations[kind], charge.of(layers[-1], at), times, each)


def _setting(drafter: Drafter) -> Setting:
    """Of the passes of what drafts."""
    return Setting(drafter.spread.group, uneven=True, masks=False, decides_on_device=False)


def _first(drafter: Drafter, at: Drafted) -> Run:
    """Over all tokens of a pass; the head for one of each request."""
    each = len(at.sums) // len(drafter.windows)
    sums = [at.sums[i * each : (i + 1) * each] for i in range(len(drafter.windows))]
    shapes = {
        window: _shapes(drafter, at, (at.tokens, at.group_tokens), of)
        for window, of in zip(drafter.windows, sums, strict=True)
    }
    return Run(shapes, at.every_token, np.sign(at.every_token))


def _further(drafter: Drafter, at: Drafted) -> Run:
    """Over one token of each request, which reads its cache, by half of these drafts longer."""
    each, grown = len(at.sums) // len(drafter.windows), at.group_requests * drafter.times // 2
    shapes = {}
    for place, window in enumerate(drafter.windows):
        cached = at.sums[place * each + 1] + grown
        if window is not None:
            cached = np.minimum(cached, at.group_requests * window)
        cached = np.where(at.group_requests > 0, cached, 0)
        tokens = at.requests, at.group_requests
        shapes[window] = _shapes(drafter, at, tokens, (cached, cached))
    return Run(shapes, at.every_request, (drafter.times - 1) * np.sign(at.every_request))


def _shapes(
    drafter: Drafter, at: Drafted, tokens: tuple[Ints, Ints], sums: tuple[Ints, ...]
) -> Shapes:
    """Of a GPU's ``tokens`` and its group's, whose attention has these ``sums``."""
    model, moe = drafter.model, drafter.model.moe_layers[-1:]
    top_k, experts = (moe[0].moe.top_k, moe[0].moe.experts) if moe and moe[0].moe else (0, 0)
    context, cached, *served = sums
    return Shapes(
        setting=_setting(drafter),
        row_bytes=model.hidden_size * model.activation_bytes,
        experts=experts,
        tokens=tokens[0],
        most_tokens=tokens[0],
        output_tokens=at.group_requests,
        group_tokens=tokens[1],
        context_tokens=context,
        kv_tokens=cached,
        served=tuple(served),
        read=at.group_requests,
        rows=tokens[0] * top_k,
        capacity=np.zeros_like(tokens[0]),
    )


def _experts(drafter: Drafter, operation: Operation, layer: LayerSpec, run: Run) -> Call:
    """One launch of each pass on the GPU that has most of the experts."""
    moe = _moe(layer)
    total, which = np.unique(run.every, return_inverse=True)
    rows = -(-total * moe.top_k // drafter.spread.holders)
    active = np.minimum(rows, drafter.local(moe))
    starts = np.cumsum(active) - active
    place = np.arange(active.sum()) - np.repeat(starts, active)
    of_each, rest = np.divmod(rows, np.maximum(active, 1))
    launched = np.repeat(of_each, active) + (place < np.repeat(rest, active))
    return Call("experts", operation, (layer, launched, starts), run.times, which.ravel())


def _exchanges(
    drafter: Drafter, operation: Operation, layer: LayerSpec, every: Ints
) -> Iterator[Call]:
    """Of hidden vectors, there and back, and before of the counts of rows."""
    spread, moe, model = drafter.spread, _moe(layer), drafter.model
    if spread.gpus == 1 or (spread.gathers and not spread.gathers_tokens):
        return
    total, which = np.unique(every, return_inverse=True)
    rows = -(-total // spread.gpus)
    if not spread.gathers_tokens:
        rows = _sent(rows, moe, spread)
    others = 1 - np.eye(spread.gpus, dtype=np.int64)
    sizes = [rows * one for one in spread.row_bytes(model)]
    if spread.senders > 1:
        sizes.append(np.full_like(rows, COUNT_BYTES * drafter.local(moe)))
    for size in sizes:
        sent = size[:, None, None] * others
        yield Call("all_to_all", operation, (sent,), np.array(1), which.ravel())


def _sent(tokens: Ints, moe: MoeSpec, spread: Spread) -> Ints:
    """Rows of ``tokens`` of a GPU that go to each other one, of even choices."""
    if not spread.once:
        return -(-tokens * moe.top_k // spread.holders)
    rows: Ints = np.ceil(tokens * (1 - (1 - 1 / spread.holders) ** moe.top_k)).astype(np.int64)
    return rows


def _moe(layer: LayerSpec) -> MoeSpec:
    assert layer.moe is not None, "a dense layer has no experts"
    return layer.moe
