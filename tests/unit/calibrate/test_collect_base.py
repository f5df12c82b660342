import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.calibrate.collect.base_profile import base_text
from moesim.calibrate.collect.cuda import QUERIED, queried
from moesim.calibrate.collect.peaks import peaks_of
from moesim.calibrate.tables.limits import within
from moesim.hardware import load_hardware
from moesim.hardware.measurements.validate import LINE, valid

CACHE = 32 * 2**20
FACTS = {
    "kind": "cpu",
    "cache_bytes": CACHE,
    "device_memory_bytes": 2**34,
    "memory_bytes": 2**34,
    "multiprocessors": 1,
    "numa_nodes": 1,
    "cores": 4,
}
GPU = FACTS | {"kind": "cuda", "multiprocessors": 20, "pcie_bytes_per_s": 16 * 1.969e9}


def table(rows):
    frame = pd.DataFrame(rows)
    frame[LINE] = np.arange(1, len(frame) + 1)
    clean, findings = valid(frame)
    assert findings == []
    return clean


def gemm(m, n, k, latency_ns, dtype="fp32"):
    return {"op": "gemm", "dtype": dtype, "m": m, "n": n, "k": k, "latency_ns": latency_ns}


def expert(tokens, latency_ns, hidden=512, inter=1024):
    shape = {"tokens": tokens, "hidden": hidden, "inter": inter, "experts": 1, "top_k": 1}
    return {"op": "moe", "dtype": "fp32", **shape, "latency_ns": latency_ns}


def copy(op, size, latency_ns, pinned=False, warm=False):
    columns = {"op": op, "bytes": size, "gpus": 1, "pinned": pinned, "l2_warm": warm}
    return {**columns, "latency_ns": latency_ns}


def loaded(rows, tmp_path, facts=FACTS):
    clean = table(rows)
    path = tmp_path / "base.yaml"
    peaks = peaks_of(clean, facts["cache_bytes"], facts["kind"] == "cpu")
    path.write_text(base_text("made", peaks, facts))
    return clean, load_hardware(str(path))


def test_the_numbers_are_the_best_that_was_measured(tmp_path):
    rows = [
        gemm(1024, 1024, 1024, 2e7),
        gemm(1, 4096, 16384, 2e7),
        gemm(1, 4096, 32768, 4.4e7),
        copy("copy_h2d", 256, 1000),
        copy("copy_h2d", 64_000_000, 8_001_000),
        copy("copy_h2d", 65536, 1000, warm=True),
        {"op": "launch", "kernel_source": "eager", "latency_ns": 1500},
    ]
    _, profile = loaded(rows, tmp_path)
    sheet = profile.datasheet
    assert sheet.compute.fp32.value == pytest.approx(2 * 1024**3 / 2e7 * 1e9, rel=1e-3)
    assert sheet.memory_bandwidth.value == pytest.approx(4096 * 16384 * 4 / 2e7 * 1e9, rel=1e-3)
    assert sheet.bandwidth_fraction.value == pytest.approx((1 + 2 * 2 / 4.4) / 2, rel=1e-3)
    assert sheet.kernel_start.value == 1500
    assert sheet.copies.h2d.pageable.latency.value == 1000
    assert sheet.copies.h2d.pageable.bandwidth.value == pytest.approx(8e9, rel=1e-3)
    assert sheet.copies.d2h.pinned.bandwidth.value == pytest.approx(8e9, rel=1e-3)
    assert sheet.pcie.value == pytest.approx(65.54e9, rel=1e-3)
    assert profile.sources[sheet.copies.d2h.pinned.bandwidth.source].startswith("the copy of")
    assert profile.sources[sheet.compute.fp16.source].startswith("prior")


@given(
    products=st.lists(
        st.tuples(st.integers(1, 4096), st.integers(1, 8192), st.integers(1, 8192)), max_size=6
    ),
    experts=st.lists(st.integers(1, 512), max_size=4),
    copies=st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(1, 2**28)), max_size=6),
    seed=st.integers(0, 1000),
)
def test_no_row_of_the_table_is_beyond_its_own_base_profile(
    products, experts, copies, seed, tmp_path_factory
):
    random = np.random.default_rng(seed)
    rows = [{"op": "launch", "kernel_source": "eager", "latency_ns": 900.0}]
    rows += [gemm(m, n, k, 10 ** random.uniform(4, 7)) for m, n, k in set(products)]
    rows += [expert(tokens, 10 ** random.uniform(4, 7), 2048, 8192) for tokens in set(experts)]
    rows += [
        copy(
            "copy_h2d" if h2d else "copy_d2h", size, max(10 ** random.uniform(3, 7), least), pinned
        )
        for h2d, pinned, size in set(copies)
        for least in [size / 1e4]  # no slot moves more than 10 TB/s
    ]
    for facts in (FACTS, GPU):
        clean, profile = loaded(rows, tmp_path_factory.mktemp("base"), facts)
        assert [f for f in within(clean, profile)[1] if "faster" in f.what] == []


def test_a_gpus_slot_is_the_drivers_unless_a_copy_was_faster(tmp_path):
    slow = [copy("copy_h2d", 2**28, 2**28 / 20.0, pinned=True)]
    _, profile = loaded(slow, tmp_path, GPU)
    assert profile.datasheet.pcie.value == pytest.approx(31.5e9, rel=1e-2)
    fast = [copy("copy_h2d", 2**28, 2**28 / 40.0, pinned=True)]
    _, profile = loaded(fast, tmp_path, GPU)
    assert profile.datasheet.pcie.value == pytest.approx(40e9, rel=1e-2)


def test_peers_faster_than_the_slot_are_on_nvlink(tmp_path):
    peer = {"op": "copy_p2p", "bytes": 2**28, "gpus": 2}
    rows = [peer | {"bytes": 256, "latency_ns": 9e3}, peer | {"latency_ns": 2**28 / 200}]
    _, profile = loaded(rows, tmp_path, GPU)
    assert profile.datasheet.peers.kind == "nvlink"
    assert profile.datasheet.peers.latency.value == 9e3


def test_what_the_driver_says_is_read_by_name():
    values = ["570.1", "1980 MHz", "2619 MHz", "345 MHz", "700.00 W", "5", "16", "Enabled"]
    told = queried(lambda: ", ".join(values) + "\n" + ", ".join(values))
    assert told == dict(zip(QUERIED, values, strict=True))
    assert queried(lambda: "") == {}
    assert queried(lambda: "No devices were found") == {}
