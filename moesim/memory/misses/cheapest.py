"""Load or compute on the host, whichever ends sooner by its price."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from moesim.memory.forms import IN_SLOT, LOADED, ON_HOST, Form
from moesim.memory.misses.base import NO_LIMIT, Beside

FORMS = (LOADED, ON_HOST)
HOST = FORMS.index(ON_HOST)


class Cheapest(Beside):
    """An expert is loaded if its copy and kernel, after the copies before it, end no later than the
    host would, after the experts that it already has.

    Fiddler (arXiv 2402.07033) and KTransformers compare the two times of one expert; counting what
    was already given to each keeps both busy. ``uploads`` bounds the loads of a step in a layer,
    the rest is the host's, as in llama.cpp's offloading.
    """

    kind: Literal["cheapest"] = "cheapest"
    uploads: Annotated[int, Field(ge=0, le=NO_LIMIT)] | None = Field(
        default=None, description="The most loads of a forward pass in a layer; none: no limit."
    )
    compares: ClassVar[bool] = True
    forms: ClassVar[tuple[Form, ...]] = FORMS

    def most_loads(self) -> int:
        """See ``MissHandling``."""
        return NO_LIMIT if self.uploads is None else self.uploads

    @staticmethod
    def place(missing: Any) -> Any:
        """The sooner one; the GPU of equals."""
        loaded_ns = missing.copied + missing.copy_ns + missing.kernel_ns
        sooner = loaded_ns <= missing.hosted + missing.host_ns
        return IN_SLOT if sooner and missing.loads < missing.most_loads else HOST
