"""Kernels read missing weights over the link."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from moesim.memory.forms import LOADED, OVER_LINK, Form
from moesim.memory.misses.base import MissHandling

FORMS = (LOADED, OVER_LINK)
LINK = FORMS.index(OVER_LINK)


class ZeroCopy(MissHandling):
    """The kernel reads a missing expert's weights from pinned host memory; nothing is loaded."""

    kind: Literal["zero_copy"] = "zero_copy"
    loads: ClassVar[bool] = False
    forms: ClassVar[tuple[Form, ...]] = FORMS

    @staticmethod
    def place(missing: Any) -> Any:
        """Always over the link."""
        return LINK
