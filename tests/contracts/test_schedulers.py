"""Every registered scheduler, on requests that hypothesis makes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.testing.schedulers import TIMES, keeps_the_laws
from moesim.workload.serving import registry
from moesim.workload.serving.lists import add
from moesim.workload.serving.plenty import is_plenty, with_blocks
from moesim.workload.serving.state import (
    BEGIN,
    CHUNKS,
    COUNT,
    ENTRIES,
    FOUND,
    FREE,
    KEPT,
    MEMORY,
    RUN,
    SPARE,
    STATE,
    STEPS,
    TABLE,
    Asked,
    Group,
    Room,
    State,
)
from moesim.workload.serving.stepping.clock import played, steps_of
from moesim.workload.serving.vllm import Vllm, schedule
from tests.contracts.kinds import own
from tests.reference.serving_cases import DRAWN, asked_of, room_of
from tests.reference.step_times import with_step_times

FOLDER = Path(__file__).parents[2] / "moesim" / "workload" / "serving"
HELPERS = {"__init__", "base", "blocks", "exchange", "linked", "lists", "plenty", "room", "run",
           "state"}  # fmt: skip


GROUPS = (Group(3), Group(), Group(2, keeps=STATE), Group(keeps=SPARE))


def tokens_of(state: State, step: int) -> int:
    low, high = state.steps[BEGIN, step : step + 2]
    return int(state.log[COUNT, low:high].sum())


def test_every_file_of_the_folder_is_registered():
    files = {path.stem for path in FOLDER.glob("*.py")} - HELPERS
    assert files == {kind.replace(".", "_") for kind in own(registry)}


@given(case=DRAWN, most=st.integers(1, 5), late=st.booleans())
def test_contract(case, most, late):
    for kind in registry.components.values():
        scheduler = kind(max_num_seqs=most, async_scheduling=late)
        keeps_the_laws(scheduler, asked_of(case), room_of(case))
        if kind.shares_windows:
            shared = replace(room_of(case), groups=GROUPS)
            keeps_the_laws(scheduler, asked_of(case), shared)


@given(case=DRAWN)
def test_compiled_rules_are_the_plain_ones(case):
    for kind in registry.components.values():
        scheduler = kind(max_num_seqs=3)
        plain = keeps_the_laws(scheduler, asked_of(case), room_of(case))
        if plain is None:
            continue
        steps = steps_of(asked_of(case), room_of(case), scheduler, TIMES)
        compiled = with_step_times(steps, tokens_of)
        assert compiled.log[:, : compiled.numbers[ENTRIES]].tolist() == (
            plain.log[:, : plain.numbers[ENTRIES]].tolist()
        )


@given(
    case=DRAWN, most=st.integers(1, 5), late=st.booleans(), more=st.integers(1, 9),
    watermark=st.sampled_from([0.0, 0.2]), windows=st.booleans(),
)  # fmt: skip
def test_where_blocks_are_plenty_a_plan_without_a_limit_says_what_one_with_them_is(
    case, most, late, more, watermark, windows
):
    asked = replace(asked_of(case), contents=None)
    alone = replace(room_of(case), ranks=1, blocks=None, exchange=None)
    for name, kind in registry.components.items():
        shares = windows and kind.shares_windows
        room = replace(alone, groups=GROUPS) if shares else alone
        own: Any = {"watermark": f"{watermark:.0%}"} if name == "vllm" else {}
        scheduler = kind(max_num_seqs=most, async_scheduling=late, **own)
        state = played(asked, room, scheduler)
        needs = np.diff(state.requests[TABLE], append=state.table.shape[1])
        whole = (len(room.groups) * needs.max() + 1) * (most + 1)
        blocks = round((whole + more) / (1 - watermark))
        for one in (blocks, blocks // 2, blocks // 3):
            limited = replace(room, blocks=max(1, one))
            if is_plenty(state, asked, limited, scheduler):
                same = played(asked, limited, scheduler)
                _must_be(with_blocks(state, limited), same, int(same.numbers[STEPS]))


def test_blocks_that_can_be_found_are_taken_once_none_is_empty():
    stream, evicts = np.random.default_rng(0), False
    for kind in registry.components.values():
        if not kind.counts_requests:
            continue  # its plans are never plans for fewer blocks
        none = np.zeros(25, np.int64)
        sizes = (stream.integers(1, 12, 25), stream.integers(1, 8, 25))
        asked = Asked(*sizes, none, none, none - 1, none)
        room = Room(block_size=2, caches_prefixes=True, longest=100)
        scheduler = kind(max_num_seqs=2)
        state, limited = played(asked, room, scheduler), replace(room, blocks=40)
        assert is_plenty(state, asked, limited, scheduler)
        same, found = played(asked, limited, scheduler), with_blocks(state, limited)
        steps = int(same.numbers[STEPS])
        _must_be(found, same, steps)
        evicts |= bool((found.steps[FOUND, :steps] < state.steps[FOUND, :steps]).any())
    assert evicts


def _must_be(found: State, same: State, steps: int) -> None:
    assert found.numbers.tolist() == same.numbers.tolist()
    assert found.requests.tolist() == same.requests.tolist()
    entries = same.numbers[ENTRIES]
    assert found.log[:, :entries].tolist() == same.log[:, :entries].tolist()
    assert found.steps[:, :steps].tolist() == same.steps[:, :steps].tolist()
    assert found.steps[BEGIN, steps] == same.steps[BEGIN, steps]
    of_ranks = [FREE, MEMORY, KEPT]
    assert found.ranks[of_ranks].tolist() == same.ranks[of_ranks].tolist()


def again(state: Any, knobs: Any, rank: int) -> None:
    """Adds the first that runs a second time."""
    schedule(state, knobs, rank)
    add(state, state.running[rank, 0], 1)


def crowd(state: Any, knobs: Any, rank: int) -> None:
    """Counts more that run than may."""
    schedule(state, knobs, rank)
    state.ranks[RUN, rank] = 9


def leak(state: Any, knobs: Any, rank: int) -> None:
    """Loses a free block."""
    schedule(state, knobs, rank)
    state.ranks[FREE, rank] -= 1


def miscount(state: Any, knobs: Any, rank: int) -> None:
    """Counts a part more."""
    schedule(state, knobs, rank)
    state.requests[CHUNKS, 0] += 1


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (again, "a request twice in a step"),
        (crowd, "too many run"),
        (leak, "free blocks of"),
        (miscount, "parts of"),
    ],
)
def test_one_that_breaks_the_rules_is_named(rule, said):
    class Broken(Vllm):
        def rule(self):
            return rule

    one, none = np.ones(1, np.int64), np.zeros(1, np.int64)
    asked = Asked(4 * one, 2 * one, none, none, -one, none)
    broken = Broken(max_num_seqs=2, max_num_batched_tokens=1)
    with pytest.raises(AssertionError, match=f"Broken: .*{said}"):
        keeps_the_laws(broken, asked, Room(blocks=9, block_size=2))
