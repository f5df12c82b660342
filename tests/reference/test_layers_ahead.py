"""Hosts that read whole layers in order, and prompts that stream from storage."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given

from .agreement import agree, verdict_of
from .prefetch_scenes import play, spans
from .reference_words import Verdict
from .strategies import Case, few
from .strategies_host import streaming_cases, window_cases
from .test_read_ahead import ReadPrices


@few
@given(window_cases())
def test_both_engines_and_the_reference_agree(case: Case) -> None:
    agree(case)


@few
@given(window_cases())
def test_room_for_all_layers_reads_nothing(case: Case) -> None:
    """And takes as long as a host that holds all experts."""
    layers, ahead = len(case.model.moe_layers), case.config.host_layers_ahead
    assert ahead is not None
    whole = replace(case.config, host_slots=(1 + ahead + layers) * case.model.experts)
    alone = replace(whole, host_slots=None, host_layers_ahead=None)
    found, other = verdict_of(replace(case, config=whole)), verdict_of(replace(case, config=alone))
    assert found.storage_reads == 0
    assert found.duration_ns == other.duration_ns


@few
@given(streaming_cases())
def test_prompts_that_stream_from_storage_agree(case: Case) -> None:
    agree(case)


def two_passes(ahead: int, fixed: int = 0) -> Verdict:
    """Of two layers with four experts; a read takes 30, attention 10, a copy 50, a launch 100."""
    return play(
        [[[0], [1]], [[2], [3]]], copy=50, slots=1, prefetch={"kind": "none"},
        host_slots=4 * (1 + ahead + fixed), host_layers_ahead=ahead, prices=ReadPrices(30),
    )  # fmt: skip


def test_one_layer_ahead() -> None:
    verdict = two_passes(1)
    # Two rooms: layer 0 is read 0 - 120, layer 1 - 240; 0 is there at 30, copied - 80, launch -
    # 180. Layer 0 of the second pass is read 240 - 360, as a room is free at 180. 1: known at 190,
    # in memory at 120 + 60, copied 190 - 240, launch - 340. 2: in memory at 240 + 90, known at 350,
    # copied - 400, launch - 500; layer 1 is read 360 - 480. 3: known at 510, copied - 560
    copies = [(start, end) for _, _, start, end in spans(verdict, "copy_in")]
    assert copies == [(30, 80), (190, 240), (350, 400), (510, 560)]
    assert (verdict.storage_reads, verdict.host_hits) == (16, 0)
    assert (verdict.time_ns["waiting_for_storage"], verdict.duration_ns) == (20, 660)


def test_none_ahead_waits_for_the_layer_before() -> None:
    verdict = two_passes(0)
    # One room: layer 1 is read from 180 on, and expert 1 is there at 240, copied - 290, launch -
    # 390; layer 0 of the second pass from 390 on, 2 there at 480, copied - 530, launch - 630; 3 at
    # 750
    copies = [(start, end) for _, _, start, end in spans(verdict, "copy_in")]
    assert copies == [(30, 80), (240, 290), (480, 530), (750, 800)]


def test_first_layers_stay_where_there_is_room() -> None:
    verdict = two_passes(0, fixed=1)
    # Layer 0 is there. 0: 10 - 60, launch - 160; layer 1 is read 0 - 120: 1: 170 - 220, launch -
    # 320. 2: 330 - 380, launch - 480; layer 1 is read from 320 on, 3 is there at 440
    copies = [(start, end) for _, _, start, end in spans(verdict, "copy_in")]
    assert copies == [(10, 60), (170, 220), (330, 380), (490, 540)]
    assert (verdict.storage_reads, verdict.host_hits) == (8, 2)
