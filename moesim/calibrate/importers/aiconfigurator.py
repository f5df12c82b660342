"""Tables of the ``aiconfigurator-core`` wheel (checked with version 0.12.0).

``systems/data/<system>/<family>/<framework>/<version>/<op>_perf.parquet``; times in ms. Experts:
expert-parallel rows follow the collector's own accounting and are left out; tensor-parallel ones
are the sliced shape, in mxfp4 in whole blocks as engines pad it. ``message_size`` counts elements,
those of an engine's own all-reduce of two bytes each; of that one the rows without the host's time
(graphs) are read. Attention is told apart by the format of its cache, and measured over the same
cache again and again, so one that fits the L2 is warm; a decode's ``step`` tokens come before its
own; the cache's update is part of the time.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from moesim.calibrate.importers.base import File, Importer, left_out
from moesim.calibrate.tables.routing_draws import balanced_distinct, power_law_rows
from moesim.hardware.measurements.columns import BYTES, short_dtype
from moesim.hardware.measurements.validate import LINE
from moesim.hardware.operations.attention.calibrated import LATENT_MARK

WHEEL = re.compile(r"aiconfigurator_core-([\d.]+)-")
NS_PER_MS = 1e6
COMMON = ("framework", "version", "device", "kernel_source")
COLLECTIVES = {"all_reduce": "all_reduce", "alltoall": "all_to_all"}
BLOCK_SCALED = {"fp8": False, "fp8_block": True}
"""By format, where the table tells two of one name apart."""
MXFP4_BLOCK = 32
MXFP8 = "mxfp8"
"""Of activations beside mxfp4 weights; without it they have 16 bits."""
TIMED_WITH_HOST = "VLLM"
"""Whose block-scaled products take 59 to 182 us however small, where other tables' take 10."""
LATENT = 512 + 64
"""What is cached of a token of DeepSeek-V3, whose shapes the latents' tables have."""
HALVES = ("bf16", "fp16")
KEY, VALUE = 192, 128
"""A key and a value of one of its heads."""
OVER_THE_LATENT = "SGLANG"
CONVERTING = "flash_attention"
EAGER = "_eager"
"""The end of a kernel's name whose time has the host's launches in it."""
UNGATED_TOP_K, UNGATED_EXPERTS = 22, 512
UNGATED_SHAPE = (2688, 1856)
ALWAYS_GATED = "0.14."
"""vLLM 0.14's table has three matrices for every shape."""


class Aiconfigurator(Importer):
    """One Parquet table of the wheel, or of its unzipped folder."""

    kind: ClassVar[str] = "aiconfigurator"

    def recognises(self, file: File) -> bool:
        """By the file's name."""
        return PurePosixPath(file.name).name in READERS

    def read(self, file: File) -> pd.DataFrame:
        """The rows of a table whose op moesim prices."""
        raw = pd.read_parquet(io.BytesIO(file.content))
        raw[LINE] = np.arange(1, len(raw) + 1)
        table = READERS[PurePosixPath(file.name).name](raw)
        for name in COMMON:
            if name not in table.columns:
                table[name] = raw[name].reindex(table.index)
        table[LINE] = raw[LINE].reindex(table.index)
        table["latency_ns"] = raw["latency"].reindex(table.index) * NS_PER_MS
        table["source"] = _source(file.name)
        return table.reset_index(drop=True)


def _source(name: str) -> str:
    """What to call the table: the wheel's version where the path has it, and the table's path."""
    version = WHEEL.search(name)
    path = PurePosixPath(name).with_suffix("")
    return f"aiconfigurator-core {version[1] + ' ' if version else ''}{'/'.join(path.parts[-5:])}"


