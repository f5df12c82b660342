from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from moesim.config.amounts import dimensions as d
from moesim.config.amounts.capacity import ExpertCapacity, parse_capacity, parse_kv_capacity
from moesim.config.amounts.quantity import QuantityError
from moesim.config.params import Params
from moesim.config.units import Bandwidth, Bytes, Capacity, ComputeRate, Duration, Percent


@pytest.mark.parametrize(
    ("parse", "text", "expected"),
    [
        (d.parse_bytes, "12 GiB", 12 * 2**30),
        (d.parse_bytes, "12GiB", 12 * 2**30),
        (d.parse_bytes, "500 MB", 500_000_000),
        (d.parse_bytes, "0.1 GB", 100_000_000),
        (d.parse_bytes, "0.3 GiB", 322_122_547),
        (d.parse_bytes, "1.5 kB", 1500),
        (d.parse_bytes, "0 B", 0),
        (d.parse_bandwidth, "3.35 TB/s", 3.35e12),
        (d.parse_bandwidth, "25 GB/s", 25e9),
        (d.parse_network_rate, "100 Gb/s", 12.5e9),
        (d.parse_network_rate, "400 Gbps", 50e9),
        (d.parse_network_rate, "12.5 GB/s", 12.5e9),
        (d.parse_compute_rate, "989 TFLOP/s", 989e12),
        (d.parse_duration, "5 us", 5000.0),
        (d.parse_duration, "1.5 ms", 1.5e6),
        (d.parse_percent, "25 %", 0.25),
        (d.parse_percent, "100%", 1.0),
    ],
)
def test_amounts(parse, text, expected):
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("parse", "value", "words"),
    [
        (d.parse_bytes, "8", ("has no unit", "'12 GiB'")),
        (d.parse_bytes, 8, ("8 has no unit", "'12 GiB'")),
        (d.parse_bytes, "8 Gb", ("bits", "'1 GB'", "'8 GB'")),
        (d.parse_bytes, "8 Gbit", ("bits",)),
        (d.parse_bytes, "-4 GiB", ("negative",)),
        (d.parse_bytes, "8 gb", ("unknown unit 'gb'", "did you mean 'GB'")),
        (d.parse_bytes, "8 G", ("unknown unit 'G'", "GiB")),
        (d.parse_bytes, "1,5 GiB", ("unknown unit",)),
        (d.parse_bytes, "nan GiB", ("is not an amount of memory",)),
        (d.parse_bytes, "1e999 GiB", ("too large",)),
        (d.parse_bytes, "GiB", ("is not an amount of memory",)),
        (d.parse_bytes, None, ("is expected",)),
        (d.parse_bytes, True, ("is expected",)),
        (d.parse_bytes, [1], ("is expected",)),
        (d.parse_bandwidth, "25 Gb/s", ("bits", "'3.125 GB/s'", "'25 GB/s'")),
        (d.parse_bandwidth, "25 GB", ("unknown unit 'GB'", "'GB/s'")),
        (d.parse_bandwidth, "1e400 GB/s", ("too large",)),
        (d.parse_compute_rate, "989 TFLOPS", ("did you mean 'TFLOP/s'",)),
        (d.parse_duration, "5 sec", ("unknown unit 'sec'", "us")),
        (d.parse_percent, "25", ("has no unit", "'25 %'")),
        (d.parse_percent, 25, ("25 has no unit", "'25 %'")),
        (d.parse_percent, "120 %", ("more than 100 %",)),
        (d.parse_percent, "-1 %", ("negative",)),
        (d.REQUEST_RATE.parse, "inf", ("has no end", "{kind: at_once}")),
        (d.REQUEST_RATE.parse, float("inf"), ("has no end",)),
    ],
)
def test_wrong_amounts_say_rule_and_remedy(parse, value, words):
    with pytest.raises(QuantityError) as error:
        parse(value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("text", "capacity", "shown"),
    [
        ("8 slots/layer", ExpertCapacity("slots", 8), "8 slots/layer"),
        ("1e2 slots/layer", ExpertCapacity("slots", 100), "100 slots/layer"),
        ("1 slot/layer", ExpertCapacity("slots", 1), "1 slots/layer"),
        ("12 GiB", ExpertCapacity("bytes", 12 * 2**30), "12 GiB"),
        ("1000 MB", ExpertCapacity("bytes", 10**9), "1 GB"),
        ("12.5 %", ExpertCapacity("fraction", 0.125), "12.5 %"),
        ("all", ExpertCapacity("all", 1), "all"),
    ],
)
def test_capacities(text, capacity, shown):
    assert parse_capacity(text) == capacity
    assert str(capacity) == shown
    assert parse_capacity(capacity) is capacity


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("8", "has no unit"),
        (8, "not a capacity; write '8 slots/layer'"),
        ("8 Gb", "bits"),
        ("-4 slots/layer", "1 or more"),
        ("0 slots/layer", "1 or more"),
        ("2.5 slots/layer", "whole number"),
        ("8 slot", "unknown unit 'slot'"),
        ("25", "has no unit"),
        ("120 %", "more than 100 %"),
        ("0 %", "no room"),
        ("-3 GiB", "no room"),
        ("0.5 B", "no room"),
        ("lots", "not a capacity"),
        (None, "is empty"),
        (True, "not a capacity"),
    ],
)
def test_wrong_capacities(value, word):
    with pytest.raises(QuantityError, match=word):
        parse_capacity(value)


