"""What one MoE layer on one GPU has to do, from its activations: launches, copies, experts of the
host.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.chunk import NONE, Work
from moesim.engine.layout import BLOCK_ROWS, NOT_LATE, Active, How, Layout, OnePass, lay_out
from moesim.engine.pricing.prices import PriceCache, PricedOperation
from moesim.engine.pricing.provenance import Provenance
from moesim.engine.pricing.ragged_launches import LaunchPrices, RaggedLaunches
from moesim.engine.routing import Key, Routing, tokens_of
from moesim.memory.activations import Activations
from moesim.memory.slots.split import COPY, OFFERED, ROWS
from moesim.model.spec import FfnSpec, LayerSpec
from moesim.runtime.compiled import njit

NOTHING_OFFERED = np.zeros(0, np.bool_), np.zeros((2, 0), np.int64)
"""By the rows of an expert, which prices are known, and its kernel's and the host's, int64[2, rows
+ 1]: a table by rows is faster to read than a cache by shape.
"""


class Decided(NamedTuple):
    """The activations of a MoE layer on a GPU, with its active experts; in ``streamed`` passes
    bool[passes] the layer is copied whole.
    """

    active: Active
    activations: Activations
    streamed: NDArray[np.bool_]


class _Copies(NamedTuple):
    """By form the shape of a copy (None without one), its price, and how many were made."""

    shapes: list[tuple[int, Literal["h2d"], bool, int] | None]
    price: Ints
    number: list[int]


class LayerWork:
    """Prices the activations of a case's layers."""

    def __init__(self, case: Case, routing: Routing, provenance: Provenance) -> None:
        self.case, self.routing, self.provenance = case, routing, provenance
        self.how, self.reads = How.of(case), case.miss.uses_link
        specs, self.variants = case.moe_kinds
        self.every_kind = [tuple(of_layer) for of_layer in self.variants.tolist()]
        self.kinds = self.variants[:, 0].tolist()
        self.launches = [RaggedLaunches(case, spec) for spec in specs]
        self.by_form: dict[tuple[int, ...], _Copies] = {}
        self._passes: dict[int, OnePass] = {}
        self._offered: dict[int, tuple[NDArray[np.bool_], Ints]] = {}
        self._hosted = [PricedOperation(case.beside, "", (spec, NONE)) for spec in specs]
        self._moves, self._reads = PriceCache(1, ways=2), PriceCache(1)

    def offers(self, key: Key, active: Active) -> Ints:
        """What misses compare of each active expert, int64[OFFERED, active experts]."""
        offers = np.empty((OFFERED, len(active.rows)), np.int64)
        offers[COPY], offers[ROWS] = self.copy_ns_of(key[0])[0], active.rows
        kind, most = self.kinds[key[0]], int(active.rows.max(initial=-1))
        if len(active.share):
            offers[COPY + 1 : ROWS] = self._prices_of(kind, active.rows, active.share)
            return offers
        known, prices = self._offered.get(kind, NOTHING_OFFERED)
        if most >= len(known):
            more = 2 * most + 1 - len(known)
            known = np.concatenate((known, np.zeros(more, np.bool_)))
            prices = np.concatenate((prices, np.zeros((2, more), np.int64)), axis=1)
            self._offered[kind] = known, prices
        if not known[active.rows].all():
            new = np.flatnonzero(np.bincount(active.rows, minlength=len(known)) * ~known)
            prices[:, new], known[new] = self._prices_of(kind, new), True
        np.take(prices, active.rows, axis=1, out=offers[COPY + 1 : ROWS])
        return offers

    def _prices_of(self, kind: int, rows: Ints, share: Ints = NONE) -> Ints:
        """Of an expert with so many ``rows`` its kernel, and the host with the copies of its rows,
        int64[2, n]; ``share`` of its pass, where it tells tokens.
        """
        padded = -(-rows // BLOCK_ROWS) * BLOCK_ROWS if self.how.pads else rows
        shape = self.launches[kind].spec, padded, np.arange(len(rows))
        told = [tokens_of(share, padded)] if len(share) else []
        kernel = self.case.prices.experts_ns(*shape, *told)
        return np.stack((kernel, self._beside(kind, rows, 0) + self._moved(rows).sum(axis=0)))

    def moved(self, rows: int) -> Ints:
        """0 to ``rows`` rows of the host down, with its start, and up, int64[2, rows + 1]."""
        return self._moved(np.arange(rows + 1))

    def of(self, decided: Mapping[Key, Decided], counts: Ints) -> dict[Key, Work]:
        """The works of what is decided in the same passes, and what they add to ``counts``; those
        of equal layers are priced together.
        """
        laid, alike = self._laid(decided, counts), defaultdict[tuple[Any, int], list[Key]](list)
        for key, layout in laid.items():
            alike[self.every_kind[key[0]], id(layout)].append(key)
        kinds: dict[tuple[Any, int], list[list[Key]]] = defaultdict(list)
        for (kind, _), keys in alike.items():
            kinds[kind, len(keys)].append(keys)
        works: dict[Key, Work] = {}
        for (kind, times), every in kinds.items():
            forms = [decided[keys[0]].activations.form for keys in every]
            parts = [laid[keys[0]] for keys in every]
            actives = [decided[keys[0]].active for keys in every]
            prices = _split(self._priced(kind, parts, actives, forms, times), parts)
            for keys, of_keys in zip(every, prices, strict=True):
                work = self._work(keys[0], decided[keys[0]], laid[keys[0]], of_keys)
                works |= dict.fromkeys(keys, work)
        return works

    def of_pass(
        self, key: Key, active: Active, made: Activations, late: NDArray[np.bool_], counts: Ints
    ) -> tuple[Layout, LaunchPrices]:
        """As ``of``, of a single layer in a single pass, in which some activations are ``late``
        bool[activations], and what it takes, in lists; the layout is there until the next.
        """
        (layer, gpu), kinds = key, self.every_kind[key[0]]
        local = len(self.routing.local[gpu])
        if local not in self._passes:
            self._passes[local] = OnePass(self.how, local)
        laid = self._passes[local].lay_out(active, made, late, counts, key)
        if len(kinds) == 1:
            self._copies_of(layer).number[0] += len(laid.copied)
            if not self.reads and not len(laid.hosted):
                given = self.provenance, laid.gpu_rows, laid.starts, _share_of(active, laid)
                return laid, self.launches[kinds[0]].of_pass(*given)
        elif self.case.variants is not None:
            self._copies_ns(layer, made.form[laid.loaded])
        prices = self._priced(kinds, [laid], [active], [made.form], 1)
        return laid, LaunchPrices(*(ns.tolist() for ns in prices))

    def _work(self, key: Key, one: Decided, laid: Layout, prices: LaunchPrices) -> Work:
        """What is ``laid`` out, at these prices."""
        copied = copy_ns = NONE
        if self.case.variants is not None:
            copied = one.activations.form[laid.loaded]
            copy_ns = self._copies_ns(key[0], copied)
        return Work(
            one.active.needed, one.activations, laid, *prices, one.streamed, copied=copied,
            copy_ns=copy_ns,
        )  # fmt: skip

    def _copies_ns(self, layer: int, copied: Ints) -> Ints:
        """The price of each copy of ``layer``, by its form; they are counted."""
        self.count_copies(layer, np.bincount(copied).tolist())
        price: Ints = self._copies_of(layer).price[copied]
        return price

    def _copies_of(self, layer: int) -> _Copies:
        """The copies of ``layer``, by form; of one without variants."""
        kinds, variants = self.every_kind[layer], self.case.variants
        if kinds not in self.by_form:
            experts: list[FfnSpec | None] = [_expert(self.launches[kinds[0]].spec)]
            if variants is not None:
                experts = [of_layers[layer] if of_layers else None for of_layers in variants.copied]
            shapes = [None if one is None else self.case.copy_shape(one) for one in experts]
            prices = [0 if one is None else self.case.expert_copy_ns(one) for one in experts]
            self.by_form[kinds] = _Copies(shapes, np.array(prices), [0] * len(shapes))
        return self.by_form[kinds]

    def copy_ns_of(self, layer: int) -> Ints:
        """What a copy of an expert of MoE ``layer`` takes, by form; one without variants."""
        return self._copies_of(layer).price

    def count_copies(self, layer: int, numbers: Sequence[int]) -> None:
        """Count ``numbers`` of copies of experts of MoE layer ``layer``, by form; of one without
        variants.
        """
        known = self._copies_of(layer).number
        for form, number in enumerate(numbers):
            known[form] += number

    def _laid(self, decided: Mapping[Key, Decided], counts: Ints) -> dict[Key, Layout]:
        """The layouts of what is decided, and what they add to ``counts``: one layout of works that
        have the same activations and rows, as where no choice of tokens tells layers apart.
        """
        alike: dict[tuple[Any, ...], list[Key]] = defaultdict(list)
        for key, one in decided.items():
            same = id(one.activations), id(one.active.rows), one.streamed.tobytes()
            alike[same].append(key)
        laid: dict[Key, Layout] = {}
        for keys in alike.values():
            at = [(layer if counts.shape[1] > 1 else 0, gpu) for layer, gpu in keys]
            if len(keys) == 1:
                layout = self._lay_out(keys[0], decided[keys[0]], counts, at[0])
            else:
                own = np.zeros_like(counts[:, :1, :1])
                layout = self._lay_out(keys[0], decided[keys[0]], own, (0, 0))
                for place, times in Counter(at).items():
                    counts[:, *place] += times * own[:, 0, 0]
            if self.case.variants is None:
                for layer, _ in keys:
                    self.count_copies(layer, [len(layout.copied)])
            laid |= dict.fromkeys(keys, layout)
        return laid

    def _lay_out(self, key: Key, one: Decided, counts: Ints, at: tuple[int, int]) -> Layout:
        """The layout of one, which is counted ``at`` a layer and GPU."""
        given = (self.how, one.active, one.activations, NOT_LATE, one.streamed)
        return lay_out(*given, len(self.routing.local[key[1]]), counts, at)

    def _priced(
        self, kinds: tuple[int, ...], parts: list[Layout], actives: list[Active],
        forms: list[Ints], times: int,
    ) -> LaunchPrices:  # fmt: skip
        """The prices of ``parts``, layers that are alike, one behind another, so many ``times``
        over, whose variants are of ``kinds``; their active experts, and ``forms`` of activations.
        """
        spec, varied = self.launches[kinds[0]].spec, len(kinds) > 1
        gpu_rows, starts = _joined([one.gpu_rows for one in parts]), _starts_of(parts)
        share = _joined(list(map(_share_of, actives, parts)))
        if not varied:
            launches = self.launches[kinds[0]]
            kernel_ns = launches.prices(self.provenance, gpu_rows, starts, times, share)
        else:
            own = self._variants_of(forms, [one.on_gpu[one.starts] for one in parts])
            kernel_ns = self._of_variants(kinds, gpu_rows, starts, own, share)
        read_ns = self._reading(spec, parts, kernel_ns, times)
        hosted_rows = _joined([one.hosted_rows for one in parts])
        moved = np.zeros((2, len(hosted_rows)), np.int64)
        if not any(len(one.hosted) for one in parts):
            return LaunchPrices(kernel_ns, read_ns, NONE, moved)
        if not spec.on_host:
            works = np.flatnonzero(_joined([np.diff(one.step_hosted) for one in parts]))
            moved[:, works] = self._moved(hosted_rows[works])
        rows = _joined([one.rows[one.hosted] for one in parts])
        if not varied:
            hosted_ns = self._beside(kinds[0], rows, times)
        else:
            hosted_ns, of = np.empty_like(rows), self._variants_of(forms, [p.hosted for p in parts])
            for variant, kind in enumerate(kinds):
                hosted_ns[of == variant] = self._beside(kind, rows[of == variant], times)
        return LaunchPrices(kernel_ns, read_ns, hosted_ns, moved)

    def _variants_of(self, forms: list[Ints], activations: list[Ints]) -> Ints:
        """The variants of ``activations`` of several layers, by the ``forms`` of all of theirs."""
        assert self.case.variants is not None, "they have kinds of their own"
        every = zip(forms, activations, strict=True)
        of_forms: Ints = self.case.variants.variant_of[_joined([form[at] for form, at in every])]
        return of_forms

    def _of_variants(
        self, kinds: tuple[int, ...], rows: Ints, starts: Ints, variants: Ints, share: Ints
    ) -> Ints:
        """The prices of launches, each of experts in one of ``variants``."""
        kernel_ns = np.empty_like(starts)
        for variant, kind in enumerate(kinds):
            here, own = variants == variant, _launches_of(rows, starts, variants, variant)
            of_own = share[here] if len(share) else share
            kernel_ns[here] = self.launches[kind].prices(self.provenance, *own, share=of_own)
        return kernel_ns

    def settle(self) -> None:
        """Count what the prices of launches and copies rest on."""
        for launches in self.launches:
            launches.settle(self.provenance)
        for hosted in self._hosted:
            hosted.settle(self.provenance)
        _, read, total = self._reads.settled()
        for size, ns in zip(read[:, 0].tolist(), total.tolist(), strict=True):
            self.provenance.add("copy", np.array([ns]), size, "h2d", True, 1)
        for _, known in sorted(self.by_form.items()):
            every = zip(known.shapes, known.price, known.number, strict=True)
            for of_copy, price, number in every:
                if of_copy is not None and number:
                    self.provenance.add("copy", np.array([price]), *of_copy, times=number)
            known.number[:] = [0] * len(known.number)

    def mark(self) -> tuple[list[Ints], list[Ints], dict[tuple[int, ...], list[int]]]:
        """What ``back`` goes back to."""
        launches = [one.mark(self.provenance) for one in self.launches]
        number = {kinds: known.number.copy() for kinds, known in self.by_form.items()}
        return launches, [one.uses() for one in self._caches], number

    def back(self, mark: tuple[list[Ints], list[Ints], dict[tuple[int, ...], list[int]]]) -> None:
        """What was priced since then was not used."""
        launches, caches, number = mark
        for one, uses in zip(self.launches, launches, strict=True):
            one.back(uses)
        for cache, uses in zip(self._caches, caches, strict=True):
            cache.used_as(uses)
        for kinds, known in self.by_form.items():
            known.number[:] = number.get(kinds, [0] * len(known.number))

    @property
    def _caches(self) -> list[PriceCache]:
        """Of prices but those of launches."""
        return [*(hosted.cache for hosted in self._hosted), self._moves, self._reads]

    def _reading(self, spec: LayerSpec, parts: list[Layout], kernel_ns: Ints, times: int) -> Ints:
        """What reading weights over the link takes beyond the kernel of each launch of ``parts``,
        used so many ``times``.
        """
        if not self.reads:
            return np.broadcast_to(np.int64(0), len(kernel_ns))
        return self._beyond(spec, _joined([one.read for one in parts]), kernel_ns, times)

    def _beyond(self, spec: LayerSpec, read: Ints, kernel_ns: Ints, times: int) -> Ints:
        """As ``_reading``, of launches that ``read`` so many experts."""
        here, beyond = read > 0, np.zeros_like(kernel_ns)

        def ask(new: Ints, _first: Ints) -> Ints:
            sizes = new[:, 0].tolist()
            return np.array([self.case.prices.copy_ns(size, "h2d", True, 1) for size in sizes])

        price = self._reads.prices(read[here, None] * _expert(spec).bytes, ask, times)
        beyond[here] = np.maximum(price - kernel_ns[here], 0)
        return beyond

    def beyond(self, layer: int, read: Ints, kernel_ns: Ints, times: int = 0) -> Ints:
        """What launches of MoE ``layer`` take beyond their kernels that ``read`` so many experts
        over the link, used so many ``times``.
        """
        return self._beyond(self.launches[self.kinds[layer]].spec, read, kernel_ns, times)

    def beside(self, layer: int, times: int = 0) -> int:
        """What an expert of MoE ``layer`` with one row takes beside the GPU, used so many
        ``times``.
        """
        return int(self._beside(self.kinds[layer], np.ones(1, np.int64), times)[0])

    def _beside(self, kind: int, rows: Ints, times: int) -> Ints:
        """The price of each expert of the host in layers of a ``kind``, used ``times`` each."""
        if not len(rows):
            return NONE
        shape = (self.launches[kind].spec, rows)
        return self._hosted[kind].prices(self.case.prices, shape, len(rows), times)

    def _moved(self, rows: Ints) -> Ints:
        """The ``rows`` int64[n] of the host's experts down, and its start, and up, int64[2, n]."""
        pinned, copy_ns = self.case.software.pins_states, self.case.prices.copy_ns
        row_bytes = self.case.model.hidden_size * self.case.model.activation_bytes

        def ask(new: Ints, _first: Ints) -> Ints:
            sizes = (new[:, 0] * row_bytes).tolist()
            down = [copy_ns(size, "d2h", pinned, 1) + self.case.host_start_ns for size in sizes]
            return np.array([down, [copy_ns(size, "h2d", pinned, 1) for size in sizes]])

        return self._moves.prices(rows[:, None], ask)


@njit("Tuple((int64[::1], int64[::1]))(int64[::1], int64[::1], int64[::1], int64)", cache=True)
def _launches_of(rows: Any, starts: Any, variants: Any, variant: int) -> tuple[Any, Any]:
    """The rows of launches in ``variant``, of ``variants`` int64[launches], and their starts."""
    own, begins, at, number = np.empty_like(rows), np.empty_like(starts), 0, 0
    for launch in range(len(starts)):
        if variants[launch] == variant:
            begins[number] = at
            number += 1
            end = starts[launch + 1] if launch + 1 < len(starts) else len(rows)
            for i in range(starts[launch], end):
                own[at] = rows[i]
                at += 1
    return own[:at], begins[:number]


def _expert(spec: LayerSpec) -> FfnSpec:
    assert spec.moe is not None, "a dense layer has no routed experts"
    return spec.moe.expert


def _share_of(active: Active, laid: Layout) -> Ints:
    """The share of the pass of each launch, where it tells tokens."""
    share: Ints = active.share[laid.on_gpu[laid.starts]] if len(active.share) else NONE
    return share


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _starts_of(parts: list[Layout]) -> Ints:
    """Where the launches of ``parts`` begin, one behind another."""
    before = accumulate((len(one.on_gpu) for one in parts[:-1]), initial=0)
    return _joined([one.starts + at for one, at in zip(parts, before, strict=True)])


def _split(prices: LaunchPrices, parts: list[Layout]) -> list[LaunchPrices]:
    """Those of each of ``parts``."""
    launches = [len(one.starts) for one in parts]
    lengths = (
        launches,
        launches,
        [len(one.hosted) for one in parts],
        [len(one.hosted_rows) for one in parts],
    )
    of_parts = [
        [values[..., low:high] for low, high in pairwise(accumulate(of, initial=0))]
        for values, of in zip(prices, lengths, strict=True)
    ]
    return [LaunchPrices(*one) for one in zip(*of_parts, strict=True)]
