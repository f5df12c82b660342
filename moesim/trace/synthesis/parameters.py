"""The parameters of a synthetic trace."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from moesim.config.params import Params
from moesim.trace.synthesis.coupling import BetweenLayers, WithinToken
from moesim.trace.synthesis.domains import ONE_DOMAIN, DomainEffect, Domains, Positive
from moesim.trace.synthesis.lengths import Lengths
from moesim.trace.synthesis.popularity import Popularity, Share
from moesim.trace.synthesis.position import PositionEffect
from moesim.trace.synthesis.rows import Experts, PerLayer
from moesim.trace.synthesis.stickiness import Stickiness

Count = Annotated[int, Field(ge=1)]
Layer = Annotated[int, Field(ge=0, lt=1 << 16)]
PhaseName = Literal["encode", "prefill", "decode"]


def _range(given: Any) -> Any:
    """The layers of a text as in '3-60', both ends included, or of a list; else what is given."""
    if not isinstance(given, str) or not (ends := re.fullmatch(r"(\d{1,5})-(\d{1,5})", given)):
        return tuple(given) if isinstance(given, list) else given
    return tuple(range(int(ends[1]), int(ends[2]) + 1))


class Requests(Params):
    """How many requests, and the tokens of each phase; a phase left out has none.

    Prompts that are not recorded only decide the position of the first decode token.
    """

    count: Count
    encode_tokens: Lengths | None = None
    prefill_tokens: Lengths | None = None
    prefill_recorded: bool = True
    decode_tokens: Lengths | None = None


class Part(Params):
    """The routing of tokens of some ``phases`` through ``layers`` MoE layers from ``first_layer``.

    The weight of an expert is popularity x domain x request x position x recency x the
    factors of the token's experts in the layer before x those of the experts already chosen.
    Popularity and domain leave a share ``even_share`` to all experts alike. ``request_spread`` is
    the standard deviation of the logarithm of a request's own factors.
    """

    phases: Annotated[tuple[PhaseName, ...], Field(min_length=1)]
    first_layer: Layer = 0
    layers: Annotated[Layer, Field(ge=1)]
    popularity: Popularity
    domain_effect: DomainEffect | None = None
    even_share: Share = 0.0
    request_spread: PerLayer = (0.0,)
    position_effect: PositionEffect | None = None
    stickiness: Stickiness = Stickiness()
    between_layers: BetweenLayers | None = None
    within_token: WithinToken | None = None


class GateWeights(Params):
    """Weights of a token's choices: ``total`` times a Dirichlet draw with these ``means``, largest
    first; the larger ``concentration``, the nearer to the means.
    """

    means: Annotated[tuple[Positive, ...], Field(min_length=1)]
    concentration: Annotated[float, Field(gt=0)]
    total: Annotated[float, Field(gt=0, le=1)] = 1.0


class Prediction(Params):
    """A recorded look-ahead: each predicted choice is the token's own with probability ``right``,
    else any other expert.
    """

    right: Annotated[float, Field(ge=0, le=1)]


class SyntheticTrace(Params):
    """A synthetic trace.

    ``routing_seed`` decides the random parts of the routing's parameters (which expert is
    popular), ``seed`` the tokens: another seed gives other text for the same model.
    """

    title: Annotated[str, Field(min_length=1)]
    model: str | None = None
    experts: Experts
    top_k: Experts
    moe_layer_ids: Annotated[tuple[Layer, ...], Field(min_length=1), BeforeValidator(_range)]
    source: str = "synthetic"
    licence: str = "Apache-2.0"
    routing_seed: Annotated[int, Field(ge=0)] = 0
    seed: Annotated[int, Field(ge=0)] = 0
    requests: Requests
    domains: Domains = ONE_DOMAIN
    parts: Annotated[tuple[Part, ...], Field(min_length=1)]
    gate_weights: GateWeights | None = None
    prediction: Prediction | None = None
