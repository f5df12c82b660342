import json
import zipfile
from typing import Any

import pandas as pd
import pytest

from moesim.calibrate.tables.importing import import_measurements
from moesim.calibrate.tables.routing_draws import balanced_distinct, power_law_rows
from moesim.config.errors import InputError

FOLDER = "aiconfigurator_core/systems/data/h100_sxm/moe/vllm/0.24.0"
COMMON: dict[str, Any] = {
    "framework": "VLLM",
    "version": "0.24.0",
    "device": "NVIDIA H100",
    "kernel_source": "k",
}


def moe(**changes):
    return (
        COMMON
        | {
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
        }
        | changes
    )


@pytest.fixture
def wheel(tmp_path):
    rows = [
        moe(),
        moe(moe_tp_size=2),
        moe(moe_ep_size=8),
        moe(distribution="power_law_1.2"),
        moe(hidden_size=2688, inter_size=1856, topk=6),
        moe(latency=-1.0),
    ]
    table = tmp_path / "moe_perf.parquet"
    pd.DataFrame(rows).to_parquet(table)
    path = tmp_path / "aiconfigurator_core-0.12.0-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(table, f"{FOLDER}/moe_perf.parquet")
    return path


def test_the_wheels_experts(wheel):
    done = import_measurements(wheel)
    table = done.table
    assert list(table["inter"]) == [768, 384, 768, 1856]
    assert list(table["tensor_parallel"]) == [1, 2, 1, 1]
    assert list(table["gated"]) == [True, True, True, False]
    assert list(table["latency_ns"]) == [400_000.0] * 4
    assert set(table["dtype"]) == {"bf16"}
    assert list(table["distinct_experts"])[:2] == [128, 128]
    assert sum(table["rows"].iloc[2]) == 128
    assert table["max_rows"].iloc[2] == max(table["rows"].iloc[2])
    assert table["source"].iloc[0] == "aiconfigurator-core 0.12.0 h100_sxm/moe/vllm/0.24.0/moe_perf"
    assert done.left_out == {"expert-parallel rows (moe_ep_size above 1)": 1}
    assert [(finding.line, finding.what) for _, finding in done.findings] == [
        (6, "'latency_ns' is negative")
    ]


def test_slices_and_kernels_of_the_wheels_experts(tmp_path):
    """mxfp4 slices are whole blocks; block scales and 8-bit activations are told apart."""
    rows = [
        moe(moe_dtype="w4a16_mxfp4", inter_size=2880, hidden_size=2880, moe_tp_size=8),
        moe(moe_dtype="w4a8_mxfp4_mxfp8"),
        moe(moe_dtype="w4a8_mxfp4_mxfp8", kernel_source="trtllm_mxfp4_mxfp8"),
        moe(moe_dtype="fp8"),
        moe(moe_dtype="fp8_block"),
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "moe_perf.parquet")
    table = import_measurements(tmp_path).table
    assert list(table["inter"]) == [12 * 32, 768, 768, 768, 768]
    assert list(table["dtype"]) == ["mxfp4"] * 3 + ["fp8"] * 2
    assert list(table["kernel_source"]) == ["k", "k_mxfp8", "trtllm_mxfp4_mxfp8", "k", "k"]
    assert list(table["block_scaled"].astype(object))[3:] == [False, True]
    assert table["block_scaled"].isna().sum() == 3


def test_all_reduces_of_engines_and_block_scaled_products(tmp_path):
    """Elements of two bytes; neither times with the host's launches in them."""
    own = COMMON | {"op_name": "all_reduce", "allreduce_dtype": "bfloat16", "num_gpus": 4}
    own |= {"message_size": 1024, "latency": 0.005}
    kernels = ("vLLM_custom_graph", "vLLM_custom_eager", "TRTLLM")
    pd.DataFrame([own | {"kernel_source": one} for one in kernels]).to_parquet(
        tmp_path / "custom_allreduce_perf.parquet"
    )
    product = COMMON | {"m": 8, "n": 512, "k": 512, "latency": 0.06}
    pd.DataFrame([product | {"gemm_dtype": one} for one in ("fp8", "fp8_block")]).to_parquet(
        tmp_path / "gemm_perf.parquet"
    )
    done = import_measurements(tmp_path)
    reduced = done.table[done.table["op"] == "all_reduce"]
    assert list(reduced["kernel_source"]) == ["vLLM_custom_graph", "TRTLLM"]
    assert list(reduced["bytes"]) == [2048, 2048]
    assert (done.table["op"] == "gemm").sum() == 1
    assert done.left_out == {
        "launches timed with the host": 1,
        "block-scaled products timed with the host": 1,
    }


