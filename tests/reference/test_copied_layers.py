"""Layers that are copied to the GPU as wholes in every pass: engines, reference, laws."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, given

from .agreement import agree, verdict_of
from .prices import ToyPrices
from .reference_words import Config, Kernels, Layer, Model, Software
from .strategies import Case, few
from .strategies_host import copied_layer_cases
from .test_reference_timeline import decode


@few
@given(copied_layer_cases())
def test_both_engines_and_the_reference_agree(case: Case) -> None:
    agree(case)


@few
@given(copied_layer_cases())
def test_copies_add_their_own_time_where_the_host_has_none(case: Case) -> None:
    """One GPU whose host is never late waits for each copy, and all else is as without them."""
    assume(not case.config.reads_layers)
    idle = replace(Software(), pinned=case.config.software.pinned)
    case = replace(case, config=replace(case.config, software=idle))
    copied, alone = verdict_of(case), verdict_of(case, copied_layers=0)
    spent = copied.time_ns.pop("layer_copies")
    assert copied.time_ns == alone.time_ns
    assert copied.duration_ns == alone.duration_ns + spent
    assert copied.bytes_h2d == alone.bytes_h2d + copied.copied_bytes
    assert (copied.hits, copied.misses) == (alone.hits, alone.misses)


def test_by_hand() -> None:
    """Two steps of a dense layer of 1 + 100 bytes and of a mixture of 1 + 5 x 100.

    A copy is 17 + bytes / 3, rounded up: 51 and 184. The host is never late: it launches for 10 ns
    a layer, and the first copy hides that of its own layer.
    """
    model = Model([Layer(0, moe=False), Layer(1, moe=True)], 5, 1, 10, 2, 100)
    trace = decode([[[0], [1]]], first=[10])
    software = Software(kernels=Kernels(attention=1), launch_ns=10.0)
    one = agree(Case(trace, model, Config(copied_layers=1, software=software), ToyPrices()))
    both = agree(Case(trace, model, Config(copied_layers=2, software=software), ToyPrices()))
    assert one.time_ns["layer_copies"] == 2 * 51
    assert both.time_ns["layer_copies"] == 2 * (51 + 184)
    assert (one.bytes_h2d, both.bytes_h2d) == (2 * 101, 2 * (101 + 501))
    assert (both.hits, both.misses, both.stall_ns) == (2, 0, 0)


def test_its_experts_need_no_slots_and_no_decision() -> None:
    """Beside a layer with two slots of five: its own accesses are hits, and nothing waits for its
    counts.
    """
    model = Model([Layer(0, moe=True), Layer(1, moe=True)], 5, 1, 10, 2, 100)
    trace = decode([[[0], [1], [2], [0]]], first=[10])
    trace["expert_ids"] = [[one, one] for (one,) in trace["expert_ids"]]  # of both layers
    software = Software(synchronisation_ns=1000.0)
    config = Config(copied_layers=1, slots=[None, 2], software=software)
    verdict = agree(Case(trace, model, config, ToyPrices()))
    assert (verdict.hits, verdict.misses) == (4, 4)
    apart = agree(Case(trace, model, replace(config, copied_layers=0), ToyPrices()))
    assert verdict.time_ns["host"] == apart.time_ns["host"] > 4 * 1000


def test_what_is_read_in_place_by_hand() -> None:
    """Two steps read one expert each of five, 17 + 34, and the rest of the layer, 17 + 1.

    The kernel of one row alone is 11 + 13 + 5 + 3 + 1 + 0: the link is the longer by 18.
    """
    model = Model([Layer(0, moe=True)], 5, 1, 10, 2, 100)
    trace = decode([[[0], [1]]], first=[10])
    config = Config(
        copied_layers=1, slots=[0], miss="zero_copy", software=Software(synchronisation_ns=9.0)
    )
    verdict = agree(Case(trace, model, config, ToyPrices()))
    assert verdict.time_ns["layer_copies"] == 2 * 18
    assert verdict.time_ns["waiting_for_weights"] == 2 * 18
    assert verdict.bytes_h2d == 2 * (100 + 1)
    assert (verdict.misses, verdict.time_ns["host"]) == (2, 0)
