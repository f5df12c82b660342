"""What MoE layers have to do whose experts are all resident: all GPUs at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Ints
from moesim.engine.chunk import Work
from moesim.engine.layer_work import Key, LayerWork
from moesim.memory.activations import Activations, ActiveExperts
from moesim.memory.forms import IN_SLOT


def resident_works(
    work: LayerWork, rows: Ints, active: NDArray[np.bool_]
) -> Iterator[tuple[Key, Work]]:
    """The work of every (MoE layer, GPU), as ``LayerWork.of`` gives it for activations that all
    hit.

    ``rows`` int64[passes, MoE layers, experts]; ``active`` bool[passes, MoE layers].
    """
    for layer in range(rows.shape[1]):
        yield from _of_layer(work, layer, rows[:, layer], active[:, layer])


def _of_layer(
    work: LayerWork, layer: int, rows: Ints, active: NDArray[np.bool_]
) -> Iterator[tuple[Key, Work]]:
    case, passes = work.case, len(rows)
    needed = np.repeat(active[:, None], rows.shape[1], 1) if case.gating.invokes_all else rows > 0
    home = case.placement.gpu_of_expert
    step, expert = np.nonzero(needed)
    order = np.argsort(home[expert], kind="stable")
    step, expert = step[order], expert[order]
    own = work.on_gpu(rows[step, expert])
    where = home[expert] * passes + step
    counts = np.bincount(where, minlength=case.gpus * passes)
    ends = np.cumsum(counts)
    first_of_gpu = np.searchsorted(home, np.arange(case.gpus))
    serial = case.kernels == "serial"
    starts = np.arange(len(own)) if serial else (ends - counts)[counts > 0]
    spec = work.routing.moe_layers[layer]
    wave_ns = work.waves(spec, own, starts)
    work.count_copies(spec, 0)
    cuts = np.concatenate(([0], ends))[::passes].tolist()
    local = expert - first_of_gpu[home[expert]]
    wave = np.arange(len(own)) - np.repeat(ends - counts, counts) if serial else 0 * own
    same = _Same(passes, len(own))
    waves_before = np.searchsorted(starts, cuts).tolist()
    steps = counts.reshape(case.gpus, passes)
    for gpu in range(case.gpus):
        low, high = cuts[gpu], cuts[gpu + 1]
        first, last = waves_before[gpu], waves_before[gpu + 1]
        offsets = np.concatenate(([0], np.cumsum(steps[gpu])))
        active_experts = ActiveExperts(offsets, local[low:high])
        yield (
            (layer, gpu),
            same.work(
                active_experts,
                wave[low:high],
                own[low:high],
                (
                    starts[first:last] - low,
                    wave_ns[first:last],
                    offsets if serial else np.concatenate(([0], np.cumsum(steps[gpu] > 0))),
                ),
            ),
        )


class _Same:
    """What is the same on every GPU: nothing is copied, and the host computes nothing."""

    def __init__(self, passes: int, activations: int) -> None:
        self.none, self.hit = np.full(activations, -1, np.int64), np.ones(activations, np.bool_)
        self.form, self.number = np.full(activations, IN_SLOT, np.int64), np.arange(activations)
        self.loaded = np.zeros(activations, np.bool_)
        self.zeros, self.no_steps = np.zeros(activations, np.int64), np.zeros(passes + 1, np.int64)
        self.nothing, self.streamed = np.zeros(0, np.int64), np.zeros(passes, np.bool_)
        self.moved = np.zeros((2, passes), np.int64)

    def work(
        self, active_experts: ActiveExperts, wave: Ints, rows: Ints, waves: tuple[Ints, Ints, Ints]
    ) -> Work:
        """The work of one GPU: first activations, prices and offsets by pass of its ``waves``."""
        n, nothing = len(rows), self.nothing
        starts, wave_ns, step_waves = waves
        none = self.none[:n]
        return Work(
            active_experts=active_experts,
            activations=Activations(
                active_experts.experts, self.hit[:n], wave, none, none, self.form[:n]
            ),
            rows=rows,
            on_gpu=self.number[:n],
            hosted=nothing,
            loaded=self.loaded[:n],
            step_waves=step_waves,
            wave_ns=wave_ns,
            read=self.zeros[: len(starts)],
            read_ns=self.zeros[: len(starts)],
            step_copies=self.no_steps,
            copy_wave=nothing,
            copy_wait=nothing,
            starts=starts,
            copied=nothing,
            streamed=self.streamed,
            step_hosted=self.no_steps,
            hosted_ns=nothing,
            moved_ns=self.moved,
        )