def test_decodes_over_a_latent(tmp_path):
    """One head of half the latent's width for keys and for values."""
    row = COMMON | {"mla_dtype": "bfloat16", "num_heads": 16, "batch_size": 4, "isl": 1}
    row |= {"step": 1023, "latency": 0.02}
    rows = [row | {"kv_cache_dtype": dtype} for dtype in ("bfloat16", "fp8")]
    pd.DataFrame(rows).to_parquet(tmp_path / "generation_mla_perf.parquet")
    done = import_measurements(tmp_path).table.to_dict("records")
    shape = {"op": "attention_decode", "heads": 16, "kv_heads": 1, "head_dim": 288}
    shape |= {"batch": 4, "context": 1024, "kernel_source": "k_mla", "latency_ns": 20_000.0}
    assert [one["dtype"] for one in done] == ["bf16", "fp8"]
    assert all(shape.items() <= one.items() for one in done)


def test_prompts_over_a_latent_have_keys_and_values_of_all_heads(tmp_path):
    """SGLang's are of a kernel that reads the latent itself, and its decodes in fp8 convert it."""
    row = COMMON | {"mla_dtype": "bfloat16", "num_heads": 16, "batch_size": 2, "isl": 512}
    row |= {"kv_cache_dtype": "fp8", "latency": 0.02}
    own = {"framework": "SGLang", "kernel_source": "flash_attention", "step": 0}
    table = pd.DataFrame([row, row | own])
    table.to_parquet(tmp_path / "context_mla_perf.parquet")
    table.assign(step=511).to_parquet(tmp_path / "generation_mla_perf.parquet")
    done = import_measurements(tmp_path)
    (prompt,) = done.table[done.table["op"] == "attention_prefill"].to_dict("records")
    shape = {"heads": 16, "kv_heads": 16, "head_dim": 160, "context": 512, "dtype": "fp8"}
    assert shape.items() <= prompt.items()
    assert (done.table["op"] == "attention_decode").sum() == 1
    assert done.left_out == {
        "prompts over the latent itself": 1,
        "latents in fp8 that are converted with the whole pool": 1,
    }


def test_only_chosen_files_are_read(wheel):
    assert import_measurements(wheel, only=["h100_sxm/*/vllm"]).read == [wheel]
    with pytest.raises(InputError, match="no file here"):
        import_measurements(wheel, only=["a100_sxm"])


def test_an_unzipped_folder_is_read_too(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "out")
    assert len(import_measurements(tmp_path / "out").table) == 4


def test_attention_and_collectives(tmp_path):
    attention = COMMON | {"batch_size": 4, "isl": 1, "num_heads": 32, "num_key_value_heads": 8}
    attention |= {"head_dim": 128, "attn_dtype": "bfloat16", "window_size": 0, "step": 1023}
    rows = [attention | {"kv_cache_dtype": dtype, "latency": 0.01} for dtype in ("bfloat16", "fp8")]
    pd.DataFrame(rows).to_parquet(tmp_path / "generation_attention_perf.parquet")
    nccl = COMMON | {"nccl_dtype": "half", "num_gpus": 8, "message_size": 1024, "latency": 0.02}
    rows = [nccl | {"op_name": name} for name in ("alltoall", "all_gather")]
    pd.DataFrame(rows).to_parquet(tmp_path / "nccl_perf.parquet")
    table = import_measurements(tmp_path).table.set_index("op")
    decodes = table.loc["attention_decode"]
    assert list(decodes["context"]) == [1024, 1024]
    assert list(decodes["dtype"]) == ["bf16", "fp8"]
    assert table.loc["all_to_all", "bytes"] == 2048
    assert len(table) == 3


