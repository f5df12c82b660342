"""Instances that prefill and instances that decode, and what joins them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from moesim.config.amounts.dimensions import NETWORK_RATE
from moesim.config.oneof import OneOf
from moesim.config.params import Params
from moesim.config.units import Duration, NetworkRate, within
from moesim.workload.routers import registry as routers
from moesim.workload.routers.base import Router

CardRate = Annotated[NetworkRate, within("1 MB/s", "100 TB/s", NETWORK_RATE)]


class Disaggregation(Params):
    """Prompts are computed on instances of their own; their keys and values go to those that
    decode.
    """

    prefill: int = Field(default=1, ge=1, le=64, description="Engines that compute prompts.")
    decode: int = Field(default=1, ge=1, le=64, description="Engines that compute answers.")
    bandwidth: CardRate | None = Field(
        default=None,
        description="What the network card of each GPU sends, and receives: '400 Gb/s', "
        "'50 GB/s'; by default its part of the cards of the hardware's network.",
    )
    latency: Annotated[Duration, Field(ge=0)] = Field(
        default=0.0, description="From when a transfer's last byte is sent until it is there."
    )
    overlap: Literal["none", "layer"] = Field(
        default="none",
        description="All of a prompt's keys and values are sent once it has ended (none), or those "
        "of a layer once a pass has done it (layer).",
    )
    first_token: Literal["prefill", "decode"] = Field(
        default="prefill",
        description="Who gives the first token: the instance that computed the prompt, as in "
        "SGLang, or the one that decodes, which computes the prompt's last token again, as in vLLM "
        "with NIXL.",
    )
    router: Annotated[Router, OneOf(routers)] = Field(
        default_factory=lambda: routers.get("least_outstanding")(),  # noqa: PLW0108 (found when it is used)
        description="Which of those that decode gets a request; serving.router is of those that "
        "prefill.",
        json_schema_extra={"default": {"kind": "least_outstanding"}},
    )
