"""Forms: how one activation of an expert is served, and what compiled code reads of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Form:
    """One way to serve an activation of an expert.

    ``counted``: misses that have it are ``misses_{counted}`` of a summary. ``runs_on``: what
    computes its rows; ``nowhere``: they are left out, and their gate weight is lost. ``source``:
    where the GPU's kernel has the weights from: a slot, where a miss is copied first; or the host's
    memory, over the ``link``. ``none`` where no kernel of the GPU runs. What the host computes and
    a slot holds is copied in the background, for later. Raises ValueError where these two do not go
    together.
    """

    counted: str
    runs_on: Literal["gpu", "host", "nowhere"]
    source: Literal["slot", "link", "none"]

    def __post_init__(self) -> None:
        """Refuse a kernel without weights, or weights without one."""
        if self.in_background:
            return
        if (self.runs_on == "gpu") != (self.source != "none"):
            what = f"runs_on '{self.runs_on}' and source '{self.source}'"
            message = f"form '{self.counted}': {what} do not go together: a kernel of the GPU, and"
            message += " nothing else, reads weights from a slot or over the link"
            raise ValueError(f"{message}; of what the host computes a slot may take a copy")

    @property
    def in_background(self) -> bool:
        """Whether nothing waits for its copy."""
        return self.runs_on == "host" and self.source == "slot"


IN_SLOT = 0
"""The number of the form of hits and prefetches: the first of every table is LOADED."""
LOADED = Form("loaded", "gpu", "slot")
ON_HOST = Form("on_cpu", "host", "none")
OVER_LINK = Form("zero_copy", "gpu", "link")


NAMED = (ON_HOST, OVER_LINK)
"""Forms whose misses every summary has, whether the run may have some or not."""


class Flags(NamedTuple):
    """What a table says, bool[forms] each: is it computed by the GPU, in a launch; by the host; by
    nothing; are its weights in a slot; does its kernel read them over the link.
    """

    on_gpu: Any
    on_host: Any
    nowhere: Any
    in_slot: Any
    over_link: Any


@cache
def flags_of(forms: tuple[Form, ...]) -> Flags:
    """The flags of the table ``forms``."""

    def mask(flags: list[bool]) -> NDArray[np.bool_]:
        return np.array(flags, np.bool_)

    return Flags(
        on_gpu=mask([form.runs_on == "gpu" for form in forms]),
        on_host=mask([form.runs_on == "host" for form in forms]),
        nowhere=mask([form.runs_on == "nowhere" for form in forms]),
        in_slot=mask([form.source == "slot" for form in forms]),
        over_link=mask([form.source == "link" for form in forms]),
    )


def without_room(forms: tuple[Form, ...]) -> NDArray[np.int64]:
    """By form, the number of what it becomes where no slot is to be had: copies in the background
    are not made, and only the host's part is left.
    """
    alone = [form.runs_on == "host" and form.source == "none" for form in forms]
    numbers = [alone.index(True) if form.in_background else n for n, form in enumerate(forms)]
    return np.array(numbers, np.int64)
