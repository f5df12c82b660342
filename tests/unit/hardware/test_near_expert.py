"""The price of an expert that a near-memory device computes."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from moesim.config.errors import InputError
from moesim.hardware import CostModel, load_hardware
from moesim.hardware.choice import text_of
from moesim.hardware.described.near_memory import NearMemory
from moesim.hardware.described.sourced import sources_used
from moesim.hardware.described.unit_groups import UnitGroups
from moesim.hardware.layers import part_names
from moesim.model import load_model

NLLB = load_model("nllb-moe-54b")
MOE = NLLB.moe_layers[0].moe
assert MOE is not None
EXPERT = MOE.expert
DEVICE = {
    "memory": "512 GB",
    "bandwidth": "512 GB/s",
    "rate": {"bf16": "2 TFLOP/s"},
    "start": "3 us",
}
LINK = {"broadcast": "16 GB/s", "gather": "16 GB/s"}


def machine(**numbers):
    return load_hardware(text_of({"base": "rtx-4090", "near_memory": {**DEVICE, **numbers}}))


def price_ns(rows, model=NLLB, on=None, **numbers):
    """``on``: units that an expert lies on."""
    costs = CostModel(machine(**numbers).model_copy(update={"near_units": on}), model)
    return costs.price("near_expert", model.moe_layers[0], rows)


def test_an_expert_by_hand():
    """NLLB's: 2,048 x 8,192 x 2 weights, with biases 67.1 MB in bf16: 131 us at 512 GB/s; a row's
    67.1 MFLOP take 33.6 us at 2 TFLOP/s, so that 4 rows are computed sooner than it is read.
    """
    assert EXPERT.bytes == 2 * (2 * 2048 * 8192 + 8192 + 2048)
    read, row = EXPERT.bytes * 1e9 / 512e9, 2 * 2 * 2048 * 8192 * 1e9 / 2e12
    assert (round(read), round(row)) == (131_112, 33_554)
    found = price_ns(np.array([0, 1, 3, 4, 100]))
    expected = [read, read, read, 4 * row, 100 * row]
    assert found.tolist() == [round(3_000 + one) for one in expected]


def test_twice_the_bandwidth_helps_few_rows_alone():
    rows = np.array([1, 4, 512])
    once, twice = price_ns(rows), price_ns(rows, bandwidth="1024 GB/s")
    assert twice[0] - 3_000 == pytest.approx((once[0] - 3_000) / 2, abs=1)
    assert twice[1:].tolist() == once[1:].tolist()


def test_of_several_units_each_reads_a_stripe_and_all_have_the_rows():
    """Of 4 units: a quarter of the read, and 7 rows x 2,048 x 2 bytes to and from each."""
    (found,) = price_ns([1], units=4, **LINK)
    rows = 2 * (4 * 2048 * 2) * 1e9 / 16e9
    assert found == round(3_000 + EXPERT.bytes / 4 * 1e9 / 512e9 + rows)
    assert price_ns([5], units=1, **LINK) == price_ns([5]), "nothing is sent within one unit"


@pytest.mark.parametrize("rows", [1, 16, 128])
def test_more_units_do_not_scale(rows):
    """PIM-Opt (arXiv 2404.07164): its least time is at u = sqrt(time of one unit x link / (2 x rows
    x bytes of a row)).
    """
    numbers = {"bandwidth": "630 MB/s", "rate": {"bf16": "20 MFLOP/s"}, "start": "0 us", **LINK}
    (one,) = price_ns([rows], **numbers)
    best = sqrt(one / 1e9 * 16e9 / (2 * rows * 2048 * 2))
    units = {round(best * factor) for factor in (0.25, 0.5, 0.8, 1, 1.25, 2, 4)}
    found = {number: int(price_ns([rows], units=number, **numbers)[0]) for number in units}
    assert min(found, key=found.__getitem__) == round(best)
    fewer, more = round(best * 0.5), round(best * 2)
    assert found[fewer] == pytest.approx(1.25 * found[round(best)], rel=0.01)
    assert found[more] == pytest.approx(found[fewer], rel=0.01)


@pytest.mark.parametrize("rows", [1, 16])
def test_nor_do_more_of_them_for_an_expert(rows):
    """The same number, of a device that has more; an expert on each of them costs what it did."""
    slow = {"bandwidth": "630 MB/s", "rate": {"bf16": "20 MFLOP/s"}, "start": "0 us"}
    numbers = {**slow, "units": 8192, **LINK}
    best = sqrt(int(price_ns([rows], **slow)[0]) / 1e9 * 16e9 / (2 * rows * 2048 * 2))
    on = {round(best * factor) for factor in (0.25, 0.5, 0.8, 1, 1.25, 2)}
    found = {number: int(price_ns([rows], on=number, **numbers)[0]) for number in on}
    assert min(found, key=found.__getitem__) == round(best)
    for number, price in found.items():
        assert price == price_ns([rows], **{**numbers, "units": number})
    assert price_ns([rows], on=8192, **numbers) == price_ns([rows], **numbers)
    (alone,) = price_ns([rows], on=1, **numbers)
    sent = 2 * rows * 2048 * 2 / 16
    assert alone == pytest.approx(int(price_ns([rows], **slow)[0]) + sent, abs=1), "not on the link"


def test_experts_on_fewer_units_move_fewer_bytes():
    """As many times the rows of all of them, whatever each has."""
    rows = np.array([1, 0, 7, 64])
    for on in (1, 8, 64, 512, 2048, None):
        near = machine(units=2048, **LINK).model_copy(update={"near_units": on})
        price = CostModel(near, NLLB).operations["near_expert"].parts(NLLB.moe_layers[0], rows)
        sent = [part.of().amounts[0].amount.sum() for part in price if part.name in LINK]
        assert sent == [(on or 2048) * 72 * 2048 * 2] * 2


def test_groups_of_units():
    """A row of 4,096 bytes to 8 units at 16 GB/s takes 2,048 ns; 20 units are 2 groups of 8."""
    device = machine(units=20, **LINK).near_memory
    assert device.groups(8, 4096) == UnitGroups(2, 2048.0, 2048.0)
    assert device.groups(20, 4096) is device.groups(11, 4096) is device.groups(None, 4096) is None
    assert machine().near_memory.groups(1, 4096) is None


def test_what_exceeds_the_fullest_unit():
    """Six experts on pairs of eight units: two groups have two experts, and their units a half."""
    device = machine(units=8, unit_memory="10 MB", memory="1 GB", **LINK).near_memory
    assert device.overflow(np.full(6, 10_000_000), 2) is None
    said = device.overflow(np.full(6, 10_000_001), 2)
    assert "the stripes on its fullest unit, 10,000,001 bytes, exceed the 10,000,000" in said
    assert said.endswith("write more units, or other experts.miss.units_per_expert")
    assert device.overflow(np.full(6, 13_333_333)) is None, "all lie on all"


def test_rows_where_a_copy_to_the_gpu_wins():
    """The expert's bytes over the link x rate / (2 x weights): 64 rows of NLLB over 32 GB/s."""
    copied = EXPERT.bytes / 32e9
    rows = copied * 2.05e12 / (2 * 2 * 2048 * 8192)
    assert round(rows) == 64
    less, more = price_ns([63, 65], rate={"bf16": "2.05 TFLOP/s"}, start="0 us") / 1e9
    assert less < copied < more


