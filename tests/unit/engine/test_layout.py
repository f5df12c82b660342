"""What activations come to, by hand: launches, copies, experts of the host, and counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from moesim.engine.counts import (
    ACCESS_HITS,
    ACTIVATIONS,
    HITS,
    KEPT_ROWS,
    LATE,
    MISSED,
    ROWS,
    SKIPPED_ROWS,
    SKIPPED_WEIGHT,
    UNNEEDED,
)
from moesim.engine.layout import (
    IN_SLOT,
    NOT_LATE,
    NOWHERE,
    ON_GPU,
    ON_HOST,
    OVER_LINK,
    Active,
    How,
    Layout,
    Tables,
    find_active,
    lay_out,
)
from moesim.memory.activations import Activations

LOADED, HOSTED, READ, SKIPPED = range(4)
"""Forms here."""
FORMS = np.zeros((5, 4), np.bool_)
FORMS[[ON_GPU, IN_SLOT, ON_HOST, ON_GPU, OVER_LINK, NOWHERE],
      [LOADED, LOADED, HOSTED, READ, READ, SKIPPED]] = True  # fmt: skip


def laid(
    *activations: tuple[int, bool, int, int, int],
    overlaps: bool = True,
    pads: bool = False,
    streamed: bool = False,
    late: Any = NOT_LATE,
) -> Layout:
    """The layout of ``counted``."""
    return counted(*activations, overlaps=overlaps, pads=pads, streamed=streamed, late=late)[0]


def counted(
    *activations: tuple[int, bool, int, int, int],
    overlaps: bool = True,
    pads: bool = False,
    streamed: bool = False,
    late: Any = NOT_LATE,
) -> tuple[Layout, Any]:
    """The layout of one pass, in which experts 0 to 3 have 5 to 8 rows, the last of which four are
    kept, with a weight of 1 to 4, and its counts; an activation is expert, hit, launch, wait and
    form. It is of the second of two layers, the other of which has one of each already.
    """
    expert, hit, launch, wait, form = (
        np.array(column) for column in zip(*activations, strict=True)
    )
    needed = np.sort(expert)
    weight = np.array([1, 2, 3, 4])[needed]
    rows, kept = np.array([5, 6, 7, 8])[needed], np.array([5, 6, 7, 4])[needed]
    active = Active(np.array([0, len(expert)]), needed, rows, kept, weight)
    made = Activations(expert, hit, launch, wait, np.full_like(expert, -1), form)
    how = How(FORMS, overlaps, pads, np.zeros(FORMS.shape[1], np.bool_))
    counts = np.ones((1, 2, 1, MISSED + FORMS.shape[1]), np.int64)
    counts[:, 1] = 0
    layout: Layout = lay_out(how, active, made, late, np.array([streamed]), 4, counts, (1, 0))
    assert (counts[:, 0] == 1).all()
    assert layout.all_rows.tolist() == counts[:, 1, 0, ROWS].tolist()
    return layout, counts[0, 1, 0]


def lists(layout: Layout, *names: str) -> list[Any]:
    return [getattr(layout, name).tolist() for name in names]


ALL = ((2, True, 0, -1, LOADED), (0, False, 0, -1, LOADED), (1, False, 1, 0, LOADED),
       (3, False, 1, -1, HOSTED))  # fmt: skip
"""A hit and a miss in the first launch; a miss that takes a slot of theirs, by rule (b), and so
begins the second; and one that the host computes."""


def test_launches_copies_and_the_host() -> None:
    layout = laid(*ALL)
    assert lists(layout, "rows", "loaded") == [[7, 5, 6, 8], [False, True, True, False]]
    assert lists(layout, "on_gpu", "gpu_rows", "starts", "read") == [
        [0, 1, 2], [7, 5, 6], [0, 2], [0, 0],
    ]  # fmt: skip
    assert lists(layout, "copied", "copy_launch", "copy_wait") == [[0, 1], [0, 1], [-1, 0]]
    assert lists(layout, "hosted", "hosted_rows") == [[3], [8]]
    assert lists(layout, "step_launches", "step_hosted", "step_copies") == [[0, 2], [0, 1], [0, 2]]


def test_counts() -> None:
    _, counts = counted(*ALL)
    of_all = [ACTIVATIONS, HITS, ACCESS_HITS, ROWS, KEPT_ROWS]
    assert counts[of_all].tolist() == [4, 1, 7, 7 + 5 + 6 + 8, 7 + 5 + 6 + 4]
    assert counts[MISSED:].tolist() == [2, 1, 0, 0]
    assert counts[[LATE, UNNEEDED, SKIPPED_ROWS]].tolist() == [0, 0, 0]


@pytest.mark.parametrize(("overlaps", "waits"), [(True, -1), (False, 0)])
def test_a_copy_beside_no_kernel_waits_for_the_launch_before(overlaps: bool, waits: int) -> None:
    """Copies of a launch start after the launch before."""
    layout = laid((2, True, 0, -1, LOADED), (1, False, 1, -1, LOADED), overlaps=overlaps)
    assert layout.copy_wait.tolist() == [waits]


def test_block_sparse_rounds_rows_up_but_those_of_the_host() -> None:
    layout, counts = counted(*ALL, pads=True)
    assert lists(layout, "rows", "gpu_rows", "hosted_rows") == [
        [128, 128, 128, 8], [128, 128, 128], [8],
    ]  # fmt: skip
    assert counts[ROWS] == 3 * 128 + 8


def test_a_streamed_layer_is_copied_whole_before_its_first_launch() -> None:
    """Every activation is a miss, and a load; experts 0 and 3 are not needed."""
    misses = (1, False, 0, -1, LOADED), (2, False, 0, -1, LOADED)
    layout, counts = counted(*misses, streamed=True)
    assert lists(layout, "copied", "copy_launch", "copy_wait") == [[0, 1, 2, 3], [0] * 4, [-1] * 4]
    assert layout.loaded.tolist() == [True, True]
    assert counts[[HITS, MISSED + LOADED, UNNEEDED]].tolist() == [0, 2, 2]


def test_what_is_read_over_the_link_is_not_copied() -> None:
    layout = laid((0, True, 0, -1, LOADED), (1, False, 0, -1, READ), (2, False, 0, -1, READ))
    assert lists(layout, "starts", "read", "copied") == [[0], [2], []]
    assert not layout.loaded.any()


def test_what_is_skipped_has_no_rows_and_loses_its_weight() -> None:
    layout, counts = counted((0, True, 0, -1, LOADED), (3, False, 0, -1, SKIPPED))
    assert lists(layout, "rows", "on_gpu", "hosted") == [[5, 0], [0], []]
    assert counts[[SKIPPED_ROWS, SKIPPED_WEIGHT, ROWS]].tolist() == [4, 4, 5]


def test_a_late_activation_is_no_hit_and_no_copy() -> None:
    hits = (0, True, 0, -1, LOADED), (1, True, 0, -1, LOADED)
    layout, counts = counted(*hits, late=np.array([False, True]))
    assert counts[[HITS, LATE, ACCESS_HITS]].tolist() == [1, 1, 5]
    assert layout.copied.tolist() == []


def test_active_are_local_experts_with_rows_in_passes_that_run_the_layer() -> None:
    """Experts 1 and 3 are local, 0 and 1 here. The last pass runs another layer."""
    rows = np.array([[[0, 3, 1, 2]], [[1, 1, 0, 0]], [[9, 9, 9, 9]]])
    tables, runs = Tables(rows, rows - 1, rows * 10), np.array([True, True, False])
    active = find_active(tables, 0, runs, np.array([1, 3]), every=False)
    assert [part.tolist() for part in active] == [
        [0, 2, 3, 3], [0, 1, 0], [3, 2, 1], [2, 1, 0], [30, 20, 10], [],
    ]  # fmt: skip


def test_gatings_that_pad_need_every_local_expert() -> None:
    rows = np.array([[[0, 3, 1, 0]]])
    tables = Tables(rows, rows, np.zeros((0, 1, 4), np.int64))
    active = find_active(tables, 0, np.array([True]), np.array([1, 3]), every=True)
    assert [part.tolist() for part in active] == [[0, 2], [0, 1], [3, 0], [3, 0], [], []]


def test_rows_move_to_the_one_with_most_gate_weight_that_is_computed() -> None:
    """Expert 3 has most, but is left out itself: its 8 rows go to 2, of weight 3, which has 7."""
    expert, hit = np.arange(4), np.array([True, True, True, False])
    form = np.array([LOADED, LOADED, LOADED, len(FORMS[0])])
    forms = np.concatenate((FORMS, np.zeros((len(FORMS), 1), np.bool_)), axis=1)
    forms[NOWHERE, -1] = True
    moves = np.arange(forms.shape[1]) == forms.shape[1] - 1
    kept = np.array([5, 6, 7, 8])
    active = Active(np.array([0, 4]), expert, kept, kept, np.array([1, 2, 3, 4]))
    launch, none = np.array([0, 0, 0, -1]), np.full(4, -1)
    made = Activations(expert, hit, launch, none, none, form)
    counts = np.zeros((1, 1, 1, MISSED + forms.shape[1]), np.int64)
    how = How(forms, True, False, moves)
    layout = lay_out(how, active, made, NOT_LATE, np.array([False]), 4, counts, (0, 0))
    assert layout.gpu_rows.tolist() == [5, 6, 15]
    assert layout.rows.tolist() == [5, 6, 15, 0]
