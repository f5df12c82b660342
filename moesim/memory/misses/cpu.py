"""Compute on the host what is missing."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from moesim.memory.forms import LOADED, ON_HOST, Form
from moesim.memory.misses.base import Beside

FORMS = (LOADED, ON_HOST)
HOST = FORMS.index(ON_HOST)


class Cpu(Beside):
    """Missing experts are computed by the CPU and nothing is loaded, as llama.cpp's --n-cpu-moe.

    The slots keep what they held at the start (``initial: most_used``).
    """

    kind: Literal["cpu"] = "cpu"
    loads: ClassVar[bool] = False
    forms: ClassVar[tuple[Form, ...]] = FORMS

    @staticmethod
    def place(missing: Any) -> Any:
        """Always the host."""
        return HOST
