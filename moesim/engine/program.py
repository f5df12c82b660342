"""What the clock has to play: prices, waves and copies of every pass, decided without a clock."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from math import ceil

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.memory.residency import LayerCache, Needs, Turns, all_resident, next_uses
from moesim.model.spec import LayerSpec
from moesim.placement.base import bytes_between_gpus
from moesim.trace.routing import NO_EXPERT, Phase
from moesim.workload.schedule import AttentionSums

CELLS = 1 << 22
"""Counts held at once: passes x MoE layers x senders x experts."""
LEARNING_PART = 0.25
"""Share of the trace from which ``initial: most_used`` learns, unless the policy names its own."""


@dataclass(frozen=True, eq=False)
class Work:
    """One MoE layer on one GPU, for the passes of a chunk.

    ``turns`` as decided; ``step_waves`` int64[passes + 1] offsets into ``wave_ns``; copies by pass:
    ``step_copies`` int64[passes + 1] offsets into ``copy_wave`` (the wave that needs the copy) and
    ``copy_wait`` (the wave for which it waits, else -1). ``rows`` int64[turns]: rows of each turn;
    ``starts`` the first turn of each wave, ``missed`` the turn of each copy.
    """

    needs: Needs
    turns: Turns
    rows: Ints
    step_waves: Ints
    wave_ns: Ints
    step_copies: Ints
    copy_wave: Ints
    copy_wait: Ints
    starts: Ints
    missed: Ints


@dataclass(frozen=True, eq=False)
class Chunk:
    """Passes ``first:first + passes`` with everything the clock needs; int64[passes, gpus] prices.

    ``attention``, ``gate``, ``shared``, ``restore`` by model layer; ``work`` by (MoE layer, GPU);
    ``dispatch``, ``combine`` int64[passes] by MoE layer; ``kept`` and ``dropped`` as the gating
    routed them.
    """

    first: int
    passes: int
    attention: dict[int, Ints]
    gate: dict[int, Ints]
    shared: dict[int, Ints]
    restore: dict[int, Ints]
    head: Ints
    work: dict[tuple[int, int], Work]
    dispatch: dict[int, Ints]
    combine: dict[int, Ints]
    kept: Ints
    dropped: Ints


class Program:
    """The chunks of a case, in order; caches are carried from chunk to chunk."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.moe_layers = case.model.moe_layers
        self.local = [case.local_experts(gpu) for gpu in range(case.gpus)]
        of_layers = [layer.moe.experts for layer in self.moe_layers if layer.moe]
        self.experts = max(case.trace.metadata.experts, *of_layers)
        cells = len(self.moe_layers) * case.gpus * self.experts
        self.chunk_passes = max(1, CELLS // cells)
        self._future = self._look_ahead() if case.policy.looks_ahead and case.offloaded else {}
        self._caches = self._make_caches()

    def chunks(self) -> Iterator[Chunk]:
        """Decide and price chunk by chunk."""
        for first in range(0, self.case.schedule.passes, self.chunk_passes):
            yield self._chunk(first, min(first + self.chunk_passes, self.case.schedule.passes))

    @cached_property
    def sums(self) -> dict[int | None, AttentionSums]:
        """Attention sums by sliding window."""
        windows = {layer.attention.window for layer in self.case.model.layers} | {None}
        case = self.case
        return {w: AttentionSums.of(case.schedule, case.trace, case.gpus, w) for w in windows}

    def active(self, first: int, last: int) -> NDArray[np.bool_]:
        """bool[passes, MoE layers]: whether a pass runs a layer."""
        encode = self.case.schedule.phase[first:last] == Phase.ENCODE
        if not self.case.model.has_encoder:
            return np.ones((last - first, len(self.moe_layers)), np.bool_)
        of_encoder = np.array([layer.stack == "encoder" for layer in self.moe_layers])
        runs: NDArray[np.bool_] = np.equal(encode[:, None], of_encoder)
        return runs

    def routed_counts(self, first: int, last: int) -> Ints:
        """Choices int64[passes, MoE layers, senders, experts]."""
        case, schedule = self.case, self.case.schedule
        low, high = schedule.offsets[first], schedule.offsets[last]
        ids = case.trace.expert_ids[schedule.rows[low:high]].astype(np.int64)
        of_pass = np.repeat(np.arange(last - first), np.diff(schedule.offsets[first : last + 1]))
        shape = (last - first, ids.shape[1], case.gpus, self.experts)
        layer = np.arange(ids.shape[1])[None, :, None]
        place = (of_pass[:, None, None] * shape[1] + layer) * shape[2]
        cells = (place + schedule.gpu[low:high][:, None, None]) * shape[3] + ids
        counts = np.bincount(cells[ids != NO_EXPERT], minlength=int(np.prod(shape))).reshape(shape)
        counts[~self.active(first, last)] = 0
        return counts

    def _needs(self, rows: Ints, active: NDArray[np.bool_], gpu: int) -> Needs:
        """The needs of one layer on ``gpu`` from its rows int64[passes, experts]."""
        if self.case.gating.invokes_all:
            mask = np.repeat(active[:, None], len(self.local[gpu]), axis=1)
        else:
            mask = rows[:, self.local[gpu]] > 0
        _, experts = np.nonzero(mask)
        offsets = np.concatenate(([0], np.cumsum(mask.sum(axis=1))))
        return Needs(offsets, np.ascontiguousarray(experts))

    def _look_ahead(self) -> dict[tuple[int, int], tuple[Ints, Ints]]:
        """Next uses of the whole run, and first uses, by (MoE layer, GPU)."""
        parts: dict[tuple[int, int], list[Needs]] = {}
        passes = self.case.schedule.passes
        for first in range(0, passes, self.chunk_passes):
            last = min(first + self.chunk_passes, passes)
            counts, active = self.routed_counts(first, last).sum(axis=2), self.active(first, last)
            for layer in range(len(self.moe_layers)):
                for gpu in range(self.case.gpus):
                    needs = self._needs(counts[:, layer], active[:, layer], gpu)
                    parts.setdefault((layer, gpu), []).append(needs)
        return {
            key: next_uses(_joined(needs), len(self.local[key[1]])) for key, needs in parts.items()
        }

    def _usage(self, layer: int) -> Ints:
        """Choices of each expert in the part of the trace from which the policy learns."""
        trace = self.case.trace
        share = self.case.policy.learning_part() or LEARNING_PART
        part = ceil(Fraction(str(share)) * trace.tokens)
        ids = trace.expert_ids[:part, layer]
        return np.bincount(ids[ids != NO_EXPERT], minlength=self.experts)

    def _make_caches(self) -> dict[tuple[int, int], LayerCache]:
        case = self.case
        return {
            (layer, gpu): self._make_cache(layer, gpu)
            for layer in range(len(self.moe_layers))
            for gpu in range(case.gpus)
            if not case.holds_all(gpu)
        }

    def _make_cache(self, layer: int, gpu: int) -> LayerCache:
        case, usage = self.case, self._usage(layer)[self.local[gpu]]
        draws = None
        if case.policy.draws:
            stream = [case.seed, zlib.crc32(b"cache_policy.random"), gpu, layer]
            turns = len(usage) * case.schedule.passes
            if not case.gating.invokes_all:
                turns = min(turns, case.trace.top_k * len(case.schedule.rows))
            draws = np.random.default_rng(stream).random(turns)
        most_used = np.argsort(-usage, kind="stable")[: case.slots[gpu]]
        return LayerCache(
            case.policy,
            case.slots[gpu],
            usage,
            serial=case.kernels == "serial",
            resident_first=case.order == "resident_first",
            draws=draws,
            resident=most_used if case.initial == "most_used" else None,
            first_use=self._future[layer, gpu][1] if (layer, gpu) in self._future else None,
        )

    def _chunk(self, first: int, last: int) -> Chunk:
        case = self.case
        tokens = self.sums[None].tokens[first:last]
        routed = case.gating.route(self.routed_counts(first, last), tokens)
        active = self.active(first, last)
        rows = np.where(active[:, :, None], routed.rows, 0)
        sent = np.where(active[:, :, None, None], routed.sent, 0)
        chunk = Chunk(
            first, last - first, {}, {}, {}, {}, self._head(first, last), {}, {}, {},
            routed.kept,
            routed.dropped,
        )  # fmt: skip
        self._price_layers(chunk, routed.kept.sum(axis=3), routed.capacity)
        for layer, spec in enumerate(self.moe_layers):
            if case.gpus > 1:
                row_bytes = case.model.hidden_size * case.model.activation_bytes
                matrix = bytes_between_gpus(sent[:, layer], case.gpu_of_expert, row_bytes)
                chunk.dispatch[layer] = case.prices.all_to_all_ns(matrix)
                chunk.combine[layer] = case.prices.all_to_all_ns(matrix.transpose(0, 2, 1))
            for gpu in range(case.gpus):
                work = self._work(spec, rows[:, layer], active[:, layer], (layer, gpu))
                chunk.work[layer, gpu] = work
        return chunk

    def _head(self, first: int, last: int) -> Ints:
        tokens = self.sums[None].tokens[first:last]
        encode = self.case.schedule.phase[first:last] == Phase.ENCODE
        return np.where(
            encode[:, None], 0, self.case.prices.head_ns(tokens.ravel()).reshape(tokens.shape)
        )

    def _price_layers(self, chunk: Chunk, choices: Ints, capacity: Ints) -> None:
        """Fill in the prices of every model layer; equal layers are priced once."""
        known: dict[LayerSpec, tuple[Ints, Ints | None]] = {}
        span = slice(chunk.first, chunk.first + chunk.passes)
        tokens = self.sums[None].tokens[span]
        moe_layer = 0
        for layer in self.case.model.layers:
            alike = replace(layer, index=0)
            if alike not in known:
                known[alike] = self._layer_prices(alike, span)
            chunk.attention[layer.index], shared = known[alike]
            if layer.moe is not None and shared is not None:
                chunk.shared[layer.index] = shared
                gate, restore = self._gate_prices(layer, tokens, choices[:, moe_layer], capacity)
                chunk.gate[layer.index], chunk.restore[layer.index] = gate, restore
                moe_layer += 1

    def _layer_prices(self, layer: LayerSpec, span: slice) -> tuple[Ints, Ints | None]:
        sums, prices = self.sums[layer.attention.window], self.case.prices
        tokens = sums.tokens[span]
        flat = tokens.ravel()
        attention = prices.attention_ns(
            layer, flat, sums.context_tokens[span].ravel(), sums.kv_tokens[span].ravel()
        )
        if layer.moe is None:
            return (attention + prices.dense_ns(layer, flat)).reshape(tokens.shape), None
        shared = prices.shared_ns(layer, flat).reshape(tokens.shape)
        return attention.reshape(tokens.shape), shared

    def _gate_prices(
        self, layer: LayerSpec, tokens: Ints, choices: Ints, capacity: Ints
    ) -> tuple[Ints, Ints]:
        """Prices of the gate with what it prepares, and of restoring the order; int64[passes,
        gpus].
        """
        case, prices = self.case, self.case.prices
        decide = prices.decide_ns() if case.decide == "device" and case.needs_decision else 0
        if not case.gating.masks:
            permute = prices.permute_ns(layer, choices.ravel()).reshape(choices.shape)
            gate = prices.gate_ns(layer, tokens.ravel()).reshape(tokens.shape)
            return gate + permute + decide, permute
        most = tokens.max(axis=1)
        gate = prices.gate_ns(layer, most) + prices.masks_ns(layer, most, self.experts, capacity)
        restore = prices.combine_product_ns(layer, most, self.experts, capacity)
        shape = (1, tokens.shape[1])
        return np.tile(gate[:, None] + decide, shape), np.tile(restore[:, None], shape)

    def _work(
        self, spec: LayerSpec, rows: Ints, active: NDArray[np.bool_], key: tuple[int, int]
    ) -> Work:
        needs = self._needs(rows, active, key[1])
        if key in self._caches:
            turns = self._caches[key].decide(needs, self._next_use(key, needs))
        else:
            turns = all_resident(needs, serial=self.case.kernels == "serial")
        step = np.repeat(np.arange(len(rows)), np.diff(needs.offsets))
        turn_rows = rows[step, self.local[key[1]][turns.expert]]
        starts = np.flatnonzero(np.diff(step, prepend=-1) | np.diff(turns.wave, prepend=-1))
        wave_ns = self.case.prices.experts_ns(spec, turn_rows, starts) if len(starts) else starts
        missed = np.flatnonzero(~turns.hit)
        return Work(
            needs,
            turns,
            turn_rows,
            _offsets(step[starts], len(rows)),
            wave_ns,
            _offsets(step[missed], len(rows)),
            turns.wave[missed],
            turns.wait[missed],
            starts,
            missed,
        )

    def _next_use(self, key: tuple[int, int], needs: Needs) -> Ints | None:
        """The slice of the run's next uses that belongs to ``needs``; chunks come in order."""
        if key not in self._future:
            return None
        after, first_use = self._future[key]
        self._future[key] = after[len(needs.experts) :], first_use
        return np.ascontiguousarray(after[: len(needs.experts)])


def _offsets(step: Ints, steps: int) -> Ints:
    return np.concatenate(([0], np.cumsum(np.bincount(step, minlength=steps))))


def _joined(parts: list[Needs]) -> Needs:
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    experts = np.concatenate([part.experts for part in parts])
    return Needs(np.concatenate(([0], np.cumsum(lengths))), experts)
