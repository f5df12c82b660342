"""What software holds of a GPU's memory beside weights, caches and rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import moesim
from moesim.config.amounts.sizes import MIB
from moesim.experiment.building.build import build
from moesim.experiment.building.footprints import residences_of, scores_of
from moesim.experiment.building.reserved import block_bytes, reserved_parts
from moesim.hardware import load_software
from moesim.hardware.described.software_memory import SoftwareMemory
from moesim.memory.footprint.blocks import reserved_bytes
from moesim.memory.footprint.live import LIVE
from moesim.results.result import HELD_CATEGORIES, MEMORY_CATEGORIES, memory_categories
from moesim.trace.routing import Phase

ONE = {
    "model": "gpt-oss-20b", "hardware": "h100-sxm", "trace": "quickstart",
    "workload": {"requests": 2, "phase": "all", "batching": {"kind": "static", "batch_size": 2}},
}  # fmt: skip


def case_of(**more: Any) -> Any:
    return build(moesim.load_experiment(ONE | more).experiment, limit_steps=4)


def test_software_without_the_keys_holds_nothing() -> None:
    built = case_of(software="vllm")
    assert built.case.software.memory == SoftwareMemory()
    assert set(built.footprint.parts) == set(MEMORY_CATEGORIES)
    case = built.case
    assert reserved_parts(SoftwareMemory(), case.shares, built.residences, 8) == {}
    assert not scores_of(case).any()


def test_fairseq_holds_what_its_profile_names() -> None:
    built = case_of(software="fairseq")
    assert set(built.footprint.parts) == {*MEMORY_CATEGORIES, *HELD_CATEGORIES}
    parts = built.footprint.parts
    assert (parts["position_tables"] == 1026 * 2880 * 2).all()
    assert not parts["communication_buffers"].any()  # one GPU has nobody to talk to
    assert (parts["allocator_blocks"] > 0).all()
    told = moesim.run(ONE | {"software": "fairseq"}, limit_steps=2)
    assert memory_categories(told.memory)[-3:] == list(HELD_CATEGORIES)
    assert set(HELD_CATEGORIES) <= set(told.summary["memory_bytes"])


def test_buffers_grow_with_the_gpus_that_exchange() -> None:
    memory = load_software("fairseq").memory
    built = case_of()
    two, eight = (
        int(
            reserved_parts(memory, built.case.shares, built.residences, gpus)[HELD_CATEGORIES[2]][0]
        )
        for gpus in (2, 8)
    )
    connection = (4096 + 4800 + 512) * 1024
    assert memory.collective_bytes == 12 * 3 * connection
    assert eight - two == 6 * memory.peer_bytes == 6 * 2 * connection


def test_scores_are_of_every_token_with_all_keys() -> None:
    """In full, also those that a prompt's mask hides."""
    case = case_of(software="fairseq", model="small-moe", trace="small-moe").case
    schedule, expected = case.schedule, np.zeros((case.schedule.passes, 1), np.int64)
    for step in range(schedule.passes):
        rows = range(*schedule.offsets[step : step + 2])
        for request in {int(schedule.request[row]) for row in rows}:
            own = [row for row in rows if schedule.request[row] == request]
            keys = max(int(case.trace.position[schedule.rows[row]]) for row in own) + 1
            expected[step] += len(own) * keys
    assert (schedule.phase == Phase.PREFILL).any()
    np.testing.assert_array_equal(scores_of(case), expected)


def test_scores_are_a_moment_of_their_own() -> None:
    """Of so many bytes that nothing else lives as much; they take the place of the logits."""
    case = case_of(software="fairseq").case
    memory = case.software.memory.model_copy(update={"score_bytes": 1024})
    wide = replace(case, software=case.software.model_copy(update={"memory": memory}))
    from moesim.experiment.building.footprints import footprint_of

    parts = footprint_of(wide, residences_of(wide)).parts
    heads = case.model.layers[0].attention.heads
    step = int(scores_of(case).argmax())
    tokens = int(np.diff(case.schedule.offsets)[step])
    live = sum(int(parts[name][step, 0]) for name in LIVE)
    assert live == tokens * 4 * 2880 * 2 + 1024 * heads * int(scores_of(case)[step, 0])


@pytest.mark.parametrize("name", ["gpt-oss-20b", "mixtral-8x7b"])
def test_an_expert_takes_its_part_of_segments(name: str) -> None:
    from moesim.memory.footprint.footprint import expert_bytes
    from moesim.model import load_model
    from moesim.model.tensors import of_network

    model, exact = load_model(name), SoftwareMemory()
    assert block_bytes(exact, model) == expert_bytes(model)
    rounded = block_bytes(SoftwareMemory(allocator="caching"), model)
    moe = model.moe_layers[0].moe
    assert moe is not None
    many = tuple(of_network(moe.expert, 600))
    more = reserved_bytes(many) - sum(size * count for size, count in many)
    assert rounded[0] - expert_bytes(model)[0] == pytest.approx(more / 600, abs=35_000)


def test_auto_leaves_room_for_blocks() -> None:
    small = {"hardware": "rtx-4060-8gb", "experts": {"capacity": "auto"}}
    built = case_of(software="fairseq", **small)
    assert built.out_of_memory is None
    assert (built.case.slots < 32).all()
    assert (built.limit_bytes - built.footprint.total.max()) < 24 * 2 * 14 * MIB
