"""What is to be measured on a device: shapes, formats and sizes."""

from __future__ import annotations

from dataclasses import dataclass

from moesim.calibrate.collect.shapes import Shapes


@dataclass(frozen=True)
class Plan:
    """What the collectors choose their points by; ``kind`` is ``cuda`` or ``cpu``."""

    kind: str
    shapes: Shapes
    dtypes: tuple[str, ...]
    gpus: int
    cores: int
    cache_bytes: int
    memory_bytes: int

    @property
    def on_cpu(self) -> bool:
        """Whether there is no GPU: copies are then copies in host memory."""
        return self.kind == "cpu"
