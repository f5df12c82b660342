"""Fit the shipped profiles to the tables of a downloaded ``aiconfigurator-core`` wheel.

``make profiles WHEEL=FILE``; the wheel is not part of the repository. Only fitted figures go into
``hardware_profiles/``, each with its source.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from moesim.calibrate.fit import fit_table
from moesim.calibrate.profile_file import with_calibration
from moesim.calibrate.tables.importing import import_measurements
from moesim.calibrate.tables.limits import within
from moesim.config.files import write_whole
from moesim.hardware import load_hardware
from moesim.hardware.measurements.table import read_table
from moesim.hardware.measurements.validate import valid

TABLES = {
    "a100-sxm-80gb": "a100_sxm/moe/vllm/0.14.0/moe_perf",
    "h100-sxm": "h100_sxm/moe/vllm/0.24.0/moe_perf",
    "h200-sxm": "h200_sxm/moe/vllm/0.24.0/moe_perf",
    "b200-sxm": "b200_sxm/moe/vllm/0.24.0/moe_perf",
    "b300-sxm": "b300_sxm/moe/vllm/0.24.0/moe_perf",
    "gb200": "gb200/moe/vllm/0.24.0/moe_perf",
    "gb300": "gb300/moe/vllm/0.24.0/moe_perf",
    "l40s": "l40s/moe/vllm/0.24.0/moe_perf",
    "rtx-pro-6000": "rtx_pro_6000_server/moe/vllm/0.24.0/moe_perf",
}
"""The expert table of each profile: one framework and version a card."""
COLLECTIVES = {
    "a100-sxm-80gb": "a100_sxm/comm/nccl/2.27.3/nccl_perf",
    "h100-sxm": "h100_sxm/comm/nccl/2.29.2/nccl_perf",
    "h200-sxm": "h200_sxm/comm/nccl/2.29.2/nccl_perf",
    "b200-sxm": "b200_sxm/comm/nccl/2.29.2/nccl_perf",
    "b300-sxm": "b300_sxm/comm/nccl/2.29.2/nccl_perf",
    "gb200": "gb200/comm/nccl/2.29.2/nccl_perf",
    "gb300": "gb300/comm/nccl/2.29.2/nccl_perf",
    "l40s": "/l40s/comm/nccl/2.27.3/nccl_perf",
    "rtx-pro-6000": "rtx_pro_6000_server/comm/nccl/2.29.2/nccl_perf",
}
BLOCKS = {
    name: f"{system}/gemm/sglang/0.5.14/gemm_perf"
    for name, system in {
        "h100-sxm": "h100_sxm",
        "h200-sxm": "h200_sxm",
        "b200-sxm": "b200_sxm",
        "b300-sxm": "b300_sxm",
        "gb200": "/gb200",
        "gb300": "/gb300",
    }.items()
}
"""The table whose block-scaled fp8 products each profile has (DeepGEMM). vLLM's were timed with the
host in them: 55 to 240 us at least, where SGLang's and TensorRT-LLM's take 3 to 4.
"""
BLOCK_SCALED, DEEPGEMM = "BlockScaled", "deepgemm"
COPIES = {"quadro-rtx-6000": "Quadro RTX 6000"}
"""The device of ``copies.csv`` whose card and link each profile has."""
FOLDER = Path(__file__).resolve().parents[1] / "hardware_profiles"


def _table(wheel: Path, name: str) -> pd.DataFrame:
    """All measurements of a profile's card."""
    parts = []
    if pattern := TABLES.get(name):
        products = pattern.replace("moe", "gemm")
        attention = pattern.replace("moe/", "attention/").removesuffix("moe_perf")
        only = [pattern, products, attention, COLLECTIVES[name]]
        table = import_measurements(wheel, only=only).table
        parts.append(table[~_kernel_has(table, BLOCK_SCALED)])
    if pattern := BLOCKS.get(name):
        table = import_measurements(wheel, only=[pattern]).table
        parts.append(table[_kernel_has(table, DEEPGEMM)])
    if device := COPIES.get(name):
        copies = valid(read_table(Path(__file__).with_name("copies.csv")))[0]
        parts.append(copies[copies["device"] == device])
    return pd.concat(parts, ignore_index=True)


def _kernel_has(table: pd.DataFrame, text: str) -> pd.Series[bool]:
    return table["kernel_source"].fillna("").str.contains(text)


def main(wheel: Path, only: Sequence[str] = ()) -> int:
    """Refit every profile, or ``only`` some, and print what each fit reached."""
    for name in only or sorted({*TABLES, *COPIES}):
        path = FOLDER / f"{name}.yaml"
        profile = load_hardware(str(path))
        table, impossible = within(_table(wheel, name), profile)
        bare = profile.model_copy(
            update={"sources": {k: v for k, v in profile.sources.items() if k[:4] != "fit-"}}
        )
        fits = fit_table(table, bare)
        write_whole(path, with_calibration(path.read_text(encoding="utf-8"), fits))
        load_hardware(str(path))
        print(f"{name}: {len(table)} rows, {len(impossible)} impossible")
        print("\n".join(f"  {line}" for line in (*fits.lines(), *fits.missing)))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