def _moe(raw: pd.DataFrame) -> pd.DataFrame:
    alone = left_out(raw, raw["moe_ep_size"] == 1, "expert-parallel rows (moe_ep_size above 1)")
    whole = alone["inter_size"] % alone["moe_tp_size"] == 0
    alone = left_out(alone, whole, "slices that do not divide the experts")
    table = pd.DataFrame(
        {
            "op": "moe",
            "dtype": alone["moe_dtype"],
            "tokens": alone["num_tokens"],
            "hidden": alone["hidden_size"],
            "inter": _padded(alone["inter_size"] // alone["moe_tp_size"], alone["moe_dtype"]),
            "experts": alone["num_experts"],
            "top_k": alone["topk"],
            "gated": ~_ungated(alone),
            "tensor_parallel": alone["moe_tp_size"],
            "block_scaled": alone["moe_dtype"].map(BLOCK_SCALED),
            "kernel_source": _kernels(alone),
        }
    )
    rows = [
        _rows(*row)
        for row in zip(
            alone["distribution"], table["tokens"], table["top_k"], table["experts"], strict=True
        )
    ]
    table["rows"] = pd.Series(rows, table.index, dtype=object)
    table["distinct_experts"] = [
        _distinct(*row)
        for row in zip(rows, table["tokens"], table["top_k"], table["experts"], strict=True)
    ]
    largest = [None if counts is None else max(counts) for counts in rows]
    table["max_rows"] = pd.Series(largest, table.index, dtype="Int64")
    table.attrs = alone.attrs
    return table


def _kernels(raw: pd.DataFrame) -> pd.Series[str]:
    """The kernels' names, with the activations' format where one kernel takes several."""
    eight = raw["moe_dtype"].str.endswith(f"_{MXFP8}")
    told = raw["kernel_source"].str.contains(MXFP8)
    return raw["kernel_source"].where(~eight | told, raw["kernel_source"] + f"_{MXFP8}")


def _padded(inter: pd.Series[int], dtypes: pd.Series[str]) -> pd.Series[int]:
    """A slice's channels, rounded up to whole blocks in mxfp4."""
    blocks = -(-inter // MXFP4_BLOCK) * MXFP4_BLOCK
    return inter.where(dtypes.map(short_dtype) != "mxfp4", blocks)


def _ungated(raw: pd.DataFrame) -> pd.Series[bool]:
    """Shapes whose experts have two matrices; the table does not say."""
    wide = (raw["topk"] == UNGATED_TOP_K) & (raw["num_experts"] == UNGATED_EXPERTS)
    hidden, inter = UNGATED_SHAPE
    small = (raw["hidden_size"] == hidden) & (raw["inter_size"] == inter)
    older = (raw["framework"].str.lower() == "vllm") & raw["version"].str.startswith(ALWAYS_GATED)
    return (wide | small) & ~older


def _rows(distribution: Any, tokens: int, top_k: int, experts: int) -> list[int] | None:
    power = str(distribution).startswith("power_law_")
    if not power or not _possible(tokens, top_k, experts):
        return None
    alpha = float(distribution.removeprefix("power_law_"))
    return list(power_law_rows(int(tokens), int(top_k), int(experts), alpha))


def _possible(tokens: Any, top_k: Any, experts: Any) -> bool:
    """Whether tokens can choose experts at all; a table's other rows are told and left out."""
    return bool(pd.notna([tokens, top_k, experts]).all() and tokens > 0 and 0 < top_k <= experts)


def _distinct(rows: list[int] | None, tokens: int, top_k: int, experts: int) -> int | None:
    if not _possible(tokens, top_k, experts):
        return None
    if rows is not None:
        return sum(count > 0 for count in rows)
    return balanced_distinct(int(tokens), int(top_k), int(experts))


def _gemm(raw: pd.DataFrame) -> pd.DataFrame:
    blocks = (raw["gemm_dtype"] == "fp8_block") & (raw["framework"] == TIMED_WITH_HOST)
    kept = left_out(raw, ~blocks, "block-scaled products timed with the host")
    table = pd.DataFrame({"op": "gemm", "dtype": kept["gemm_dtype"]} | {c: kept[c] for c in "mnk"})
    table.attrs = kept.attrs
    return table


def _attention(op: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def read(raw: pd.DataFrame) -> pd.DataFrame:
        kept = raw
        if "window_size" in kept.columns:
            kept = left_out(kept, kept["window_size"] == 0, "sliding windows")
        step = kept["step"] if "step" in kept.columns else 0
        if op == "attention_prefill" and "step" in kept.columns:
            kept = left_out(kept, kept["step"] == 0, "prompts with a cached prefix")
            step = 0
        table = pd.DataFrame(
            {
                "op": op,
                "dtype": kept["kv_cache_dtype"],
                "batch": kept["batch_size"],
                "context": kept["isl"] + step,
                "heads": kept["num_heads"],
                "kv_heads": kept["num_key_value_heads"],
                "head_dim": kept["head_dim"],
                "l2_warm": True,
                "kernel_source": _attending(kept, "attn_dtype"),
            }
        )
        table.attrs = kept.attrs
        return table

    return read


def _attending(raw: pd.DataFrame, column: str) -> pd.Series[str]:
    """The kernels' names, with the products' format where it is not 16 bits: rows go by the format
    of the cache that they read, which other products may read too.
    """
    format_ = raw[column].map(short_dtype)
    return raw["kernel_source"].where(format_.isin(HALVES), raw["kernel_source"] + "_" + format_)


def _latent_decode(raw: pd.DataFrame) -> pd.DataFrame:
    """One head whose key and value are half of the latent each; heads are those of a GPU.

    SGLang's FlashAttention brings a whole pool in fp8 to 16 bits first, however large it is.
    """
    direct = raw["kv_cache_dtype"].map(short_dtype).isin(HALVES)
    direct |= raw["kernel_source"] != CONVERTING
    kept = left_out(raw, direct, "latents in fp8 that are converted with the whole pool")
    table = pd.DataFrame(
        {
            "op": "attention_decode",
            "dtype": kept["kv_cache_dtype"],
            "batch": kept["batch_size"],
            "context": kept["isl"] + kept["step"],
            "heads": kept["num_heads"],
            "kv_heads": 1,
            "head_dim": LATENT // 2,
            "l2_warm": True,
            "kernel_source": _attending(kept, "mla_dtype") + LATENT_MARK,
        }
    )
    table.attrs = kept.attrs
    return table


def _latent_prompt(raw: pd.DataFrame) -> pd.DataFrame:
    """Whole prompts by kernels that bring keys and values out of the latent first: as many of both
    as heads, of which a key has 192 values and a value 128. SGLang's rows are of a kernel that
    reads the latent itself, with 3.4 times the operations, which no engine runs without a prefix.
    """
    own = raw["framework"].str.upper() != OVER_THE_LATENT
    kept = left_out(raw, own, "prompts over the latent itself")
    table = pd.DataFrame(
        {
            "op": "attention_prefill",
            "dtype": kept["kv_cache_dtype"],
            "batch": kept["batch_size"],
            "context": kept["isl"],
            "heads": kept["num_heads"],
            "kv_heads": kept["num_heads"],
            "head_dim": (KEY + VALUE) // 2,
            "l2_warm": True,
            "kernel_source": _attending(kept, "mla_dtype") + LATENT_MARK,
        }
    )
    table.attrs = kept.attrs
    return table


def _nccl(raw: pd.DataFrame) -> pd.DataFrame:
    kept = left_out(raw, raw["op_name"].isin(list(COLLECTIVES)), "collectives without a price")
    size = kept["nccl_dtype"].map(short_dtype).map(BYTES)
    table = pd.DataFrame(
        {
            "op": kept["op_name"].map(COLLECTIVES),
            "dtype": kept["nccl_dtype"],
            "bytes": (kept["message_size"] * size).astype("int64"),
            "gpus": kept["num_gpus"],
        }
    )
    table.attrs = kept.attrs
    return table


def _engine_all_reduce(raw: pd.DataFrame) -> pd.DataFrame:
    kept = left_out(raw, ~raw["kernel_source"].str.endswith(EAGER), "launches timed with the host")
    table = pd.DataFrame(
        {
            "op": "all_reduce",
            "dtype": kept["allreduce_dtype"],
            "bytes": (kept["message_size"] * BYTES["bf16"]).astype("int64"),
            "gpus": kept["num_gpus"],
        }
    )
    table.attrs = kept.attrs
    return table


READERS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "moe_perf.parquet": _moe,
    "gemm_perf.parquet": _gemm,
    "context_attention_perf.parquet": _attention("attention_prefill"),
    "generation_attention_perf.parquet": _attention("attention_decode"),
    "generation_mla_perf.parquet": _latent_decode,
    "context_mla_perf.parquet": _latent_prompt,
    "nccl_perf.parquet": _nccl,
    "custom_allreduce_perf.parquet": _engine_all_reduce,
}
"""The tables that are read."""
