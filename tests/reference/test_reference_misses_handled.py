"""Misses that are not loaded, every nanosecond worked by hand (docs/semantics.md, "Misses")."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from .prices import ToyPrices
from .reference import reference
from .reference_words import Config, Kernels, Layer, Model, Software, Span, Verdict
from .scenes import activations_of, log, scene
from .scenes import launches as launches_of
from .test_reference_timeline import HandPrices, decode


def model(experts: int, top_k: int, expert_bytes: int = 100) -> Model:
    """One MoE layer; a row is 20 bytes."""
    return Model([Layer(0, moe=True)], experts, top_k, 10, 2, expert_bytes)


def places(verdict: Verdict, step: int = 0) -> list[str]:
    return [activation.place for activation in activations_of(verdict, step)]


def spent(verdict: Verdict) -> dict[str, int]:
    """What is not zero."""
    return {name: value for name, value in verdict.time_ns.items() if value}


def test_a_host_that_is_slower_than_the_gpu() -> None:
    """3 requests; of 4 experts the most used, 0 and 3, are resident, and the host computes 1, 2."""
    trace = decode([[[0, 2]], [[0, 3]], [[1, 3]]], first=[10, 20, 30])
    config = Config(batch_size=3, slots=2, initial="most_used", first_part=1, miss="cpu")
    verdict = reference(trace, model(4, 2), config, HandPrices())
    # attention 100 + (11 + 21 + 31) = 163; gate 30 + 6: 199; shared until 204
    # counts known at 199 + 7 = 206: host 2
    # launch [0, 3], rows 2, 2: 20 + 60 + 8 = 88: 294
    # the host: 2 rows of 20 bytes down 7: 213; experts 1 and 2, 150 + 10 each: 533;
    #   40 bytes up 50 + 40: 623. The GPU waits 623 - 294 = 329
    # unpermute 6: 629; head 40: 669
    assert verdict.duration_ns == 669
    assert verdict.spans == [
        Span(0, 0, 0, "compute", (0, 3), 206, 294),
        Span(0, 0, 0, "host", (1, 2), 206, 623),
    ]
    assert spent(verdict) == {
        "attention": 163 + 40,
        "gate": 36,
        "dispatch_combine": 6,
        "experts": 5 + 88,
        "host": 2,
        "waiting_for_cpu": 329,
    }
    assert (verdict.hits, verdict.misses, verdict.host_activations) == (2, 2, 2)
    assert (verdict.zero_copy_activations, verdict.bytes_h2d) == (0, 0)
    assert [(r["host_activations"], r["cpu_wait_ns"]) for r in verdict.layers] == [(2, 329)]


def test_the_host_begins_once_a_layer() -> None:
    """The same with a start of 9: two experts, one start."""
    trace = decode([[[0, 2]], [[0, 3]], [[1, 3]]], first=[10, 20, 30])
    config = Config(batch_size=3, slots=2, initial="most_used", first_part=1, miss="cpu")
    verdict = reference(trace, model(4, 2), replace(config, host_start_ns=9), HandPrices())
    assert verdict.duration_ns == 669 + 9
    assert spent(verdict)["waiting_for_cpu"] == 329 + 9


def test_a_host_that_is_faster_than_the_gpu() -> None:
    """As above with 3 of 5 experts resident; the host is done before the launch."""
    trace = decode([[[0, 2]], [[0, 3]], [[0, 4]]], first=[10, 20, 30])
    launches = Software(kernels=Kernels(expert=1), launch_ns=100)
    config = Config(
        batch_size=3,
        slots=3,
        initial="most_used",
        first_part=1,
        miss="cpu",
        kernels="serial",
        software=launches,
    )
    verdict = reference(trace, model(5, 2), config, HandPrices(cpu_start=5))
    # counts known at 206, as above. Serial kernels: expert 0, 3 rows, 56: 262; 2, 52: 314;
    #   3, 52: 366. The host: down 7, expert 4 5 + 10, up 50 + 20: 206 + 92 = 298 < 366
    # unpermute 6: 372; head 40: 412. Launches of 3 kernels, none for expert 4: 206 + 300 = 506
    assert verdict.duration_ns == 506
    assert verdict.spans[-1] == Span(0, 0, 0, "host", (4,), 206, 298)
    assert spent(verdict) == {
        "attention": 163 + 40,
        "gate": 36,
        "dispatch_combine": 6,
        "experts": 5 + 160,
        "host": 2 + 94,
    }


@pytest.mark.parametrize(
    ("uploads", "how", "time", "duration"),
    [
        # Expert 0: load 150 + (20 + 30 + 2) = 202 <= host 160 + 7 + (50 + 20) = 237, C = 150.
        # Expert 1: load 352 > host 237.
        # copy 130-280 (stall 150), launch [0] 52: 332; the host 130 + 7 + 160 + (50 + 20) = 367
        (None, ["load", "host"], (57, 150, 35), 367 + 42),
        (1, ["load", "host"], (57, 150, 35), 367 + 42),
        # No launch at all: the host 130 + 7 + 2 x 160 + (50 + 40) = 547, waited for from 130
        (0, ["host", "host"], (5, 0, 417), 547 + 42),
    ],
)
def test_cheapest(
    uploads: int | None, how: list[str], time: tuple[int, int, int], duration: int
) -> None:
    """One request, two misses. Attention 111, gate 12: 123; shared until 128; known at 130."""
    trace = decode([[[0, 1]]], first=[10])
    config = Config(slots=2, miss="cheapest", uploads=uploads)
    verdict = reference(trace, model(3, 2), config, HandPrices())
    assert places(verdict) == how
    names = ("experts", "waiting_for_weights", "waiting_for_cpu")
    assert tuple(verdict.time_ns[name] for name in names) == time
    assert verdict.duration_ns == duration  # unpermute 2, head 40
    assert verdict.bytes_h2d == 100 * how.count("load")
    assert verdict.host_activations == how.count("host")


@pytest.mark.parametrize(
    ("cpu_start", "uploads", "how"),
    [
        # h = 160 + H. 0: 202 > 160, H = 160. 1: 202 <= 320, C = 150. 2: 352 > 320, H = 320.
        # 3: 352 <= 480
        (73, None, ["host", "load", "host", "load"]),
        (73, 1, ["host", "load", "host", "host"]),
        # h = 202 + H. 0: equal, so it is loaded, C = 150. 1: 352 > 202, H = 202.
        # 2: 352 <= 404, C = 300. 3: 502 > 404
        (115, None, ["load", "host", "load", "host"]),
        # h = 201 + H. 0: 202 > 201, H = 201. 1: 202 <= 402, C = 150. 2: 352 <= 402, C = 300.
        # 3: 502 > 402
        (114, None, ["host", "load", "load", "host"]),
        (114, 1, ["host", "load", "host", "host"]),
    ],
)
def test_cheapest_sums_up_copies_and_host_time(
    cpu_start: int, uploads: int | None, how: list[str]
) -> None:
    """One row each: l = C + 150 + 52, h = H + (cpu_start + 10) + 7 + (50 + 20)."""
    trace = decode([[[0, 1, 2, 3]]], first=[10])
    config = Config(slots=4, miss="cheapest", uploads=uploads)
    verdict = reference(trace, model(5, 4), config, HandPrices(cpu_start=cpu_start))
    assert places(verdict) == how


@pytest.mark.parametrize(("cpu_start", "how"), [(87, "load"), (86, "host")])
def test_cheapest_copies_the_rows_of_this_expert_alone(cpu_start: int, how: str) -> None:
    """Expert 0 has 2 of 4 rows: 150 + (20 + 30 + 4) against cpu_start + 20 + 7 + (50 + 40)."""
    trace = decode([[[0, 1]], [[0, 2]]], first=[10, 20])
    config = Config(batch_size=2, slots=2, miss="cheapest")
    verdict = reference(trace, model(4, 2), config, HandPrices(cpu_start=cpu_start))
    assert places(verdict)[0] == how


@pytest.mark.parametrize("uploads", [None, 1])
def test_cheapest_starts_anew_in_every_step(uploads: int | None) -> None:
    """202 <= 287, C = 150; 352 > 287. From C = 150 and H = 287 both were loaded: 502 <= 574."""
    trace = decode([[[0, 1], [2, 3]]], first=[10])
    config = Config(slots=2, miss="cheapest", uploads=uploads)
    verdict = reference(trace, model(5, 2), config, HandPrices(cpu_start=200))
    assert places(verdict, 0) == places(verdict, 1) == ["load", "host"]


# Attention 111, gate 12: 123; shared until 128; known at 130. Launch [0, 1]: 20 + 60 + 4 = 84.
# The software copies an expert in two pieces, which a kernel that reads it does not.
@pytest.mark.parametrize(
    ("expert_bytes", "longer", "duration"),
    [
        (100, 166, 130 + 250 + 42),  # one copy of 200 bytes: 50 + 200 = 250 > 84
        (10, 0, 130 + 84 + 42),  # 50 + 20 = 70 < 84
    ],
)
def test_zero_copy(expert_bytes: int, longer: int, duration: int) -> None:
    trace = decode([[[0, 1]]], first=[10])
    software = Software(
        copies_per_expert=2, pinned=False, states_pinned=False, host_per_copy_ns=500, blocking=True
    )
    config = Config(slots=2, miss="zero_copy", software=software)
    verdict = reference(trace, model(3, 2, expert_bytes), config, HandPrices())
    assert verdict.spans == [Span(0, 0, 0, "compute", (0, 1), 130, duration - 42)]
    assert spent(verdict) == {
        "attention": 151,
        "gate": 12,
        "dispatch_combine": 2,
        "experts": 5 + 84,
        "host": 2,
        **({"waiting_for_weights": longer} if longer else {}),
    }
    assert verdict.duration_ns == duration
    assert (verdict.misses, verdict.zero_copy_activations, verdict.host_activations) == (2, 2, 0)


def test_zero_copy_after_the_residents() -> None:
    trace = decode([[[0, 1, 2]]], first=[10])
    config = Config(slots=1, initial="most_used", order="resident_first", miss="zero_copy")
    verdict = reference(trace, model(4, 3), config, HandPrices())
    # attention 111; gate 13: 124; shared until 129; known at 131
    # launch [0] 52: 183. Launch [1, 2]: 84 of the kernel, 250 of the link: 433; unpermute 3; head
    # 40
    assert verdict.spans == [
        Span(0, 0, 0, "compute", (0,), 131, 183),
        Span(0, 0, 0, "compute", (1, 2), 183, 433),
    ]
    assert (verdict.stall_ns, verdict.duration_ns) == (166, 476)


def test_two_gpus_meet_at_combine_when_the_host_of_one_has_ended() -> None:
    """4 experts on 2 GPUs, the most used of each resident: only expert 3 of GPU 1 is not."""
    trace = decode([[[0, 2]], [[2, 3]]], first=[4, 9])
    config = Config(batch_size=2, gpus=2, slots=1, initial="most_used", first_part=1, miss="cpu")
    verdict = reference(trace, model(4, 2), config, HandPrices())
    # attention until 105 and 110; gate 10: 115, 120; reordering 2: 117, 122; shared: 122, 127
    # counts exchanged from 120, beside the reordering: 30 + 8 + 2 x 8 = 54: 174; told 7: 181
    # dispatch: GPU 0 sends 1 row: 181 + 30 + 20 = 231
    # GPU 0: launch [0] 52: 283. GPU 1: launch [2], 2 rows, 54: 285; its host from 231, when
    # dispatch
    #   has ended: 7 + 160 + 70: 468. GPU 1 waits for it 183, and GPU 0 waits for GPU 1 185
    # combine: GPU 1 sends 1 row: 468 + 30 + 2 x 20 = 538; unpermute 2: 540; head 40: 580
    assert verdict.duration_ns == 580
    assert Span(0, 0, 1, "host", (3,), 231, 468) in verdict.spans
    assert spent(verdict) == {
        "attention": 145 + 150,
        "gate": 24,
        "dispatch_combine": (52 + 50 + 70 + 2) + (47 + 50 + 70 + 2),
        "experts": (5 + 52) + (5 + 54),
        "host": 7 + 7,
        "waiting_for_gpus": 185,
        "waiting_for_cpu": 183,
    }
    of_gpu = [(r["barrier_ns"], r["cpu_wait_ns"]) for r in verdict.layers]
    assert of_gpu == [(185, 0), (0, 183)]


def play_cheapest(steps: list[list[int]], **choices: Any) -> Verdict:
    """The first miss of a step is the host's, a second is loaded.

    A row of 1 byte: l = C + 34 + 33; h = H + (1 + 29 + 23) + 1 + 1. 67 > 55, but 67 <= 110.
    """
    trace, toy = scene(steps, 4)
    return reference(trace, toy, Config(miss="cheapest", **choices), ToyPrices(copy_latency=0))


def test_launches_form_as_if_the_activations_of_the_host_were_not_there() -> None:
    verdict = play_cheapest([[0, 1], [0, 1, 2]], slots=1)
    assert log(verdict, 0) == [(0, "", None), (1, "free", None)]
    # 0 by the host; 1 hits; 2 is loaded over 1 (b), whose launch it ends
    assert log(verdict, 1) == [(0, "", None), (1, "", None), (2, "b", 1)]
    assert launches_of(verdict, 1) == [[1], [2]]


@pytest.mark.parametrize(
    ("policy", "victim"),
    [
        ("lru", 1),  # 1 was used before 2
        ("fifo", 1),  # and loaded before it
        ("lfu", 2),  # twice on the host and once loaded, against once
        ("lfu_decay", 1),  # once both, for it does not see activations of the host: the lowest id
        ("arc", 1),  # in T1 both: what the host computed was not seen
    ],
)
def test_activations_of_the_host_count_for_the_frequency_but_take_no_slot(
    policy: str, victim: int
) -> None:
    """0 misses in every step and goes to the host, so that the other is loaded."""
    steps = [[1], [1], [0, 1], [0, 2], [0, 3]]
    verdict = play_cheapest(steps, slots=2, policy=policy)
    assert [log(verdict, s)[0][1:] for s in range(5)] == [("", None)] * 5
    assert [log(verdict, s)[1] for s in (2, 3)] == [(1, "free", None), (2, "free", None)]
    assert log(verdict, 4)[1] == (3, "a", victim)
    assert verdict.host_activations == 5
