"""Leave out what is missing."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from moesim.memory.forms import LOADED, Form
from moesim.memory.misses.base import MissHandling

SKIPPED = Form("skipped", "nowhere", "none")
FORMS = (LOADED, SKIPPED)
NOWHERE = FORMS.index(SKIPPED)


class Skip(MissHandling):
    """Missing experts are not computed: tokens go on without them, and their gate weight is lost.

    The slots keep what they held at the start (``initial: most_used``), and what is prefetched.
    """

    kind: Literal["skip"] = "skip"
    loads: ClassVar[bool] = False
    forms: ClassVar[tuple[Form, ...]] = FORMS

    @staticmethod
    def place(missing: Any) -> Any:
        """Always nowhere."""
        return NOWHERE
