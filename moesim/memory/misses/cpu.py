"""Compute on the host what is missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from moesim.memory.forms import LOADED, ON_HOST, Form
from moesim.memory.misses.base import Beside
from moesim.memory.misses.load import Load

FORMS = (LOADED, ON_HOST)
HOST = FORMS.index(ON_HOST)


def _tokens(value: Any) -> Any:
    """Tokens, or one of the words: else one message, and not one for each kind."""
    if value in ("software", "never") or (type(value) is int and value >= 1):
        return value
    raise ValueError(f"{value!r} is no number of tokens; write 1 or more, software or never")


class Cpu(Beside):
    """Missing experts are computed by the CPU and nothing is loaded, as llama.cpp's --n-cpu-moe.

    The slots keep what they held at the start (``initial: most_used``).
    """

    kind: Literal["cpu"] = "cpu"
    copies_from: Annotated[
        Annotated[int, Field(ge=1)] | Literal["software", "never"], BeforeValidator(_tokens)
    ] = Field(
        default="software",
        description="Tokens of a forward pass from which on missing experts are copied to the GPU "
        "that computes them, and none is kept; by default as the software does with layers on the "
        "CPU (llama.cpp: 32).",
    )
    loads: ClassVar[bool] = False
    forms: ClassVar[tuple[Form, ...]] = FORMS

    def copies_all_from(self) -> int | None:
        """See ``MissHandling``."""
        return self.copies_from if isinstance(self.copies_from, int) else None

    @staticmethod
    def place(missing: Any) -> Any:
        """Always the host."""
        return HOST

    def place_around(self) -> Callable[[Any], Any]:
        """See ``MissHandling``."""
        return super().place_around() if self.copies_all_from() is None else Load.place
