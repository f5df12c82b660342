"""Every registered scheduler, on requests that hypothesis makes."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from moesim.testing.schedulers import keeps_the_laws
from moesim.workload.serving import registry
from tests.reference.serving_cases import DRAWN, asked_of, room_of

FOLDER = Path(__file__).parents[2] / "moesim" / "workload" / "serving"
HELPERS = {"__init__", "base", "blocks", "clock", "lists", "loop", "passes", "prefixes",
           "requests", "run", "state", "steps"}  # fmt: skip


def test_every_file_of_the_folder_is_registered():
    files = {path.stem for path in FOLDER.glob("*.py")} - HELPERS
    assert files == {kind.replace(".", "_") for kind in registry.components}


@given(case=DRAWN, most=st.integers(1, 5), late=st.booleans())
def test_contract(case, most, late):
    for kind in registry.components.values():
        scheduler = kind(max_num_seqs=most, async_scheduling=late)
        keeps_the_laws(scheduler, asked_of(case), room_of(case))
