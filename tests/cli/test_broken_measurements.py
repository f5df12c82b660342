"""Broken measurements: one line for each mistake, exit code 2, never a traceback."""

from __future__ import annotations

import gzip
import json
import zipfile

import pandas as pd
import pytest

from moesim.calibrate.tables.intake import shipped_profile
from moesim.cli.main import main

ROW = {
    "op": "moe",
    "dtype": "bf16",
    "tokens": 16,
    "hidden": 2048,
    "inter": 768,
    "experts": 128,
    "top_k": 8,
    "latency_ns": 420_000.0,
}
HEADER = "op,dtype,tokens,hidden,inter,experts,top_k,latency_ns"
LINE = "moe,bf16,16,2048,768,128,8,420000"
COPY = {"ph": "X", "cat": "gpu_memcpy", "name": "Memcpy HtoD (Pinned -> Device)", "dur": 5}
PRODUCT = {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "dur": 5}
TESTCASE = {"name": "host_to_device_memcpy_ce"}
NCCL = "# size count type redop root time algbw busbw\n 1024 256 float sum -1 1.0.5 0.1 0.1\n"
AICONFIGURATOR = {
    "moe_dtype": "bfloat16",
    "num_tokens": 16,
    "hidden_size": 2048,
    "inter_size": 768,
    "topk": 8,
    "num_experts": 128,
    "moe_tp_size": 1,
    "moe_ep_size": 1,
    "distribution": "balanced",
    "latency": 0.4,
    "framework": "VLLM",
    "version": "0.24.0",
    "device": "NVIDIA H100",
    "kernel_source": "k",
}


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    return code, capsys.readouterr().err


def kineto(*events):
    devices = [{"id": 0, "name": "NVIDIA H100"}]
    return json.dumps({"schemaVersion": 1, "deviceProperties": devices, "traceEvents": events})


def bandwidths(**testcase):
    return json.dumps({"nvbandwidth": {"testcases": [testcase]}})


FILES = {
    "t.json.gz": gzip.compress(kineto(COPY).encode())[:-20],
    "args.json": kineto(COPY | {"args": None}),
    "bytes.json": kineto(COPY | {"args": {"bytes": "many"}}),
    "duration.json": kineto(COPY | {"args": {"bytes": 8}, "dur": "long"}),
    "shapes.json": kineto(PRODUCT | {"args": {"Input Dims": [[2, 3]]}}),
    "devices.json": json.dumps({"schemaVersion": 1, "deviceProperties": 3, "traceEvents": []}),
    "cut.json": '{"nvbandwidth": {"testcases": [',
    "list.json": '{"nvbandwidth": [1]}',
    "nameless.json": bandwidths(bandwidth_matrix=[["5.0"]]),
    "flat.json": bandwidths(**TESTCASE, bandwidth_matrix=[5.0]),
    "all_reduce.txt": NCCL,
    "moe.csv": "tokens,activated_experts,time_us\na,b,c\n",
    "h20_x.csv": "num_local_experts,tokens_per_expert,up_proj_us,down_proj_us\n1,2,3,4\n",
    "gemm_perf.parquet": "no table",
    "text.whl": "no wheel",
    "nothing.bin": b"\x00\x01",
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_not_what_it_looks_like(tmp_path, capsys, name):
    content = FILES[name]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    code, err = run(capsys, "calibrate", "import", path, "-o", tmp_path / "out.parquet")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert err.startswith(f"{path}:")


def test_a_broken_table_in_a_wheel_is_told_by_its_path(tmp_path, capsys):
    path = tmp_path / "x.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data/moe_perf.parquet", b"no table")
    code, err = run(capsys, "calibrate", "import", path, "-o", tmp_path / "out.parquet")
    assert code == 2
    assert err.startswith("x.whl/data/moe_perf.parquet: ")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"topk": 0}, "'top_k' is not a whole number above 0"),
        ({"topk": 200, "distribution": "power_law_1.2"}, "'top_k' is above 'experts'"),
        ({"num_tokens": None}, "has no 'tokens'"),
        ({"distribution": "power_law_nan"}, "no power law has the exponent nan"),
        ({"distribution": "power_law_x"}, "could not convert"),
    ],
)
def test_impossible_routing_in_a_wheels_table(tmp_path, capsys, change, words):
    path = tmp_path / "moe_perf.parquet"
    pd.DataFrame([AICONFIGURATOR | change]).to_parquet(path)
    code, err = run(capsys, "calibrate", "import", path, "-o", tmp_path / "out.parquet")
    told, *nothing = err.splitlines()
    assert words in told
    assert code == 2
    assert nothing in ([f"{path}: no row is left to write"], [])


