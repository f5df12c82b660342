"""Decoding for real, round after round, and keeping what each part of each step took."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter_ns

import numpy as np
import torch

from moesim.calibrate.closed_loop.clock import Clock, EventClock, HostClock
from moesim.calibrate.closed_loop.forward import Decode
from moesim.calibrate.closed_loop.model import Decoder, sticky_tokens
from moesim.calibrate.closed_loop.pool import Pool, StreamPool
from moesim.calibrate.closed_loop.recording import PROMPT, Recording, Setting
from moesim.calibrate.closed_loop.sizes import Sizes
from moesim.config.counted import counted

SEED = 1

Progress = Callable[[str], None]


class Machine:
    """A decoder, its experts in a pool, and a clock, on ``device`` (``cpu`` or ``cuda``)."""

    def __init__(self, sizes: Sizes, device: str) -> None:
        self.decoder = Decoder(sizes, device, SEED)
        cuda = device == "cuda"
        self.pool = (StreamPool if cuda else Pool)(self.decoder.store(), device)
        self.clock: Clock = EventClock() if cuda else HostClock()

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def run(self, setting: Setting, steps: int) -> Recording:
        """One round of ``setting`` from empty slots."""
        vocabulary, batch = self.decoder.sizes.vocabulary, setting.batch
        decode = Decode(self.decoder, batch, PROMPT, steps)
        tokens = sticky_tokens(vocabulary, batch, steps, SEED).to(self.decoder.device)
        self.pool.reset(setting.slots)
        ids, activations, marks, wall = [], [], [], []
        for row in tokens:
            begun = perf_counter_ns()
            step = decode.step(row, self.pool, self.clock)
            marks += self.clock.marks()
            wall.append(perf_counter_ns() - begun)
            ids.append(torch.stack(step.ids, 1).cpu().numpy().astype(np.uint16))
            activations.append(step.activations)
        count = [[len(layer) for layer in step] for step in activations]
        hits = [
            [sum(activation.hit for activation in layer) for layer in step] for step in activations
        ]
        layers, parts, times = np.array(marks).T
        return Recording(
            setting=setting,
            ids=np.stack(ids),
            activations=np.array(count),
            hits=np.array(hits),
            layers=layers,
            parts=parts,
            times_ns=times[None],
            wall_ns=np.array([wall]),
        )


def measure(
    sizes: Sizes,
    settings: Sequence[Setting],
    device: str,
    *,
    steps: int,
    rounds: int,
    between: Callable[[], None] = lambda: None,
    progress: Progress = lambda _: None,
) -> list[Recording]:
    """Run every setting once in each of ``rounds`` rounds, after one round that is not counted.

    ``between`` is called before each run that counts.
    """
    found: list[list[Recording]] = [[] for _ in settings]
    with _one_thread():
        progress("making the model")
        machine = Machine(sizes, device)
        for number in range(-1, rounds):
            for setting, kept in zip(settings, found, strict=True):
                if number >= 0:
                    between()
                progress(
                    f"decoding, round {number + 1} of {rounds}: "
                    f"{counted(setting.slots, 'slot')} a layer, batch {setting.batch}"
                )
                recording = machine.run(setting, steps if number >= 0 else min(steps, WARM_UP))
                if number >= 0:
                    kept.append(recording)
    return [_joined(kept) for kept in found]


WARM_UP = 4
"""Steps of the round that is not counted."""


def _joined(rounds: Sequence[Recording]) -> Recording:
    first = rounds[0]
    for other in rounds:
        assert (other.ids == first.ids).all(), "the same step chose other experts in another round"
        assert (other.hits == first.hits).all(), "the same choices gave other hits"
    return replace(
        first,
        times_ns=np.concatenate([recording.times_ns for recording in rounds]),
        wall_ns=np.concatenate([recording.wall_ns for recording in rounds]),
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
