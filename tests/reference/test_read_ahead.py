"""Prefetches through storage: the engines, the reference, and laws."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import given

from .agreement import agree, verdict_of
from .prefetch_scenes import FlatPrices, play, spans
from .reference_words import Prefetch, Verdict
from .strategies import Case, few
from .strategies_host import reading_ahead_cases


@few
@given(reading_ahead_cases())
def test_both_engines_and_the_reference_agree(case: Case) -> None:
    agree(case)


@few
@given(reading_ahead_cases())
def test_room_for_all_from_the_start_is_no_cache(case: Case) -> None:
    """A host that holds every expert in its slots, all of them there, reads nothing ahead."""
    every = len(case.model.moe_layers) * case.model.experts
    whole = replace(case.config, host_slots=every, initial="most_used")
    alone = verdict_of(replace(case, config=replace(whole, host_slots=None)))
    cached = verdict_of(replace(case, config=whole))
    assert (cached.storage_reads, cached.storage_reads_ahead) == (0, 0)
    assert cached.duration_ns == alone.duration_ns
    assert cached.time_ns.pop("waiting_for_storage") == 0
    assert cached.time_ns == alone.time_ns


@given(reading_ahead_cases())
def test_a_prefetch_that_predicts_nothing_is_none(case: Case) -> None:
    """Decided on the clock or beforehand, reads are the same, and when."""
    prefetch = replace(case.config.prefetch, kind="oracle", recall=0.0, precision=1.0, cost=0)
    found = verdict_of(case, prefetch=prefetch)
    other = verdict_of(case, prefetch=Prefetch())
    assert (found.storage_reads_ahead, found.prefetched) == (0, 0)
    assert (found.storage_reads, found.host_hits) == (other.storage_reads, other.host_hits)
    assert found.duration_ns == other.duration_ns
    for category, ns in other.time_ns.items():
        assert found.time_ns[category] == ns


@few
@given(reading_ahead_cases())
def test_where_nothing_is_kept_all_is_read(case: Case) -> None:
    """Each miss that something computes once, and each prefetch that is copied."""
    verdict = verdict_of(replace(case, config=replace(case.config, host_slots=0)))
    missed = verdict.storage_reads - verdict.storage_reads_ahead
    assert missed == verdict.misses - verdict.skipped_activations
    most = verdict.prefetched + verdict.prefetches_cancelled
    assert verdict.prefetched <= verdict.storage_reads_ahead <= most
    assert verdict.storage_reads_used <= verdict.storage_reads_ahead


@dataclass(frozen=True)
class ReadPrices(FlatPrices):
    """And a read as long as it is said."""

    read: int

    def storage_read_ns(self, size: int, reads: int, mapped: bool, queued: bool) -> int:
        return self.read


def two_layers(read: int, predicted: list[list[list[int]]] | None = None) -> Verdict:
    """Layer 0 needs expert 0, layer 1 expert 1: known at 10, a copy 50, a launch 100."""
    ahead: dict[str, Any] = {"kind": "recorded" if predicted else "oracle"}
    return play(
        [[[0], [1]]], predicted, copy=50, slots=2, host_slots=8, prefetch=ahead,
        prices=ReadPrices(read),
    )  # fmt: skip


def test_one_that_was_read_in_time_is_a_hit() -> None:
    verdict = two_layers(30)
    # 0: read 10 - 40, copied 40 - 90, launch - 190; 1: read 40 - 70, copied when the engine is free
    assert spans(verdict, "copy_in") == [(0, (0,), 40, 90), (1, (1,), 90, 140)]
    assert (verdict.hits, verdict.duration_ns) == (1, 300)
    assert verdict.time_ns["waiting_for_storage"] == 30
    counts = (verdict.host_hits, verdict.storage_reads, verdict.storage_reads_ahead)
    assert (*counts, verdict.storage_reads_used) == (0, 2, 1, 1)


def test_one_whose_read_is_under_way_is_late() -> None:
    verdict = two_layers(200)
    # 0: read 10 - 210, copied - 260, launch - 360
    # 1: read 210 - 410, needed at 370, copied 410 - 460
    assert spans(verdict, "copy_in") == [(0, (0,), 210, 260), (1, (1,), 410, 460)]
    assert (verdict.late, verdict.prefetches_promoted, verdict.duration_ns) == (1, 1, 560)
    assert verdict.time_ns["waiting_for_storage"] == 200 + 40


def test_wrong_ones_cost_the_drive_what_has_begun() -> None:
    verdict = two_layers(100, [[[], [2, 3]]])
    # 0: read 10 - 110, copied - 160, launch - 260; 2: read 110 - 210, copied 210 - 260; 3: read
    # from 210 on, and not copied: layer 1 is known at 270. 1: read 310 - 410, copied - 460
    assert spans(verdict, "copy_in")[-1] == (1, (1,), 410, 460)
    assert verdict.duration_ns == 560
    counts = (verdict.storage_reads, verdict.storage_reads_ahead, verdict.storage_reads_used)
    assert counts == (4, 2, 0)
    assert (verdict.prefetched, verdict.prefetches_cancelled) == (1, 1)
