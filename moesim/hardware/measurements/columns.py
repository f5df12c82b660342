"""The measurement table: one row a measured time, the same columns for every source.

| column | meaning |
|---|---|
| ``op`` | what was measured, a key of ``SHAPES`` |
| ``dtype`` | format of the weights: bf16, fp16, fp8, mxfp4, int4, ... (long names are read) |
| ``tokens hidden inter experts top_k`` | an expert network and the tokens that it gets |
| ``distinct_experts`` | experts with rows; without it as many as tokens x top_k can reach |
| ``gated`` | three matrices an expert (true, the default) or two |
| ``block_scaled`` | whether blocks of weights and of activations have scales (fp8) |
| ``rows`` | rows of each expert, a list; without it spread evenly over ``distinct_experts`` |
| ``max_rows`` | the largest of ``rows`` |
| ``m n k`` | a product of m x k with k x n |
| ``batch context heads kv_heads head_dim`` | attention of ``batch`` requests of that context |
| ``bytes`` | of a copy, or what one GPU holds of a collective |
| ``gpus nodes`` | that take part |
| ``pinned`` | host memory of a copy (default true) |
| ``l2_warm`` | whether operands were left in the L2 cache |
| ``latency_ns`` | the time |
| ``tensor_parallel`` | GPUs that slice the experts; ``inter`` is the slice (default 1) |
| ``device framework version kernel_source source`` | where it is from; free text |

Columns that an op does not need may be absent. Parquet keeps ``rows`` as a list, CSV as numbers
separated by blanks.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moesim.model.gguf.types import BY_NAME

EXPERT = ("tokens", "hidden", "inter", "experts", "top_k")
ATTENTION = ("batch", "context", "heads", "kv_heads", "head_dim")
SHAPES: Mapping[str, tuple[str, ...]] = {
    "moe": EXPERT,
    "gemm": ("m", "n", "k"),
    "attention_prefill": ATTENTION,
    "attention_decode": ATTENTION,
    "copy_h2d": ("bytes",),
    "copy_d2h": ("bytes",),
    "copy_p2p": ("bytes",),
    "all_reduce": ("bytes", "gpus"),
    "all_to_all": ("bytes", "gpus"),
    "cpu_expert": ("tokens", "hidden", "inter"),
    "launch": (),
    "gate": ("tokens", "hidden", "experts"),
    "permute": ("tokens", "hidden"),
}
"""The shape columns that each op needs."""
OPTIONAL = ("distinct_experts", "max_rows", "nodes", "tensor_parallel")
COUNTS = tuple(dict.fromkeys([*EXPERT, "m", "n", "k", *ATTENTION, "bytes", "gpus", *OPTIONAL]))
"""The columns of whole positive numbers."""
FLAGS = ("gated", "pinned", "l2_warm", "block_scaled")
TEXTS = ("op", "dtype", "device", "framework", "version", "kernel_source", "source")
COLUMNS = (*TEXTS, *COUNTS, *FLAGS, "rows", "latency_ns")
"""All columns, in order."""
WEIGHTLESS = frozenset(
    {"copy_h2d", "copy_d2h", "copy_p2p", "all_reduce", "all_to_all", "launch", "permute"}
)
"""Ops that need no ``dtype``."""

LONG_NAMES: Mapping[str, str] = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "float32": "fp32",
    "float": "fp32",
    "float8": "fp8",
    "fp8_block": "fp8",
    "fp8_e4m3": "fp8",
    "float8_e4m3": "fp8",
    "float8_e4m3fn": "fp8",
    "float8_e5m2": "fp8",
    "w4a16_mxfp4": "mxfp4",
    "w4a8_mxfp4_mxfp8": "mxfp4",
    "int4_wo": "int4",
    "w4a16": "int4",
    "int8_wo": "int8",
}
"""Names that formats have elsewhere."""
BYTES: Mapping[str, float] = {
    **{one.name: one.block_bytes / one.weights for one in BY_NAME.values()},
    "fp32": 4.0,
    "bf16": 2.0,
    "fp16": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    "int6": 0.75 + 2 / 128,
    "int5": 0.625 + 2 / 128,
    "mxfp4": 0.5 + 1 / 32,
    "nvfp4": 0.5 + 1 / 16,
    "fp4": 0.5,
    "int4": 0.5 + 2 / 128,
    "int3": 0.375 + 2 / 128,
    "int2": 0.25 + 2 / 128,
}
"""Bytes of a weight with its scales (blocks of 32, 16, and 128 for integers; GGUF's types)."""


def activation_bytes(width: ArrayLike) -> NDArray[np.float64]:
    """Bytes of an activation beside weights of ``width`` bytes: two, of fp32 four."""
    return np.maximum(np.asarray(width, np.float64), BYTES["bf16"])


def short_dtype(name: str) -> str:
    """The short name of a number format, whatever it is called; unknown names as they are."""
    plain = name.strip().lower().removeprefix("torch.")
    return LONG_NAMES.get(plain, plain)
