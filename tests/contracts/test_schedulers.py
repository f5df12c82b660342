"""Every registered scheduler, on requests that hypothesis makes."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from moesim.testing.schedulers import TIMES, keeps_the_laws
from moesim.workload.serving import registry
from moesim.workload.serving.clock import steps_of, with_step_times
from moesim.workload.serving.state import BEGIN, COUNT, ENTRIES, State
from tests.reference.serving_cases import DRAWN, asked_of, room_of

FOLDER = Path(__file__).parents[2] / "moesim" / "workload" / "serving"
HELPERS = {"__init__", "ahead", "base", "blocks", "clock", "cycles", "disaggregated", "exchange",
           "fleet", "foreseen", "host", "linked", "lists", "loop", "passes", "pool", "prefixes",
           "reach", "recent_experts", "requests", "room", "run", "state", "steps", "tokens",
           "wire"}  # fmt: skip


def tokens_of(state: State, step: int) -> int:
    low, high = state.steps[BEGIN, step : step + 2]
    return int(state.log[COUNT, low:high].sum())


def test_every_file_of_the_folder_is_registered():
    files = {path.stem for path in FOLDER.glob("*.py")} - HELPERS
    assert files == {kind.replace(".", "_") for kind in registry.components}


@given(case=DRAWN, most=st.integers(1, 5), late=st.booleans())
def test_contract(case, most, late):
    for kind in registry.components.values():
        scheduler = kind(max_num_seqs=most, async_scheduling=late)
        keeps_the_laws(scheduler, asked_of(case), room_of(case))


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
