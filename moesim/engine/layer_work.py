"""What one MoE layer on one GPU has to do, from its activations: waves, copies, experts of the
host.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.chunk import Work
from moesim.engine.layout import BLOCK_ROWS, NOT_LATE, Active, How, Served, lay_out
from moesim.engine.provenance import Provenance
from moesim.engine.ragged_waves import RaggedWaves
from moesim.engine.routing import Routing
from moesim.memory.activations import Activations
from moesim.model.spec import FfnSpec, LayerSpec

Key = tuple[int, int]
"""A MoE layer and a GPU."""


class LayerWork:
    """Prices the activations of a case's layers."""

    def __init__(self, case: Case, routing: Routing, provenance: Provenance) -> None:
        self.case, self.routing, self.provenance = case, routing, provenance
        self._ragged: dict[LayerSpec, RaggedWaves] = {}
        self.how = How.of(case)

    def offers(self, key: Key, active: Active) -> Ints:
        """Copy, kernel and host price (with its rows' copies) of each active expert alone, int64[3,
        active experts].
        """
        spec, own = self.routing.moe_layers[key[0]], active.rows
        each = np.arange(len(own))
        padded = -(-own // BLOCK_ROWS) * BLOCK_ROWS if self.how.pads else own
        kernel = self.case.prices.experts_ns(spec, padded, each)
        copy = np.full(len(own), self.copy_ns(_expert(spec)), np.int64)
        moved = self._moved(own, np.ones(len(own), np.bool_)).sum(axis=0)
        return np.array([copy, kernel, self.case.prices.cpu_expert_ns(spec, own) + moved])

    def of(
        self,
        key: Key,
        active: Active,
        activations: Activations,
        streamed: NDArray[np.bool_],
        late: NDArray[np.bool_] | None = None,
    ) -> Work:
        """The work of ``activations``; in ``streamed`` passes bool[passes] the layer is copied
        whole. ``late`` bool[activations] wait for their prefetch.
        """
        spec, one = self.routing.moe_layers[key[0]], activations
        served = Served(
            one.expert, one.hit, one.wave, one.wait, one.form, NOT_LATE if late is None else late
        )
        laid = lay_out(self.how, active, served, streamed, len(self.routing.local[key[1]]))
        wave_ns = self.waves(spec, laid.gpu_rows, laid.starts)
        self.count_copies(spec, len(laid.copied))
        return Work(
            active_experts=active.needed,
            activations=activations,
            rows=laid.rows,
            on_gpu=laid.on_gpu,
            hosted=laid.hosted,
            loaded=laid.loaded,
            step_waves=laid.step_waves,
            wave_ns=wave_ns,
            read=laid.read,
            read_ns=self._reading(spec, laid.read, wave_ns),
            step_copies=laid.step_copies,
            copy_wave=laid.copy_wave,
            copy_wait=laid.copy_wait,
            starts=laid.starts,
            copied=laid.copied,
            streamed=streamed,
            step_hosted=laid.step_hosted,
            hosted_ns=self._computed(spec, laid.rows[laid.hosted]),
            moved_ns=self._moved(laid.hosted_rows, np.diff(laid.step_hosted) > 0),
            counts=laid.counts,
        )

    def loaded(self, activations: Activations) -> NDArray[np.bool_]:
        """bool[activations]: whose expert misses and takes a slot, after a copy."""
        loaded: NDArray[np.bool_] = (
            ~activations.hit & self.case.miss.flags.in_slot[activations.form]
        )
        return loaded

    def waves(self, spec: LayerSpec, rows: Ints, starts: Ints) -> Ints:
        """The price of each wave, which are counted, at the latest when they settle."""
        if not len(starts):
            return starts
        alike = replace(spec, index=0)
        if alike not in self._ragged:
            self._ragged[alike] = RaggedWaves(self.case, alike)
        return self._ragged[alike].prices(self.provenance, rows, starts)

    def settle(self) -> None:
        """Count what the prices of waves rest on."""
        for waves in self._ragged.values():
            waves.settle(self.provenance)

    def _reading(self, spec: LayerSpec, read: Ints, wave_ns: Ints) -> Ints:
        """What reading the weights of ``read`` experts over the link takes beyond the kernel of
        each wave.
        """
        size, beyond = _expert(spec).bytes, np.zeros(len(read), np.int64)
        for number in np.unique(read[read > 0]).tolist():
            here, shape = read == number, (number * size, "h2d", True, 1)
            price = self.case.prices.copy_ns(number * size, "h2d", True, 1)
            beyond[here] = np.maximum(price - wave_ns[here], 0)
            self.provenance.add("copy", np.array([price]), *shape, times=int(here.sum()))
        return beyond

    def _computed(self, spec: LayerSpec, rows: Ints) -> Ints:
        """The price of each expert of the host."""
        if not len(rows):
            return rows
        price = self.case.prices.cpu_expert_ns(spec, rows)
        return self.provenance.add("cpu_expert", price, spec, rows)

    def _moved(self, rows: Ints, works: NDArray[np.bool_]) -> Ints:
        """The ``rows`` int64[n] of the host's experts down and up, int64[2, n]; none where it
        ``works`` bool[n] on none.
        """
        time = np.zeros((2, len(rows)), np.int64)
        row_bytes = self.case.model.hidden_size * self.case.model.activation_bytes
        pinned, copy_ns = self.case.software.pinned, self.case.prices.copy_ns
        for number in np.unique(rows[works]).tolist():
            here, size = works & (rows == number), number * row_bytes
            time[0, here] = copy_ns(size, "d2h", pinned, 1)
            time[1, here] = copy_ns(size, "h2d", pinned, 1)
        return time

    def copy_ns(self, expert: FfnSpec) -> int:
        """The price of copying an expert alone."""
        software = self.case.software
        copies = software.copies_per_expert(expert)
        return self.case.prices.copy_ns(expert.bytes, "h2d", software.pinned, copies)

    def count_copies(self, spec: LayerSpec, number: int) -> None:
        """Count the price of ``number`` copies of an expert."""
        expert, software = _expert(spec), self.case.software
        shape = (expert.bytes, "h2d", software.pinned, software.copies_per_expert(expert))
        self.provenance.add("copy", np.array([self.copy_ns(expert)]), *shape, times=number)


def _expert(spec: LayerSpec) -> FfnSpec:
    assert spec.moe is not None, "a dense layer has no routed experts"
    return spec.moe.expert