def test_a_format_runs_in_its_own_units_or_wider_ones():
    device = machine().near_memory
    assert {device.peak(dtype) for dtype in ("bf16", "fp16", "int8", "mxfp4")} == {2e12}
    upmem = load_hardware("{base: rtx-4090, near_memory: upmem-2560}").near_memory
    assert upmem is not None
    with pytest.raises(InputError, match=r"no rate for experts in bf16; write one of bf16, fp16"):
        upmem.peak("bf16")
    assert upmem.peak("int8") == 20e6


def test_a_machine_without_a_device_has_no_price():
    with pytest.raises(InputError, match="names no near-memory device"):
        CostModel(load_hardware("rtx-4090"), NLLB).price("near_expert", NLLB.moe_layers[0], [1])


def test_units_need_a_way_to_each():
    with pytest.raises(InputError, match=r"near_memory: units: .* write broadcast and gather"):
        machine(units=4)


def test_one_memory_of_cpu_and_gpu_takes_none():
    with pytest.raises(InputError, match="shares one memory with its CPU"):
        load_hardware("{gpu: m4-max-128gb, near_memory: monde}")


def test_what_exceeds_the_device_or_a_unit():
    device = machine(units=8, unit_memory="10 MB", memory="1 GB", **LINK).near_memory
    assert device.overflow(np.array([80_000_000])) is None
    said = device.overflow(np.array([1_000_000_001]))
    assert "1,000,000,001 bytes of experts do not fit" in said
    said = device.overflow(np.array([40_000_000, 40_000_001]))
    assert "stripes of all experts, 10,000,001 bytes" in said


@pytest.mark.parametrize("name", part_names("near_memory"))
def test_every_device(name):
    found = load_hardware(f"{{base: rtx-4090, near_memory: {name}}}")
    assert isinstance(found.near_memory, NearMemory)
    for path, source in sources_used(found.near_memory):
        assert len(found.sources[source]) > 20, path
    assert ("near_memory" in found.unverified) == (name == "upmem-2560")
