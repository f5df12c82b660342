"""Which forward passes there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from moesim.config.oneof import OneOf, component
from moesim.config.params import Params
from moesim.config.registry import Registry
from moesim.config.tokens import Tokens
from moesim.workload.arrivals import registry as arrival_kinds
from moesim.workload.arrivals.base import Arrivals
from moesim.workload.batching import registry as batchings
from moesim.workload.batching.base import AnyBatching
from moesim.workload.binding import BindingChoice, Own
from moesim.workload.lengths import registry as length_kinds
from moesim.workload.lengths.base import Lengths
from moesim.workload.prefill import Prefill
from moesim.workload.speculation import Speculation


class Workload(Params):
    """Which forward passes the trace's requests make."""

    batching: Annotated[AnyBatching, OneOf(batchings)] = component(
        batchings, "static", "Which requests share a forward pass."
    )
    phase: Literal["decode", "prefill", "all", "encode"] = Field(
        default="decode",
        description="Which tokens are replayed: decode steps, prompts, prompts and then decode "
        "steps, or the encoder's tokens.",
    )
    requests: int | None = Field(
        default=None,
        ge=1,
        description="Only this many requests, the first of the trace, or of a file of arrivals; as "
        "many as that has by default.",
    )
    arrivals: Annotated[Arrivals, OneOf(arrival_kinds)] = component(
        arrival_kinds, "at_once", "When requests come, under batching: {kind: continuous}."
    )
    lengths: Annotated[Lengths, OneOf(length_kinds)] = component(
        length_kinds, "trace", "How long prompts and answers are, under continuous batching."
    )
    routing: BindingChoice = Field(
        default=Own(),
        discriminator="kind",
        description="Which requests of the trace give the routing of those that are served: own, "
        "or draw where lengths are not the trace's.",
    )
    context: Tokens | None = Field(
        default=None,
        description="Tokens that every request has in its cache at every decode step, at least, as "
        "in 16k: of memory and of attention's time; by default those of the trace.",
    )
    prefill: Prefill = Field(
        default=Prefill(), description="How prompts are cut, and where their experts go."
    )
    speculative: Speculation | None = Field(
        default=None,
        discriminator="kind",
        description="Drafts that decode steps verify (docs/speculation.md).",
    )

    @property
    def at_once(self) -> int:
        """Requests that run at the same time, as far as is said; two where they come in time."""
        most = self.arrivals.concurrency or 2 if self.batching.serves else self.batching.in_flight
        return min(most, self.requests or most)

    @property
    def told_apart(self) -> int:
        """Requests that have a routing of their own; 0 where they take those that there are."""
        if self.batching.serves and not isinstance(self.routing, Own):
            return 0
        return max(self.at_once, self.requests or 0)

    @model_validator(mode="before")
    @classmethod
    def _with_what_serving_takes(cls, data: Any) -> Any:
        """If nothing else is said, what serves requests runs prompts and answers, and requests
        whose lengths are not the trace's are drawn from it.
        """
        if not isinstance(data, Mapping):
            return data
        told: dict[str, Any] = {}
        if getattr(_component(batchings, data.get("batching")), "serves", False):
            told["phase"] = "all"
        if not getattr(_component(length_kinds, data.get("lengths")), "of_trace", True):
            told["routing"] = {"kind": "draw"}
        return {**told, **data}


def _component(registry: Registry[Any], value: Any) -> Any:
    """The class of a component that is written as keys, or is made."""
    kind = value.get("kind") if isinstance(value, Mapping) else None
    return registry.components.get(kind) if isinstance(kind, str) else type(value)
