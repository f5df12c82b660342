"""Compute on the host what is missing now, and copy it for later."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from moesim.memory.forms import LOADED, ON_HOST, Form
from moesim.memory.misses.base import NO_LIMIT, MissHandling

BEHIND = Form("in_background", "host", "slot")
FORMS = (LOADED, ON_HOST, BEHIND)
HOST, COPIED = FORMS.index(ON_HOST), FORMS.index(BEHIND)


class Background(MissHandling):
    """Missing experts are computed by the CPU, so that nothing waits for a copy; the copy that
    serves later tokens runs in the background (llama.cpp PR 27861, --moe-expert-cache).

    ``uploads`` bounds the copies of a step in a layer. That engine also admits experts by use; here
    the policy chooses the victim, and what is admitted is what is missing first.
    """

    kind: Literal["background"] = "background"
    uploads: Annotated[int, Field(ge=1, le=NO_LIMIT)] | None = Field(
        default=None, description="The most copies of a forward pass in a layer; none: no limit."
    )
    forms: ClassVar[tuple[Form, ...]] = FORMS

    def most_loads(self) -> int:
        """See ``MissHandling``."""
        return NO_LIMIT if self.uploads is None else self.uploads

    @staticmethod
    def place(missing: Any) -> Any:
        """The host, with a copy as long as the step may make one."""
        return COPIED if missing.loads < missing.most_loads else HOST
