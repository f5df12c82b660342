"""Runs whose experts are all resident, whose launches are priced by a few numbers of each, against
`des`, which asks for them one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import Mock, patch

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from moesim.engine.case import Case as EngineCase
from moesim.engine.des.run import run_des
from moesim.engine.replay import spans
from moesim.engine.replay.foreseen import is_foreseen
from moesim.engine.replay.quick import makers as quick
from moesim.engine.replay.quick import reuse
from moesim.engine.replay.quick.bits import bits_of
from moesim.engine.replay.quick.resident import Resident
from moesim.engine.replay.run import run_replay
from moesim.hardware.operation import TileTable
from moesim.trace.routing import NO_EXPERT
from moesim.workload.serving.state import BEGIN, COUNT, START, STEPS, WHO, State
from moesim.workload.serving.stepping.ahead import BACK, REACHES
from moesim.workload.serving.stepping.foreseen import Foresight

from .agreement import assert_same
from .prices import Ints, ToyCostModel
from .serving_cases import of_vllm
from .strategies import cases, few
from .test_foreseen import served
from .test_replay import decided_at_once
from .wiring import engine_case


class TiledPrices(ToyCostModel):
    """Launches cost what their rows, experts, tiles and further groups of tiles say."""

    by_average = False

    def expert_tiles(self, layer: Any, number: Ints) -> TileTable:
        """Tiles grow with rows; every other number has larger groups."""
        return TileTable(1 + number // 4, 1 + (number + self.kind_of(layer)) % 2, self.by_average)

    def experts_ns(self, layer: Any, rows: Any, starts: Any, *tokens: Ints) -> Ints:
        if tokens:
            return super().experts_ns(layer, rows, starts, *tokens)
        rows, ends = np.asarray(rows), [*np.asarray(starts).tolist()[1:], len(rows)]
        launches = zip(np.asarray(starts).tolist(), ends, strict=False)
        own = [self._one(layer, rows[a:b]) for a, b in launches]
        return np.array(own, np.int64)

    def _one(self, layer: Any, rows: Ints) -> int:
        total, experts = int(rows.sum()), len(rows)
        at = -(-total // max(1, experts)) if self.by_average else total
        tile, group = (int(one[0]) for one in self.expert_tiles(layer, np.array([at]))[:2])
        tiles = -(-rows // tile)
        further = ((tiles - 1) // group).sum()
        return int(7 + self.kind_of(layer) + 3 * total + 11 * experts + 5 * tiles.sum() + further)


class TiledByAverage(TiledPrices):
    """By the average rows of its experts."""

    by_average = True


def resident(theirs: EngineCase, tiled: type[TiledPrices]) -> EngineCase:
    """The case with all experts in memory, in grouped kernels."""
    toy = theirs.prices
    assert isinstance(toy, ToyCostModel), "tests' own"
    slots = np.full_like(theirs.slots, max(map(len, map(theirs.local_experts, range(theirs.gpus)))))
    prices: Any = tiled(toy.prices, toy.kind_of)
    return replace(theirs, slots=slots, kernels="grouped", prices=prices)


@contextmanager
def short_spans(every: int) -> Iterator[None]:
    """Two rows are a span; of so many ``every`` one has running counts."""
    plain = spans.running_of

    def running_of(ids: Any, home: Ints, homes: int) -> spans.Running:
        with patch.object(spans, "CELLS", len(home) * homes * (len(ids) // every + 1)):
            return plain(ids, home, homes)

    with (
        patch.object(spans, "SHORTEST", 2),
        patch("moesim.engine.replay.activation_index.running_of", running_of),
    ):
        yield


def take_it() -> Any:
    """What nothing decides."""
    return patch.object(quick, "Deciding", Mock(side_effect=AssertionError))


def known(self: Resident) -> NDArray[np.uint64] | None:
    """What each row chooses, known at once."""
    if len(self.launches.specs) > 1:
        return None
    finder, ids = self.reuse.finder, self.case.trace.expert_ids
    layers = np.arange(ids.shape[1])
    bits = bits_of(ids, finder.home, layers, finder.width, self.case.holders)
    return np.asarray(bits.masks, np.uint64)


def needed(theirs: EngineCase, state: State, step: int) -> int:
    """The experts of all layers that a ``step`` of single tokens needs; 0 of others."""
    assert theirs.serving is not None, "requests are served"
    log = state.log[:, state.steps[BEGIN, step] : state.steps[BEGIN, step + 1]].astype(np.int64)
    ids = theirs.trace.expert_ids[theirs.serving.served.rows(log[WHO], log[START])]
    chosen = [set(ids[:, layer].ravel().tolist()) - {NO_EXPERT} for layer in range(ids.shape[1])]
    return 0 if (log[COUNT] != 1).any() else sum(map(len, chosen))


def reaching(theirs: EngineCase) -> Any:
    """Where it is known what rows choose, steps that are foreseen reach what they need."""
    plain = Foresight.foresee

    def foresee(self: Foresight, most: int) -> int:
        first, number = int(self.state.numbers[STEPS]) - 1, plain(self, most)
        if len(self.past.chosen.some):
            reach = self.pace[REACHES, BACK : BACK + number].tolist()
            assert reach == [needed(theirs, self.ahead, first + n) for n in range(number)]
        return number

    return patch.object(Foresight, "foresee", foresee)


TILED = st.sampled_from([TiledPrices, TiledByAverage])


@given(cases() | cases(prompts=True), TILED, st.sampled_from([1, 2, 4]))
def test_what_is_resident_is_des(case, tiled, every):
    theirs = resident(decided_at_once(engine_case(case), "lru"), tiled)
    assume(quick.is_quick(theirs) and not theirs.offloaded)
    with short_spans(every), take_it():
        assert_same(run_replay(theirs), run_des(theirs))


@few
@given(cases() | cases(prompts=True), of_vllm(), TILED, st.sampled_from([1, 2, 4]))
def test_what_is_served_with_all_resident_is_des(case, serving, tiled, every):
    theirs = resident(decided_at_once(engine_case(case), "lru"), tiled)
    serving = replace(serving, ranks=1, longest=None, blocks=None)
    foresees, asks = served(theirs, serving), served(theirs, serving)
    assume(is_foreseen(foresees) and quick.is_quick(foresees) and not theirs.offloaded)
    masks = patch.object(Resident, "masks", property(known))
    with short_spans(every), take_it(), masks, reaching(foresees):
        played = run_replay(foresees)
    assert_same(played, run_des(asks))


@few
@given(cases(prompts=True), of_vllm(), st.sampled_from([1, 2, 4]))
def test_what_slots_lack_is_found_in_spans(case, serving, every):
    theirs = decided_at_once(engine_case(case), "lru")
    serving = replace(serving, ranks=1, longest=None, blocks=None)
    foresees, asks = served(theirs, serving), served(theirs, serving)
    assume(is_foreseen(foresees) and quick.is_quick(foresees))
    with short_spans(every), patch.object(reuse, "ACTIVATIONS", 40):
        played = run_replay(foresees)
    assert_same(played, run_des(asks))
