"""What single events of a Kineto trace measure: a row of the measurement table, or why none."""

from __future__ import annotations

import re
from typing import Any

from moesim.hardware.measurements.columns import short_dtype

Event = dict[str, Any]
MEMCPY = re.compile(r"Memcpy (\w+) \((\w+) -> (\w+)\)")
COPIES = {"HtoD": "copy_h2d", "DtoH": "copy_d2h", "PtoP": "copy_p2p"}
HOST_MEMORY = ("Pinned", "Pageable")
LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx")
GRAPHS = ("cudaGraphLaunch", "cuGraphLaunch")
PRODUCTS = {"aten::mm": 0, "aten::bmm": 0, "aten::addmm": 1}
"""Products, and the place of the first matrix among an operator's inputs."""
TYPES = {
    "c10::BFloat16": "bf16",
    "c10::Half": "fp16",
    "float": "fp32",
    "c10::Float8_e4m3fn": "fp8",
    "c10::Float8_e5m2": "fp8",
}
COLLECTIVES = {
    "allreduce": "all_reduce",
    "all_to_all": "all_to_all",
    "all_to_allv": "all_to_all",
    "alltoall": "all_to_all",
}
ELEMENT_BYTES = {"float": 4, "double": 8, "int": 4, "long": 8, "bfloat16": 2, "half": 2, "byte": 1}
ELEMENT_BYTES |= {"char": 1, "bool": 1, "float8_e4m3fn": 1, "float8_e5m2": 1}
MATRIX, BATCH = 2, 3


def copy(event: Event) -> Event | str:
    """The row of a copy; the name says which way, and whether host memory was pinned."""
    found, size = MEMCPY.match(str(event.get("name"))), event.get("args", {}).get("bytes")
    if found is None or found[1] not in COPIES:
        return "copies within a GPU or within the host"
    if not size:
        return "copies without their bytes"
    row = {"op": COPIES[found[1]], "bytes": int(size)}
    if found[1] == "PtoP":
        return row
    host = found[2] if found[1] == "HtoD" else found[3]
    if host not in HOST_MEMORY:
        return "copies of an unknown kind of host memory"
    return row | {"pinned": host == "Pinned"}


def launch(event: Event) -> Event | str | None:
    """The row of a kernel's launch: the host's time."""
    name = event.get("name")
    if name in GRAPHS:
        return "launches of whole graphs"
    return {"op": "launch", "kernel_source": "eager"} if name in LAUNCHES else None


def product(
    event: Event, kernels: dict[object, list[Event]], *, on_gpu: bool
) -> Event | str | None:
    """The row of a dense product: its kernels' time, or on a machine without GPU its own."""
    name, args = event.get("name"), event.get("args", {})
    if name not in PRODUCTS:
        return None
    first = PRODUCTS[str(name)]
    dims, types = args.get("Input Dims"), args.get("Input type", [])
    if not dims:
        return "products without shapes (profile with record_shapes)"
    left, right = dims[first], dims[first + 1]
    if len(left) == BATCH and left[0] == right[0] == 1:
        left, right = left[1:], right[1:]
    if len(left) != MATRIX or len(right) != MATRIX:
        return "products of several matrices at once"
    dtype = TYPES.get(types[first]) if len(types) > first else None
    if dtype is None:
        return "products of a format without a price"
    own = kernels.get(args.get("External id"), [])
    if on_gpu and not own:
        return "products whose kernels were not recorded"
    row = {"op": "gemm", "dtype": dtype, "m": left[0], "k": left[1], "n": right[1]}
    row["kernel_source"] = "torch"
    return row | ({"latency_ns": sum(one["dur"] for one in own) * 1e3} if own else {})


def collective(event: Event) -> Event | str | None:
    """The row of a collective's kernel; None for another kernel."""
    args = event.get("args", {})
    if "Collective name" not in args:
        return "collectives without sizes" if "nccl" in str(event.get("name")).lower() else None
    op = COLLECTIVES.get(str(args["Collective name"]).lower())
    if op is None:
        return "collectives without a price"
    width = ELEMENT_BYTES.get(str(args.get("dtype")).lower())
    count, gpus = args.get("In msg nelems"), args.get("Group size")
    if not width or not count or not gpus:
        return "collectives without sizes"
    row = {"op": op, "dtype": short_dtype(str(args["dtype"])), "bytes": int(count) * width}
    return row | {"gpus": int(gpus), "kernel_source": "NCCL"}
