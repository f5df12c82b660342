"""Every registered importer of measurements, on a small file of its kind."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
import pytest

from moesim.calibrate.importers import Importer, registry
from moesim.calibrate.importers.base import File
from moesim.hardware.measurements.validate import LINE
from moesim.testing.measurement_importers import reads_a_valid_table, recognises_without_an_error
from tests.contracts.kinds import own

SAMPLES = Path(__file__).parents[1] / "data" / "calibrate"
EXPERTS = {
    "framework": "VLLM", "version": "0.24.0", "device": "NVIDIA H100", "kernel_source": "k",
    "moe_dtype": "bfloat16", "num_tokens": 16, "hidden_size": 2048, "inter_size": 768, "topk": 8,
    "num_experts": 128, "moe_tp_size": 1, "moe_ep_size": 1, "distribution": "balanced",
    "latency": 0.4,
}  # fmt: skip
INFERSIM = (
    "num_experts,num_gpus,num_local_experts,topk,hidden_size,intermediate_size,batch_size_per_gpu,"
    "tokens_per_expert,up_proj_us,up_mfu,down_proj_us,down_mfu\n"
    "96,1,96,8,2048,1560,32,3,350,0.1,188,0.1\n"
)
NCCL = """#  Rank  0 Group  0 Pid 1 on host device  0 [0x01] NVIDIA H100 80GB HBM3
#  Rank  1 Group  0 Pid 1 on host device  1 [0x02] NVIDIA H100 80GB HBM3
#       size         count      type   redop    root     time   algbw   busbw #wrong
     1048576        262144     float     sum      -1    105.9    9.90   17.33      0
"""
BANDWIDTH = {"name": "device_to_host_memcpy_sm", "bandwidth_matrix": [["52.77", "N/A"]]}


def parquet(row: dict[str, object]) -> bytes:
    kept = io.BytesIO()
    pd.DataFrame([row]).to_parquet(kept)
    return kept.getvalue()


WHEEL = "aiconfigurator_core/systems/data/h100_sxm/moe/vllm/0.24.0/moe_perf.parquet"
FILES = {
    "aiconfigurator": (WHEEL, parquet(EXPERTS)),
    "infersim": ("h20_decode.csv", INFERSIM.encode()),
    "kineto": ("kineto.json", (SAMPLES / "kineto.json").read_bytes()),
    "llmservingsim": ("moe.csv", b"tokens,activated_experts,time_us\n1,8,50.2\n"),
    "nccl-tests": ("all_reduce.txt", NCCL.encode()),
    "nvbandwidth": ("b.json", json.dumps({"nvbandwidth": {"testcases": [BANDWIDTH]}}).encode()),
}
NEEDS_SETTINGS = {"llmservingsim"}
"""Files that leave out columns which '--set' gives: a row is none without them."""


def test_every_importer_of_the_package_has_a_file_here() -> None:
    assert set(own(registry)) == set(FILES)


@pytest.mark.parametrize("kind", FILES)
def test_contract(kind: str) -> None:
    importer, file = registry.get(kind)(), File(*FILES[kind])
    recognises_without_an_error(importer, file)
    if kind not in NEEDS_SETTINGS:
        reads_a_valid_table(importer, file)


class Careless(Importer):
    """Fails on files of others, and reads rows that cannot be."""

    kind = "careless"

    def recognises(self, file: File) -> bool:
        return bool(file.content[0])

    def read(self, file: File) -> pd.DataFrame:
        return pd.DataFrame({"op": ["launch", "lunch"], "latency_ns": [1.0, 2.0], LINE: [1, 2]})


def test_one_that_breaks_the_rules_is_found() -> None:
    with pytest.raises(AssertionError, match="Careless: rows that cannot be"):
        reads_a_valid_table(Careless(), File("a", b"1"))
    with pytest.raises(IndexError):
        recognises_without_an_error(Careless(), File("a", b"1"))
