"""Fit the shipped profiles to the tables of a downloaded ``aiconfigurator-core`` wheel.

``make profiles WHEEL=FILE``, or this script with the wheel and some names of profiles; the wheel is
not part of the repository. Only fitted figures go into ``hardware_profiles/``, each with its
source.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import pandas as pd

from moesim.calibrate.fit import Fits, fit_table
from moesim.calibrate.profile_file import with_calibration
from moesim.calibrate.tables.importing import import_measurements
from moesim.calibrate.tables.limits import within
from moesim.config.files.files import write_whole
from moesim.hardware import HardwareProfile, load_hardware
from moesim.hardware.measurements.table import read_table
from moesim.hardware.measurements.validate import valid
from moesim.hardware.prices.calibrated import Calibrated, Ratios

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
"""The table whose block-scaled fp8 products each profile has (DeepGEMM): vLLM's were timed with the
host in them.
"""
DEEPGEMM = "deepgemm"
BEHIND = "triton_attn"
"""Attention of one head size over caches in fp8, which another kernel's fit of all sizes goes
before.
"""
ENGINES = {
    "a100-sxm-80gb": ("a100_sxm", {"vllm": "0.14.0", "sglang": "0.5.10", "trtllm": "1.0.0"}),
    "h100-sxm": ("h100_sxm", {"vllm": "0.24.0", "sglang": "0.5.14", "trtllm": "1.3.0rc20"}),
    "h200-sxm": ("h200_sxm", {"vllm": "0.24.0", "sglang": "0.5.14", "trtllm": "1.3.0rc20"}),
    "b200-sxm": ("b200_sxm", {"vllm": "0.24.0", "sglang": "0.5.14", "trtllm": "1.3.0rc20"}),
    "b300-sxm": ("b300_sxm", {"vllm": "0.24.0", "sglang": "0.5.14", "trtllm": "1.3.0rc20"}),
    "gb200": ("gb200", {"vllm": "0.24.0", "sglang": "0.5.14", "trtllm": "1.3.0rc20"}),
    "gb300": ("gb300", {"vllm": "0.24.0", "sglang": "0.5.14", "trtllm": "1.3.0rc20"}),
    "l40s": ("/l40s", {"vllm": "0.22.0", "sglang": "0.5.14"}),
    "rtx-pro-6000": (
        "rtx_pro_6000_server",
        {"vllm": "0.24.0", "sglang": "0.5.14", "trtllm": "1.3.0rc20"},
    ),
}
"""The engines whose own all-reduces each card has, by version; TensorRT-LLM's of the L40S are
NCCL's rows again."""
ENGINES_TABLES = {"comm": "custom_allreduce_perf", "moe": "moe_perf", "mla": "*_mla_perf"}
COPIES = {"quadro-rtx-6000": "Quadro RTX 6000"}
"""The device of ``copies.csv`` whose card and link each profile has."""
FOLDER = Path(__file__).resolve().parents[1] / "hardware_profiles"


MAIN = "vllm"
"""The engine whose kernels stand first: those of software that says nothing of its framework."""


def _tables(wheel: Path, name: str) -> list[pd.DataFrame]:
    """All measurements of a profile's card, and those of its other engines."""
    parts, others = [], []
    if pattern := TABLES.get(name):
        products = pattern.replace("moe", "gemm")
        attention = pattern.replace("moe/", "attention/").removesuffix("moe_perf")
        only = [pattern, products, attention, COLLECTIVES[name], _of_engine(name, MAIN, "comm")]
        table = import_measurements(wheel, only=only).table
        parts.append(table[~table["kernel_source"].fillna("").str.contains(BEHIND)])
        for engine in sorted({*ENGINES[name][1]} - {MAIN}):
            own = [_of_engine(name, engine, family) for family in ENGINES_TABLES]
            others.append(import_measurements(wheel, only=own).table)
    if pattern := BLOCKS.get(name):
        table = import_measurements(wheel, only=[pattern]).table
        parts.append(table[table["kernel_source"].fillna("").str.contains(DEEPGEMM)])
    if device := COPIES.get(name):
        copies = valid(read_table(Path(__file__).with_name("copies.csv")))[0]
        parts.append(copies[copies["device"] == device])
    return [pd.concat(parts, ignore_index=True), *others]


def _of_engine(name: str, engine: str, family: str) -> str:
    """The path of an engine's own all-reduces (``comm``), experts (``moe``), or decodes and prompts
    over a latent (``mla``).
    """
    system, versions = ENGINES[name]
    return f"{system}/{family}/{engine}/{versions[engine]}/{ENGINES_TABLES[family]}"


def thinned(part: Calibrated) -> Calibrated:
    """With measured ratios of whole experts and of their narrowest slices alone, at tokens that are
    a power of two: those of three engines whole would be a file that takes long to read.
    """
    experts = tuple(
        fit.model_copy(update={"ratios": tuple(_few(one) for one in _ends(fit.ratios))})
        for fit in part.experts
    )
    return part.model_copy(update={"experts": experts})


def _ends(ratios: tuple[Ratios, ...]) -> Iterator[Ratios]:
    """The widest and the narrowest of each model."""
    widths: dict[tuple[int, ...], list[int]] = {}
    for one in ratios:
        widths.setdefault((one.hidden, one.experts, one.top_k, one.gated), []).append(one.inter)
    for one in ratios:
        known = widths[one.hidden, one.experts, one.top_k, one.gated]
        if one.inter in (min(known), max(known)):
            yield one


def _few(ratios: Ratios) -> Ratios:
    pairs = list(zip(ratios.tokens, ratios.ratio, strict=True))
    kept = [(tokens, round(ratio, 3)) for tokens, ratio in pairs if tokens & (tokens - 1) == 0]
    tokens, ratio = zip(*(kept or pairs), strict=True)
    return ratios.model_copy(update={"tokens": tokens, "ratio": ratio})


def _fitted(tables: list[pd.DataFrame], bare: HardwareProfile) -> Fits:
    """The fits of each of ``tables``, one table's after the other's."""
    found = Fits(Calibrated())
    for table in tables:
        main = not found.sources
        known = bare.model_copy(update={"sources": {**bare.sources, **found.sources}})
        more = fit_table(table, known)
        found.sources |= more.sources
        found.missing += more.missing
        own = more.calibrated if main else thinned(more.calibrated)
        both = {
            kind: (*getattr(found.calibrated, kind), *getattr(own, kind))
            for kind in Calibrated.model_fields
        }
        found.calibrated = Calibrated(**both)
    return found


def main(wheel: Path, names: Collection[str]) -> int:
    """Refit ``names``, or every profile, and print what each fit reached."""
    for name in names or sorted({*TABLES, *COPIES}):
        path = FOLDER / f"{name}.yaml"
        profile = load_hardware(str(path))
        judged = [within(table, profile) for table in _tables(wheel, name)]
        bare = profile.model_copy(
            update={"sources": {k: v for k, v in profile.sources.items() if k[:4] != "fit-"}}
        )
        fits = _fitted([table for table, _ in judged], bare)
        write_whole(path, with_calibration(path.read_text(encoding="utf-8"), fits))
        load_hardware(str(path))
        rows = sum(len(table) for table, _ in judged)
        print(f"{name}: {rows} rows, {sum(len(found) for _, found in judged)} impossible")
        print("\n".join(f"  {line}" for line in (*fits.lines(), *fits.missing)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
