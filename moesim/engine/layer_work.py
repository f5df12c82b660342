"""What one MoE layer on one GPU has to do, from its activations: waves, copies, experts of the
host.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.chunk import Work
from moesim.engine.provenance import Provenance
from moesim.engine.ragged_waves import RaggedWaves
from moesim.engine.routing import Routing
from moesim.memory.activations import Activations, ActiveExperts
from moesim.model.spec import FfnSpec, LayerSpec

Key = tuple[int, int]
"""A MoE layer and a GPU."""
BLOCK_ROWS = 128
"""Rows to a multiple of which block-sparse kernels pad each expert (MegaBlocks, arXiv
2211.15841)."""


class LayerWork:
    """Prices the activations of a case's layers."""

    def __init__(self, case: Case, routing: Routing, provenance: Provenance) -> None:
        self.case, self.routing, self.provenance = case, routing, provenance
        self._ragged: dict[LayerSpec, RaggedWaves] = {}
        self.flags = case.miss.flags

    def offers(self, key: Key, active: ActiveExperts, rows: Ints) -> Ints:
        """Copy, kernel and host price (with its rows' copies) of each active expert alone, int64[3,
        active experts]; ``rows`` int64[passes, experts].
        """
        spec, own = (
            self.routing.moe_layers[key[0]],
            self._rows(active, active.experts, rows, key[1]),
        )
        kernel = self.case.prices.experts_ns(spec, self.on_gpu(own), np.arange(len(own)))
        copy = np.full(len(own), self.copy_ns(_expert(spec)), np.int64)
        moved = self._moved(own, np.arange(len(own)), len(own)).sum(axis=0)
        return np.array([copy, kernel, self.case.prices.cpu_expert_ns(spec, own) + moved])

    def of(
        self,
        key: Key,
        active: ActiveExperts,
        activations: Activations,
        rows: Ints,
        streamed: NDArray[np.bool_],
    ) -> Work:
        """The work of ``activations``; in ``streamed`` passes bool[passes] the layer is copied
        whole.
        """
        spec = self.routing.moe_layers[key[0]]
        own, step = self._rows(active, activations.expert, rows, key[1]), _steps(active)
        in_wave = self.flags.on_gpu[activations.form]
        own = np.where(in_wave, self.on_gpu(own), own)
        own[self.flags.nowhere[activations.form]] = 0
        on_gpu = np.flatnonzero(in_wave)
        step_of, wave_of = step[on_gpu], activations.wave[on_gpu]
        starts = np.flatnonzero(np.diff(step_of, prepend=-1) | np.diff(wave_of, prepend=-1))
        wave_ns = self.waves(spec, own[on_gpu], starts)
        hosted = np.flatnonzero(self.flags.on_host[activations.form])
        read = self._read(activations, on_gpu, starts)
        copy_step, copied, copy_wave, wait = self._copies(key[1], activations, step, streamed)
        self.count_copies(spec, len(copied))
        return Work(
            active_experts=active,
            activations=activations,
            rows=own,
            on_gpu=on_gpu,
            hosted=hosted,
            loaded=self.loaded(activations),
            step_waves=_offsets(step_of[starts], len(rows)),
            wave_ns=wave_ns,
            read=read,
            read_ns=self._reading(spec, read, wave_ns),
            step_copies=_offsets(copy_step, len(rows)),
            copy_wave=copy_wave,
            copy_wait=wait,
            starts=starts,
            copied=copied,
            streamed=streamed,
            step_hosted=_offsets(step[hosted], len(rows)),
            hosted_ns=self._computed(spec, own[hosted]),
            moved_ns=self._moved(own[hosted], step[hosted], len(rows)),
        )

    def loaded(self, activations: Activations) -> NDArray[np.bool_]:
        """bool[activations]: whose expert misses and takes a slot, after a copy."""
        loaded: NDArray[np.bool_] = ~activations.hit & self.flags.in_slot[activations.form]
        return loaded

    def _read(self, activations: Activations, on_gpu: Ints, starts: Ints) -> Ints:
        """By wave, the experts whose weights its kernel reads over the link."""
        read = self.flags.over_link[activations.form[on_gpu]].astype(np.int64)
        return np.add.reduceat(read, starts) if read.any() else np.zeros(len(starts), np.int64)

    def _copies(
        self, gpu: int, activations: Activations, step: Ints, streamed: NDArray[np.bool_]
    ) -> tuple[Ints, Ints, Ints, Ints]:
        """Pass, expert, wave and wait of every copy, in order."""
        loaded = np.flatnonzero(self.loaded(activations) & ~streamed[step])
        wave, wait = activations.wave[loaded], activations.wait[loaded]
        if not self.case.software.overlap:
            wait = np.maximum(wait, wave - 1)
        passes, local = np.flatnonzero(streamed), len(self.routing.local[gpu])
        every = np.repeat(passes, local)
        of_pass = np.concatenate((step[loaded], every))
        order = np.argsort(of_pass, kind="stable")
        expert = np.concatenate(
            (activations.expert[loaded], np.tile(np.arange(local), len(passes)))
        )
        wave = np.concatenate((wave, np.zeros_like(every)))
        wait = np.concatenate((wait, np.full_like(every, -1)))
        return of_pass[order], expert[order], wave[order], wait[order]

    def _rows(self, active: ActiveExperts, experts: Ints, rows: Ints, gpu: int) -> Ints:
        """The rows of ``experts``, aligned with the active experts."""
        own: Ints = rows[_steps(active), self.routing.local[gpu][experts]]
        return own

    def on_gpu(self, rows: Ints) -> Ints:
        """Rows that a kernel of the GPU computes."""
        if self.case.kernels != "block_sparse":
            return rows
        return -(-rows // BLOCK_ROWS) * BLOCK_ROWS

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

    def _moved(self, rows: Ints, step: Ints, passes: int) -> Ints:
        """The rows of the host's experts down and up, int64[2, passes]; none where it has none."""
        time = np.zeros((2, passes), np.int64)
        total = np.bincount(step, rows, passes).astype(np.int64)
        works = np.bincount(step, minlength=passes) > 0
        row_bytes = self.case.model.hidden_size * self.case.model.activation_bytes
        pinned, copy_ns = self.case.software.pinned, self.case.prices.copy_ns
        for number in np.unique(total[works]).tolist():
            here, size = works & (total == number), number * row_bytes
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


def _steps(active: ActiveExperts) -> Ints:
    """The pass of each active expert."""
    return np.repeat(np.arange(len(active.offsets) - 1), np.diff(active.offsets))


def _offsets(step: Ints, steps: int) -> Ints:
    return np.concatenate(([0], np.cumsum(np.bincount(step, minlength=steps))))