positive = st.floats(min_value=1e-9, max_value=1e25)


@given(st.integers(min_value=0, max_value=2**63 - 1))
def test_bytes_round_trip(value):
    assert d.parse_bytes(d.format_bytes(value)) == value


@given(positive)
def test_rates_and_times_round_trip(value):
    assert d.parse_bandwidth(d.format_bandwidth(value)) == value
    assert d.parse_network_rate(d.format_bandwidth(value)) == value
    assert d.parse_compute_rate(d.format_compute_rate(value)) == value
    assert d.parse_duration(d.format_duration(value)) == value


@given(st.floats(min_value=0, max_value=1))
def test_percent_round_trip(value):
    assert d.parse_percent(d.format_percent(value)) == value


@given(
    st.one_of(
        st.builds(ExpertCapacity, st.just("slots"), st.integers(1, 2**31)),
        st.builds(ExpertCapacity, st.just("bytes"), st.integers(1, 2**63 - 1)),
        st.builds(ExpertCapacity, st.just("fraction"), st.floats(1e-12, 1)),
        st.just(ExpertCapacity("all", 1)),
    )
)
def test_capacity_round_trip(capacity):
    assert parse_capacity(str(capacity)) == capacity


@given(st.text(max_size=12))
def test_any_text_is_an_amount_or_a_quantity_error(text):
    for parse in (d.parse_bytes, d.parse_duration, d.parse_percent, parse_capacity):
        with suppress(QuantityError):
            parse(text)


class Amounts(Params):
    capacity: Capacity
    memory: Bytes
    link: Bandwidth
    peak: ComputeRate
    latency: Duration
    share: Percent


def test_models_read_text_and_write_it_back():
    texts = {
        "capacity": "8 slots/layer",
        "memory": "12 GiB",
        "link": "25 GB/s",
        "peak": "989 TFLOP/s",
        "latency": "5 us",
        "share": "25 %",
    }
    amounts = Amounts.model_validate(texts)
    assert (amounts.memory, amounts.latency, amounts.share) == (12 * 2**30, 5000.0, 0.25)
    assert amounts.model_dump(mode="json") == texts


def test_models_refuse_numbers():
    with pytest.raises(ValidationError, match="12884901888 has no unit"):
        Amounts.model_validate({"memory": 12 * 2**30})


def test_one_of_a_unit_may_be_written_so():
    assert parse_kv_capacity("1 block") == parse_kv_capacity("1 blocks")
    assert d.REQUEST_RATE.parse("1 request/s") == 1
    assert d.REQUEST_RATE.format(1) == "1 requests/s"


def test_room_for_keys_and_values_may_be_a_share_of_what_is_left() -> None:
    found = parse_kv_capacity("90 %")
    assert (found.kind, found.amount, str(found)) == ("fraction", 0.9, "90 %")
    assert found.is_left
    assert not parse_kv_capacity("12 GiB").is_left
    for wrong in ("0 %", "-5 %"):
        with pytest.raises(QuantityError, match=r"write 'auto', '2588 blocks', '12 GiB' or '90 %'"):
            parse_kv_capacity(wrong)
    with pytest.raises(QuantityError, match="101 %"):
        parse_kv_capacity("101 %")
