"""What a collector asks of a device, and what all devices share; torch is loaded on first use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Protocol

from moesim.config.errors import InputError, nearest

Call = Callable[[], object]
TORCH_NAMES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""The formats that plain torch multiplies, and their names there."""
ELEMENT_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "bytes": 1}
CACHES = 3
"""Cold operands cycle through this many times the last cache."""
ALIGNED = 64
SCALE = 0.02
"""Weights are drawn with this deviation, so that no product leaves the range of its format."""


class Device(Protocol):
    """A device that runs torch: the only place that knows how to time, flush and copy there."""

    kind: str
    name: str
    gpus: int
    threads: int
    cache_bytes: int
    memory_bytes: int
    pool: Pool

    @property
    def host(self) -> Device:
        """The CPU beside a GPU; a CPU itself."""
        ...

    def time(self, calls: Sequence[Call]) -> list[float]:
        """The time of each call in nanoseconds, without what the timing itself takes."""
        ...

    def wall(self, calls: Sequence[Call]) -> list[float]:
        """The time of each call and of all that it started, from the host's view."""
        ...

    def flush(self) -> None:
        """Drive everything out of the last cache."""
        ...

    def buffer(self, name: str, size: int, pinned: bool = False) -> Any:
        """The first ``size`` bytes of the buffer ``name``, which is kept from call to call.

        ``gpu-N`` is on that GPU, any other name in the host's memory.
        """
        ...

    def facts(self) -> dict[str, Any]:
        """What the driver says of the device, as plain data."""
        ...


class Pool:
    """Memory of a device, filled once, from which operands are cut one after another.

    Cutting costs nothing, so operands are made anew for every visit; cuts come round to the start
    when the end is reached.
    """

    def __init__(self, device: str, size_bytes: int) -> None:
        self.device, self.size_bytes = device, size_bytes
        self._parts: dict[str, Any] = {}
        self._next: dict[str, int] = {}

    @cached_property
    def torch(self) -> Any:
        """The library."""
        return torch_library()

    def reserve(self, size_bytes: int) -> None:
        """Hold at least this much; before anything is cut."""
        self.size_bytes = max(self.size_bytes, size_bytes)

    def take(self, *shape: int, dtype: str) -> Any:
        """A tensor [shape] of weights; ``dtype`` is fp32, fp16, bf16 or bytes."""
        if dtype not in self._parts:
            self._parts[dtype] = self._filled(dtype)
        part, count = self._parts[dtype], 1
        for extent in shape:
            count *= extent
        start = self._next.get(dtype, 0)
        if start + count > part.numel():
            start = 0
        self._next[dtype] = start + -(-count // ALIGNED) * ALIGNED
        return part[start : start + count].view(shape)

    def fresh(self, *shape: int, dtype: str) -> Any:
        """A tensor [shape] of activations, of its own."""
        kind = getattr(self.torch, TORCH_NAMES[dtype])
        return self.torch.randn(*shape, device=self.device).to(kind)

    def _filled(self, dtype: str) -> Any:
        count = self.size_bytes // ELEMENT_BYTES[dtype]
        if dtype == "bytes":
            return self.torch.ones(count, dtype=self.torch.uint8, device=self.device)
        kind = getattr(self.torch, TORCH_NAMES[dtype])
        return self.torch.empty(count, dtype=kind, device=self.device).normal_(0, SCALE)


def torch_library() -> Any:
    """Torch; an InputError that says how to install it where it is missing."""
    try:
        import torch
    except ImportError:
        raise InputError(
            "measuring needs torch, which is not installed: pip install 'moesim[record]'"
        ) from None
    return torch


def known_dtypes(names: Sequence[str], device: str) -> tuple[str, ...]:
    """The short names of the formats to measure; InputError for one that plain torch lacks."""
    from moesim.hardware.measurements.columns import short_dtype

    short = [short_dtype(name) for text in names for name in text.split(",") if name.strip()]
    for name in short:
        if name not in TORCH_NAMES:
            raise InputError(f"--dtype '{name}' is not measured; {nearest(name, TORCH_NAMES)}")
    return tuple(dict.fromkeys(short)) or ("fp32" if device == "cpu" else "bf16",)