def test_attention_in_fewer_bits_is_another_kernel_than_a_cache_in_them(tmp_path):
    row = COMMON | {"batch_size": 4, "isl": 512, "num_heads": 32, "num_key_value_heads": 8}
    row |= {"head_dim": 128, "kv_cache_dtype": "fp8", "window_size": 0, "step": 0}
    rows = [row | {"attn_dtype": one, "latency": 0.1} for one in ("bfloat16", "fp8")]
    pd.DataFrame(rows).to_parquet(tmp_path / "context_attention_perf.parquet")
    table = import_measurements(tmp_path).table
    assert list(table["kernel_source"]) == ["k", "k_fp8"]
    assert set(table["dtype"]) == {"fp8"}


def test_llmservingsim_takes_its_shape_from_settings(tmp_path):
    (tmp_path / "moe.csv").write_text("tokens,activated_experts,time_us\n1,8,50.2\n2,16,60.0\n")
    settings = ["hidden=2048", "inter=768", "experts=128", "top_k=8", "dtype=bf16"]
    table = import_measurements(tmp_path / "moe.csv", settings=settings).table
    assert list(table["distinct_experts"]) == [8, 16]
    assert table["latency_ns"].iloc[0] == pytest.approx(50_200)
    assert import_measurements(tmp_path / "moe.csv").table.empty
    with pytest.raises(InputError, match="did you mean 'hidden'"):
        import_measurements(tmp_path / "moe.csv", settings=["hiden=2"])


def test_infersim(tmp_path):
    header = "num_experts,num_gpus,num_local_experts,topk,hidden_size,intermediate_size,"
    header += "batch_size_per_gpu,tokens_per_expert,up_proj_us,up_mfu,down_proj_us,down_mfu\n"
    (tmp_path / "h20_decode.csv").write_text(header + "96,1,96,8,2048,1560,32,3,350,0.1,188,0.1\n")
    row = import_measurements(tmp_path).table.iloc[0]
    assert row["tokens"] * row["top_k"] == 96 * 3
    assert (row["latency_ns"], row["dtype"], row["device"]) == (538_000, "fp8", "NVIDIA H20")


NCCL = """# nThread 1 nGpus 2 alltoall_perf
#  Rank  0 Group  0 Pid 1 on host device  0 [0x01] NVIDIA H100 80GB HBM3
#  Rank  1 Group  0 Pid 1 on host device  1 [0x02] NVIDIA H100 80GB HBM3
#       size         count      type   redop    root     time   algbw   busbw #wrong
     1048576        262144     float     sum      -1    105.9    9.90   17.33      0
# Avg bus bandwidth : 17
"""


def test_nccl_tests(tmp_path):
    prefixed = "".join(f"[1,0]<stdout>:{line}\n" for line in NCCL.splitlines())
    (tmp_path / "out.txt").write_text(prefixed)
    row = import_measurements(tmp_path).table.iloc[0]
    assert (row["op"], row["bytes"], row["gpus"]) == ("all_to_all", 1048576, 2)
    assert row["latency_ns"] == pytest.approx(105_900)
    assert row["device"] == "NVIDIA H100 80GB HBM3"


BANDWIDTH = """nvbandwidth Version: v0.5
Running host_to_device_memcpy_ce.
memcpy CE CPU(row) -> GPU(column) bandwidth (GB/s)
           0         1
 0     55.63     55.64

SUM host_to_device_memcpy_ce 111.27
"""


def test_nvbandwidth_text_and_json(tmp_path):
    (tmp_path / "a.txt").write_text(BANDWIDTH)
    case = {"name": "device_to_host_memcpy_sm", "bandwidth_matrix": [["52.77", "N/A"]]}
    (tmp_path / "b.json").write_text(json.dumps({"nvbandwidth": {"testcases": [case]}}))
    table = import_measurements(tmp_path).table
    assert list(table["op"]) == ["copy_h2d", "copy_h2d", "copy_d2h"]
    rates = table["bytes"] / table["latency_ns"]
    assert list(rates.round(2)) == [55.63, 55.64, 52.77]


def test_the_collectors_routing():
    assert balanced_distinct(64, 8, 128) == 128
    assert balanced_distinct(1, 8, 128) == 8
    assert balanced_distinct(20, 22, 512) < 440
    rows = power_law_rows(256, 8, 128, 1.2)
    assert sum(rows) == 2048
    assert max(rows) <= 256
    assert max(rows) > 3 * 2048 / 128
