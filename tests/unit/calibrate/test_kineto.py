"""Kineto traces: a made one with every kind of event, and a real one of torch on the CPU."""

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest

from moesim.calibrate.tables.importing import import_measurements
from moesim.config.errors import InputError

SAMPLE = Path(__file__).parents[2] / "data" / "calibrate" / "kineto.json"


@pytest.fixture(scope="module")
def done():
    return import_measurements(SAMPLE)


def rows(done, op):
    return done.table[done.table["op"] == op].reset_index(drop=True)


def test_copies(done):
    down, up = rows(done, "copy_d2h"), rows(done, "copy_h2d")
    assert list(up["bytes"]) == [4194304, 4194304]
    assert list(up["pinned"]) == [True, False]
    assert list(up["latency_ns"]) == [162_000, 420_250]  # the median of three; one alone
    assert (down["bytes"][0], down["pinned"][0], down["latency_ns"][0]) == (64, False, 7_500)
    assert list(rows(done, "copy_p2p")["latency_ns"]) == [15_000]
    assert set(done.table["device"]) == {"NVIDIA H100 80GB HBM3"}


def test_products_take_their_kernels_time(done):
    found = rows(done, "gemm").sort_values("m").reset_index(drop=True)
    assert list(found["dtype"]) == ["fp16", "bf16"]
    assert [tuple(shape) for shape in found[["m", "n", "k"]].to_numpy()] == [
        (8, 256, 128),
        (64, 1024, 4096),
    ]
    assert list(found["latency_ns"]) == [5_000, 13_000]  # 12, 13, and 10.5 + 3.5 us


def test_launches_and_collectives(done):
    assert list(rows(done, "launch")["latency_ns"]) == [5_000]
    assert list(rows(done, "launch")["kernel_source"]) == ["eager"]
    reduced, exchanged = rows(done, "all_reduce"), rows(done, "all_to_all")
    assert (reduced["bytes"][0], reduced["gpus"][0], reduced["dtype"][0]) == (2**20, 8, "bf16")
    assert (exchanged["bytes"][0], exchanged["latency_ns"][0]) == (2**19, 33_000)


def test_what_is_left_out_is_counted_by_its_reason(done):
    assert done.findings == []
    assert done.left_out == {
        "products of several matrices at once": 1,
        "products without shapes (profile with record_shapes)": 1,
        "products whose kernels were not recorded": 1,
        "products of a format without a price": 1,
        "copies within a GPU or within the host": 1,
        "copies without their bytes": 1,
        "copies of an unknown kind of host memory": 1,
        "launches of whole graphs": 1,
        "collectives without a price": 1,
        "collectives without sizes": 1,
    }


def test_gzipped_is_the_same(done, tmp_path):
    path = tmp_path / "trace.json.gz"
    path.write_bytes(gzip.compress(SAMPLE.read_bytes()))
    packed = import_measurements(path)
    left, right = (one.table.drop(columns="source") for one in (done, packed))
    pd.testing.assert_frame_equal(left, right)


@pytest.mark.parametrize(
    "content", ['{"schemaVersion": 1, "traceEvents": [', '{"schemaVersion": 1}']
)
def test_a_broken_trace_is_told(content, tmp_path):
    (tmp_path / "t.json").write_text(content)
    with pytest.raises(InputError, match=r"t\.json"):
        import_measurements(tmp_path / "t.json")


def test_a_cut_archive_is_told(tmp_path):
    path = tmp_path / "t.json.gz"
    path.write_bytes(gzip.compress(SAMPLE.read_bytes())[:-900])
    with pytest.raises(InputError, match="is no Kineto trace"):
        import_measurements(path)


def test_a_trace_without_measurements_gives_no_rows(tmp_path):
    content = {"schemaVersion": 1, "deviceProperties": [], "traceEvents": []}
    (tmp_path / "t.json").write_text(json.dumps(content))
    assert import_measurements(tmp_path / "t.json").table.empty


def test_torch_on_the_cpu(tmp_path):
    torch = pytest.importorskip("torch")
    first, second = torch.ones(64, 128), torch.ones(128, 32)
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, record_shapes=True) as profiler:
        for _ in range(3):
            first @ second
            torch.addmm(torch.ones(32), first, second)
            torch.bmm(torch.ones(2, 8, 16), torch.ones(2, 16, 4))
        first.bfloat16() @ second.bfloat16()
    path = tmp_path / "cpu.json.gz"
    profiler.export_chrome_trace(str(path))
    done = import_measurements(path)
    assert sorted(done.table["dtype"]) == ["bf16", "fp32"]
    shapes = done.table[["op", "m", "n", "k"]].drop_duplicates().to_numpy().tolist()
    assert shapes == [["gemm", 64, 32, 128]]
    assert (done.table["latency_ns"] > 0).all()
    assert done.left_out == {"products of several matrices at once": 3}