@pytest.mark.parametrize("setting", ["gated=maybe", "bytes=-1", "bytes", "size=3"])
def test_a_broken_setting(tmp_path, capsys, setting):
    (tmp_path / "moe.csv").write_text("tokens,activated_experts,time_us\n1,8,50\n")
    out = tmp_path / "out.parquet"
    code, err = run(capsys, "calibrate", "import", tmp_path, "-o", out, "--set", setting)
    assert code == 2
    assert err.startswith(f"--set '{setting}': ")
    assert not out.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"op": ["moe"]}, "the column 'op' holds mixed values"),
        ({"device": ["a", "b"]}, "the column 'device' holds mixed values"),
        ({"tokens": [16]}, "the column 'tokens' holds mixed values"),
        ({"tokens": True}, "the column 'tokens' holds boolean values"),
        ({"latency_ns": pd.Timedelta("420us")}, "'latency_ns' holds timedelta64 values"),
        ({"tokens": 2**49, "inter": 2**40}, "the shape is too large to be one"),
        ({"dtype": "bf15"}, "did you mean 'bf16'"),
    ],
)
def test_a_table_of_wrong_types(tmp_path, capsys, change, words):
    path, out = tmp_path / "t.parquet", tmp_path / "o.parquet"
    pd.DataFrame([ROW | change]).to_parquet(path)
    for arguments in (
        ("price", "h100-sxm", "--ops", path, "-o", out),
        ("calibrate", "fit", path, "--base", "h100-sxm", "-o", tmp_path / "o.yaml"),
        ("calibrate", "check", "h100-sxm", path),
    ):
        code, err = run(capsys, *arguments)
        assert code == 2, arguments
        assert words in err
    assert not out.exists()


def test_numbers_as_text_are_numbers(tmp_path, capsys):
    path = tmp_path / "t.parquet"
    pd.DataFrame([ROW | {"tokens": "16", "latency_ns": "420000"}]).to_parquet(path)
    assert run(capsys, "calibrate", "check", "h100-sxm", path) == (0, "")


def test_lists_in_columns_of_ones_own_are_carried_along(tmp_path, capsys):
    path, out = tmp_path / "t.parquet", tmp_path / "o.parquet"
    pd.DataFrame([ROW | {"mine": [1, 2]}, ROW | {"mine": [3]}]).to_parquet(path)
    assert run(capsys, "price", "h100-sxm", "--ops", path, "-o", out) == (0, "")
    assert [list(value) for value in pd.read_parquet(out)["mine"]] == [[1, 2], [3]]
    assert run(capsys, "calibrate", "check", "h100-sxm", path) == (0, "")


@pytest.mark.parametrize("dtype", ["int2", "int3", "fp4", "fp32"])
def test_every_format_of_a_table_has_a_price(tmp_path, capsys, dtype):
    path, out = tmp_path / "t.csv", tmp_path / "o.csv"
    path.write_text(f"{HEADER}\n{LINE.replace('bf16', dtype)}\n")
    assert run(capsys, "price", "h100-sxm", "--ops", path, "-o", out) == (0, "")
    assert pd.read_csv(out)["price_ns"][0] > 0


def test_blank_lines_are_no_rows_but_count_as_lines(tmp_path, capsys):
    path, out = tmp_path / "t.csv", tmp_path / "o.csv"
    path.write_text(f"{HEADER}\n\n{LINE}\n\n{LINE}\n\n")
    assert run(capsys, "price", "h100-sxm", "--ops", path, "-o", out) == (0, "")
    assert len(pd.read_csv(out)) == 2
    path.write_text(f"{HEADER}\n\n{LINE}\n\n{LINE.replace('moe', 'mo')}\n")
    code, err = run(capsys, "price", "h100-sxm", "--ops", path, "-o", out)
    assert code == 2
    assert err.startswith(f"{path}:5: 'mo' is no op")


def test_a_place_that_cannot_be_written(tmp_path, capsys):
    table, inside = tmp_path / "t.csv", tmp_path / "t.csv" / "deeper"
    table.write_text(f"{HEADER}\n{LINE}\n")
    for arguments in (
        ("price", "h100-sxm", "--ops", table, "-o", inside / "o.parquet"),
        ("price", "h100-sxm", "--ops", table, "-o", inside / "o.csv"),
        ("calibrate", "check", "h100-sxm", table, "-o", inside / "o.png"),
    ):
        code, err = run(capsys, *arguments)
        assert code == 2, arguments
        assert "cannot be written" in err.splitlines()[-1]
    launches = tmp_path / "launches.csv"
    launches.write_text("op,latency_ns\nlaunch,2000\n")
    where = ("--base", "h100-sxm", "-o", inside / "o.yaml")
    code, err = run(capsys, "calibrate", "fit", launches, *where)
    assert code == 2
    assert "cannot be written" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("device", "profile"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx-pro-6000"),
        ("NVIDIA GeForce RTX 3060", "rtx-3060-12gb"),
        ("NVIDIA GeForce RTX 3060 Ti", None),
        ("NVIDIA GeForce RTX 4060 Laptop GPU", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA B200", "b200-sxm"),
        ("NVIDIA GB200", "gb200"),
        ("NVIDIA B300 SXM6 AC", "b300-sxm"),
        ("NVIDIA GB10", None),
        ("NVIDIA L40", None),
    ],
)
def test_a_card_of_another_name_is_another_card(device, profile):
    assert shipped_profile(device) == profile
