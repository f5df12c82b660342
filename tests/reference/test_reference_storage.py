"""Host memory that does not hold all experts: the engines, the reference, and laws."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given

from .agreement import agree, verdict_of
from .strategies import Case, few
from .strategies_host import host_bytes_cases, storage_cases, stored_variant_cases


@few
@given(storage_cases())
def test_both_engines_and_the_reference_agree(case: Case) -> None:
    agree(case)


@few
@given(host_bytes_cases())
def test_they_agree_on_a_host_that_is_a_cache_by_bytes(case: Case) -> None:
    agree(case)


@few
@given(stored_variant_cases())
def test_they_agree_on_experts_of_several_formats(case: Case) -> None:
    agree(case)


@few
@given(storage_cases())
def test_room_for_all_from_the_start_is_no_cache(case: Case) -> None:
    """A host that holds every expert in its slots, all of them there, reads nothing."""
    every = len(case.model.moe_layers) * case.model.experts * case.config.parts
    whole = replace(case.config, host_slots=every, initial="most_used")
    agree(replace(case, config=whole))
    alone = verdict_of(replace(case, config=replace(whole, host_slots=None)))
    cached = verdict_of(replace(case, config=whole))
    assert cached.storage_reads == 0
    assert cached.duration_ns == alone.duration_ns
    assert cached.time_ns.pop("waiting_for_storage") == 0
    assert cached.time_ns == alone.time_ns
