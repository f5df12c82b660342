"""Copies and collectives from fits: the engine's side."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import simpy
from hypothesis import given
from hypothesis import strategies as st

from moesim.engine.des.copies import CopyGroup, CopyIn, SharedWay
from moesim.engine.des.links import FairLinks
from moesim.hardware import CostModel, load_hardware
from moesim.hardware.prices.calibrated import Calibrated, CollectiveFit, CopyFit, SizeRatios
from moesim.hardware.prices.provenance import SOURCES, Source
from moesim.model import load_model
from tests.unit.hardware.small import layer, small_model

MODEL, CARD = small_model(layer()), load_hardware("h100-sxm")
SIZES = st.lists(st.integers(1, 2**32), min_size=1, max_size=8, unique=True).map(sorted)


def number(value: object, low: object = None, high: object = None) -> Any:
    """As in a file."""
    return {"value": value, "interval": [low or value, high or value]}


def ratios_of(sizes: list[int], values: list[float], gpus: int = 1) -> SizeRatios:
    return SizeRatios(gpus=gpus, bytes=tuple(sizes), ratio=tuple(values[: len(sizes)]))


def copy_fit(*ratios: SizeRatios, op: str = "copy_h2d", pinned: bool = True) -> CopyFit:
    seen = (ratios[0].bytes[0], ratios[0].bytes[-1]) if ratios else (256, 2**30)
    return CopyFit(
        source="fit-1",
        points=4,
        shapes=4,
        op=op,
        pinned=pinned,
        measured={"bytes": seen},
        start=number("6 us"),
        bandwidth=number("25 GB/s"),
        fill=number("4 us"),
        half=number("64 kB"),
        ratios=ratios,
    )


def all_to_all_fit(*ratios: SizeRatios) -> CollectiveFit:
    return CollectiveFit(
        source="fit-1",
        points=9,
        shapes=9,
        op="all_to_all",
        measured={"bytes": (512, 2**20), "gpus": (2, 4)},
        start=number("6 us"),
        step=number("0.5 us"),
        bandwidth=number("300 GB/s"),
        scaling=number(1.1, 1.0, 1.2),
        fill=number("7 us"),
        half=number("64 kB"),
        ratios=ratios,
    )


def costs_with(**fits: Any) -> CostModel:
    return CostModel(CARD.model_copy(update={"calibrated": Calibrated(**fits)}), MODEL)


def source_of(found: np.ndarray) -> str:
    assert np.count_nonzero(found) == 1
    return SOURCES[int(np.argmax(found))]


def test_a_copy_by_hand() -> None:
    costs = costs_with(copies=(copy_fit(),))
    assert costs.copy_ns(64_000, "h2d") == 6000 + 2560 + 2000
    assert costs.copy_ns(0, "h2d") == 0
    three = costs.copy_ns(3 * 64_000, "h2d", copies=3)
    assert three == 3 * (6000 + 2560 + 2000)
    assert costs.copy_ns(6_400_000, "h2d") < costs.copy_ns(6_400_000, "h2d", copies=2)


def test_other_copies_stay_on_the_datasheet_to_the_nanosecond() -> None:
    costs, plain = costs_with(copies=(copy_fit(),)), costs_with()
    kinds: list[tuple[Literal["d2h", "h2d"], bool]] = [
        ("d2h", True),
        ("h2d", False),
        ("d2h", False),
    ]
    for size in (1, 999, 12_345_678):
        for direction, pinned in kinds:
            expected = plain.copy_ns(size, direction, pinned, 2)
            assert costs.copy_ns(size, direction, pinned, 2) == expected
    found = costs.provenance("copy", [5.0], 999, "d2h", True, 1)
    assert source_of(found) == "datasheet"


def test_what_a_copy_rests_on() -> None:
    costs = costs_with(copies=(copy_fit(ratios_of([1000, 4000], [1.1, 0.9])),))
    for size, expected in ((1000, "measured"), (2000, "interpolated"), (4001, "outside")):
        assert source_of(costs.provenance("copy", [7.0], size, "h2d", True, 1)) == expected
    assert source_of(costs.provenance("copy", [7.0], 4000, "h2d", True, 4)) == "measured"
    fitted = costs_with(copies=(copy_fit(),)).provenance("copy", [7.0], 300, "h2d", True, 1)
    assert fitted[Source.FITTED] == 7.0


def test_a_measured_size_has_its_measured_time() -> None:
    fit = copy_fit(ratios_of([64_000, 640_000], [1.1, 0.95]))
    costs = costs_with(copies=(fit,))
    formula = costs_with(copies=(copy_fit(),))
    for size, ratio in ((64_000, 1.1), (640_000, 0.95)):
        expected = formula.copy_ns(size, "h2d") * ratio
        assert costs.copy_ns(size, "h2d") == pytest.approx(expected, abs=2)


@given(sizes=SIZES, values=st.lists(st.floats(0.3, 3), min_size=8, max_size=8), data=st.data())
def test_more_bytes_never_take_less(sizes: list[int], values: list[float], data: object) -> None:
    """Whatever was measured, a time that a larger size beats included."""
    costs = costs_with(copies=(copy_fit(ratios_of(sizes, values)),))
    near = st.sampled_from([size + shift for size in sizes for shift in (-1, 0, 1)])
    size = st.integers(1, 2**33) | near.filter(lambda amount: amount > 0)
    few, more = sorted(data.draw(st.tuples(size, size)))  # type: ignore[attr-defined]
    assert costs.copy_ns(few, "h2d") <= costs.copy_ns(more, "h2d")


@given(sizes=SIZES, values=st.lists(st.floats(0.3, 3), min_size=8, max_size=8), data=st.data())
def test_a_lone_copy_takes_its_price_on_a_link_that_could_be_shared(
    sizes: list[int], values: list[float], data: object
) -> None:
    costs = costs_with(copies=(copy_fit(ratios_of(sizes, values)),))
    size = data.draw(st.sampled_from(sizes) | st.integers(1, 2**33))  # type: ignore[attr-defined]
    copies = data.draw(st.integers(1, 3))  # type: ignore[attr-defined]
    price = costs.copy_ns(size, "h2d", copies=copies)
    links, env = costs.hardware.links(1), simpy.Environment()
    fair = FairLinks(env, links.capacity)
    engine = CopyIn(env, 0, blocking=False, way=SharedWay(fair, links.h2d[0]))
    group = CopyGroup(env, 1, size, price, 0, 0)
    engine.submit(group)
    env.run()
    assert group.spans == [(0, price)]


def test_the_links_know_the_measured_rate() -> None:
    card = costs_with(copies=(copy_fit(ratios_of([2**30], [0.5])),)).hardware
    assert card.links(2).rate(1, "h2d") == pytest.approx(50e9, rel=1e-3)
    assert card.links(1).rate(0, "d2h") == card.datasheet.copy_of("d2h").bytes_per_second


def matrix(gpus: int, amount: int) -> np.ndarray:
    return np.full((1, gpus, gpus), amount // gpus)


def test_an_even_all_to_all_by_hand() -> None:
    costs = costs_with(collectives=(all_to_all_fit(),))
    two = 6000 + 32_000 / 300 + 3500
    assert costs.all_to_all_ns(matrix(2, 64_000)) == [int(np.ceil(two))]
    four = 7000 + 48_000 / 330 + 3500
    assert costs.all_to_all_ns(matrix(4, 64_000)) == [int(np.ceil(four))]
    assert costs.all_to_all_ns([[[5]]]).tolist() == [0]


def test_the_busiest_gpu_counts_in_or_out() -> None:
    costs = costs_with(collectives=(all_to_all_fit(),))
    into_one = np.array([[[9, 0], [8000, 9]]])
    assert costs.all_to_all_ns(into_one) == costs.all_to_all_ns(matrix(2, 16_000))
    assert costs.all_to_all_ns(into_one) == costs.all_to_all_ns(into_one.transpose(0, 2, 1))


def test_what_an_all_to_all_rests_on() -> None:
    costs = costs_with(collectives=(all_to_all_fit(ratios_of([512, 2048], [1.2, 1.1], gpus=4)),))
    amounts = {512: "measured", 1024: "interpolated", 2**19: "fitted", 2**21: "outside"}
    for amount, expected in amounts.items():
        assert source_of(costs.provenance("all_to_all", [3.0], matrix(4, amount))) == expected
    assert source_of(costs.provenance("all_to_all", [3.0], matrix(2, 1024))) == "fitted"
    assert source_of(costs.provenance("all_to_all", [3.0], matrix(8, 1024))) == "outside"
    plain = costs_with().provenance("all_to_all", [3.0], matrix(4, 1024))
    assert source_of(plain) == "datasheet"


@given(
    sizes=SIZES,
    values=st.lists(st.floats(0.3, 3), min_size=8, max_size=8),
    sent=st.lists(st.integers(0, 2**31), min_size=9, max_size=9),
    place=st.integers(0, 8),
    more=st.integers(0, 2**31),
)
def test_more_to_send_never_takes_less(
    sizes: list[int], values: list[float], sent: list[int], place: int, more: int
) -> None:
    costs = costs_with(collectives=(all_to_all_fit(ratios_of(sizes, values, gpus=3)),))
    less = np.array(sent).reshape(1, 3, 3)
    greater = less.copy()
    greater.flat[place] += more
    assert costs.all_to_all_ns(less)[0] <= costs.all_to_all_ns(greater)[0]


def test_logits_of_each_token_are_copied() -> None:
    """Two tokens more are two vocabularies more over the link."""
    profile, model = load_hardware("rtx-4090"), load_model("qwen3-30b-a3b")
    read = CostModel(profile, model).operations["read_logits"]
    one, three = read.price(np.array([1, 3]), 0)
    rate = profile.datasheet.copy_of("d2h").bandwidth.value
    assert three - one == pytest.approx(2 * 4 * model.vocab_size / rate * 1e9, rel=0.2)
