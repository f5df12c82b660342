"""A layer's prices on one GPU as plain lists, which an event loop reads faster than arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.chunk import Chunk


@dataclass(frozen=True, eq=False, slots=True)
class DenseLayer:
    """A layer without experts: its prices by pass."""

    index: int
    attention: list[int]


@dataclass(frozen=True, eq=False, slots=True)
class MoeLayer:
    """A MoE layer on one GPU; lists by pass, and offsets by pass into waves and copies.

    ``turn_expert``, ``wave_turn`` and ``copy_expert`` name them. ``streamed``: in which passes its
    copies, of all experts, come ahead. ``read_ns``: what reading over the
    link adds to a wave; ``hosted_ns``: prices of the host's experts, whose rows take ``down_ns``
    and ``up_ns`` a pass. ``copy_ns``: price of one expert's copy, ``amount`` its bytes;
    ``sync_ns``: the wait for the counts; ``exchange_ns``: the count exchange, 0 where there is
    none.
    """

    index: int
    moe_index: int
    attention: list[int]
    gate: list[int]
    shared: list[int]
    restore: list[int]
    dispatch: list[int]
    combine: list[int]
    step_waves: list[int]
    wave_ns: list[int]
    read_ns: list[int]
    step_hosted: list[int]
    hosted_ns: list[int]
    down_ns: list[int]
    up_ns: list[int]
    step_copies: list[int]
    copy_wave: list[int]
    copy_wait: list[int]
    copy_ns: int
    amount: int
    sync_ns: int
    exchange_ns: int
    turn_expert: list[int]
    wave_turn: list[int]
    copy_expert: list[int]
    streamed: list[bool]

    def hosted(self, index: int) -> list[int]:
        """The prices of the host's experts in a pass."""
        return self.hosted_ns[self.step_hosted[index] : self.step_hosted[index + 1]]

    def experts_of_wave(self, wave: int) -> list[int]:
        """The experts that run in ``wave`` of the chunk."""
        return self.turn_expert[self.wave_turn[wave] : self.wave_turn[wave + 1]]

    def expert_of_copy(self, copy: int) -> int:
        """The expert that ``copy`` of the chunk brings."""
        return self.copy_expert[copy]


def layers_on(
    chunk: Chunk, case: Case, gpu: int, waits: tuple[int, int]
) -> list[DenseLayer | MoeLayer]:
    """The layers of ``chunk`` on ``gpu``, in order; ``waits``: number and host ns of
    synchronisations.
    """
    layers: list[DenseLayer | MoeLayer] = []
    moe_index = 0
    for layer in case.model.layers:
        attention = chunk.attention[layer.index][:, gpu].tolist()
        if layer.moe is None:
            layers.append(DenseLayer(layer.index, attention))
            continue
        work, expert = chunk.work[moe_index, gpu], layer.moe.expert
        local = len(case.local_experts(gpu))
        copies = case.software.copies_per_expert(expert)
        count_copy = case.prices.copy_ns(4 * local, "d2h", case.software.pinned)
        moe = moe_index

        def of_gpu(prices: dict[int, Ints], index: int = layer.index) -> list[int]:
            values: list[int] = prices[index][:, gpu].tolist()
            return values

        layers.append(
            MoeLayer(
                index=layer.index,
                moe_index=moe,
                attention=attention,
                gate=of_gpu(chunk.gate),
                shared=of_gpu(chunk.shared),
                restore=of_gpu(chunk.restore),
                dispatch=chunk.dispatch[moe].tolist() if chunk.dispatch else [],
                combine=chunk.combine[moe].tolist() if chunk.combine else [],
                step_waves=work.step_waves.tolist(),
                wave_ns=work.wave_ns.tolist(),
                read_ns=work.read_ns.tolist(),
                step_hosted=work.step_hosted.tolist(),
                hosted_ns=work.hosted_ns.tolist(),
                down_ns=work.moved_ns[0].tolist(),
                up_ns=work.moved_ns[1].tolist(),
                step_copies=work.step_copies.tolist(),
                copy_wave=work.copy_wave.tolist(),
                copy_wait=work.copy_wait.tolist(),
                copy_ns=case.prices.copy_ns(expert.bytes, "h2d", case.software.pinned, copies),
                amount=expert.bytes,
                sync_ns=waits[0] * (count_copy + waits[1]),
                exchange_ns=exchange_ns(case),
                turn_expert=case.local_experts(gpu)[work.turns.expert[work.on_gpu]].tolist(),
                wave_turn=[*work.starts.tolist(), len(work.on_gpu)],
                copy_expert=case.local_experts(gpu)[work.copied].tolist(),
                streamed=work.streamed.tolist(),
            )
        )
        moe_index += 1
    return layers


def exchange_ns(case: Case) -> int:
    """Price of telling every GPU its counts: four bytes for each of the receiver's experts."""
    if case.gpus == 1 or not case.gating.uneven:
        return 0
    local = np.array([len(case.local_experts(gpu)) for gpu in range(case.gpus)])
    matrix = np.tile(4 * local, (case.gpus, 1))
    np.fill_diagonal(matrix, 0)
    return int(case.prices.all_to_all_ns(matrix[None])[0])
