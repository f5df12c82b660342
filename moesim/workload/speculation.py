"""Speculation: several tokens of one request in a pass, drafted before and verified there."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from moesim.config.params import Params
from moesim.config.units import Percents
from moesim.trace.routing import RoutingTrace
from moesim.workload.requests import Requests
from moesim.workload.schedule import Ints

STREAM, ASTRAY = (zlib.crc32(name) for name in (b"speculative.acceptance", b"speculative.rejected"))
REJECTED = {
    "continuation": "the trace was recorded without speculation: drafts that are rejected go to the"
    " experts of the tokens that came in their places, so drafts that went astray may need others,"
    " and more",
    "other": "the trace was recorded without speculation: drafts that are rejected go to the"
    " experts of other tokens of their answer, drawn evenly, as if nothing led to them",
}
OWN_TIME = "drafting is priced by the operations of its layers, with choices of experts spread"
OWN_TIME += " evenly and without launches by the host"
FREE = "drafting is taken to cost nothing"


class _Speculation(Params):
    num_speculative_tokens: int = Field(
        default=1,
        ge=0,
        le=64,
        description="Drafts that follow one another, which a pass verifies beside the token that "
        "it would decode anyway; 0: no speculation.",
    )
    acceptance: Percents = Field(
        default=0.8,
        description="The chance that a draft is right where those before it were; or a list, the "
        "n-th of the n-th draft, the last of all that follow.",
    )

    rejected: Literal["continuation", "other"] = Field(
        default="continuation",
        description="Whose experts drafts that are rejected need: those of the tokens that came in "
        "their places, or of other decode tokens of the request, drawn evenly.",
    )

    @property
    def drafts(self) -> int:
        """Drafts that a pass verifies of a request."""
        return self.num_speculative_tokens

    @property
    def look_ahead(self) -> int:
        """Tokens beyond those of a step that a server keeps blocks for: what drafts has keys and
        values of its drafts (``num_lookahead_tokens`` in vllm/config/vllm.py of 0.33.0).
        """
        return 0

    def chances(self) -> NDArray[np.float64]:
        """Of the drafts that follow one another, float64[num_speculative_tokens]."""
        given = np.atleast_1d(np.array(self.acceptance, np.float64))
        last = len(given) - 1
        places = np.minimum(np.arange(self.num_speculative_tokens), last)
        return np.asarray(given[places], np.float64)

    def notes(self) -> list[str]:
        """What the numbers rest on."""
        return [REJECTED[self.rejected], FREE]


class Ngram(_Speculation):
    """Drafts are looked up in what was said before: free."""

    kind: Literal["ngram"] = "ngram"


class Mtp(_Speculation):
    """Drafts come from the model's own layer for further tokens (multi-token prediction), which
    runs once a draft, its experts resident.
    """

    kind: Literal["mtp"] = "mtp"

    @property
    def look_ahead(self) -> int:
        """See above."""
        return self.drafts

    def notes(self) -> list[str]:
        """See above."""
        return [REJECTED[self.rejected], f"{OWN_TIME}, of the model's MTP layer and its head"]


class Draft(_Speculation):
    """Drafts come from a smaller model beside, which runs once a draft."""

    kind: Literal["draft"] = "draft"
    model: str = Field(min_length=1, description="The smaller model, by name or path.")

    @property
    def look_ahead(self) -> int:
        """See above."""
        return self.drafts

    def notes(self) -> list[str]:
        """See above."""
        return [REJECTED[self.rejected], f"{OWN_TIME}, of '{self.model}'"]


class Tree(_Speculation):
    """Drafts of several alternatives for each of the next tokens, of which one may be right."""

    kind: Literal["tree"] = "tree"
    width: int = Field(default=2, ge=1, le=64, description="Alternatives for each token.")

    @property
    def drafts(self) -> int:
        """All alternatives."""
        return self.width * self.num_speculative_tokens


Speculation = Ngram | Mtp | Draft | Tree


def speculated(
    requests: Requests, trace: RoutingTrace, speculation: Speculation, seed: int
) -> Requests:
    """``requests`` whose decode steps verify drafts.

    The step that decodes token i of a request has the rows of i and of as many after it as there
    are drafts, none beyond the request's last. The first so many of them as are accepted in a row
    are kept, and the next step begins behind these. Whether the draft of a token is right is one
    uniform number of that token of the trace, so that other settings meet the same luck.

    A rejected draft has the routing of its own row, or, under ``rejected: other``, of another
    decode row of its request, as a second number of its token says.
    """
    chances, drafts = speculation.chances(), speculation.drafts
    luck = _luck(seed, trace.tokens)
    decode = np.flatnonzero(requests.decode_index >= 0)
    first = decode[requests.decode_index[decode] == 0]  # of each request that decodes
    owner, left = requests.request[first], requests.decode_tokens[requests.request[first]]
    at, found, step = first.copy(), [], 0
    steps = np.zeros_like(requests.decode_tokens)
    while len(at):
        kept = 1 + _accepted(luck, requests.rows, at, left, chances)
        found.append((at, np.minimum(1 + drafts, left), kept, np.full(len(at), step)))
        steps[owner] += 1
        at, left, step = at + kept, left - kept, step + 1
        goes_on = left > 0
        at, left, owner = at[goes_on], left[goes_on], owner[goes_on]
    speculated = _with_steps(requests, found, steps)
    if speculation.rejected == "continuation" or speculated.kept is None:
        return speculated
    others = _others(requests, seed, trace.tokens)[speculated.rows]
    return replace(speculated, routed=np.where(speculated.kept, speculated.rows, others))


def _others(requests: Requests, seed: int, tokens: int) -> Ints:
    """By row of the trace int64[tokens], another decode row of its request, or itself where there
    is none.
    """
    rows, decode = np.arange(tokens), np.flatnonzero(requests.decode_index >= 0)
    own, number = requests.decode_index[decode], requests.decode_tokens[requests.request[decode]]
    luck = np.random.default_rng([seed, ASTRAY]).random(tokens)[requests.rows[decode]]
    rows[requests.rows[decode]] = requests.rows[decode - own + _another(luck, own, number)]
    return rows


def _another(luck: NDArray[np.float64], own: Ints, number: Ints) -> Ints:
    """Of so many tokens of an answer another one than each one's ``own``, drawn evenly; that one
    where there is no other.
    """
    drawn = np.floor(luck * (number - 1)).astype(np.int64)
    drawn += (drawn >= own) & (number > 1)
    return drawn


def others_of_served(prompts: Ints, tokens: Ints, seed: int) -> Ints:
    """Of requests that are served, with ``prompts`` int64[n] among the ``tokens`` int64[n] in
    passes: of each of these, one behind the other, the place in its request of the token whose
    experts a rejected draft in its place needs, under ``rejected: other``. A second number of each.
    """
    begins = np.repeat(np.cumsum(tokens) - tokens, tokens)
    every, prompt = np.arange(int(tokens.sum())), np.repeat(prompts, tokens)
    own, number = every - begins - prompt, np.repeat(tokens, tokens) - prompt
    luck = np.random.default_rng([seed, ASTRAY]).random(len(every))
    return np.where(own < 0, own, _another(luck, own, number)) + prompt


def _accepted(
    luck: NDArray[np.float64], rows: Ints, at: Ints, left: Ints, chances: NDArray[np.float64]
) -> Ints:
    """How many drafts behind each place ``at`` are right in a row, at most what is ``left``."""
    accepted, right = np.zeros_like(at), np.ones(len(at), np.bool_)
    for n, chance in enumerate(chances):
        right &= n < left - 1
        right &= luck[rows[np.where(right, at + 1 + n, 0)]] < chance
        accepted += right
    return accepted


def accepted_of_served(tokens: Ints, speculation: Speculation, seed: int) -> Ints:
    """Of requests that are served, with ``tokens`` int64[n] in passes: of each of these, one behind
    the other, how many drafts behind it are right in a row. One uniform number a token, so that
    other settings, and schedules, meet the same luck.
    """
    every = np.arange(int(tokens.sum()))
    left = np.repeat(np.cumsum(tokens), tokens) - every
    return _accepted(_luck(seed, len(every)), every, every, left, speculation.chances())


def _luck(seed: int, tokens: int) -> NDArray[np.float64]:
    return np.random.default_rng([seed, STREAM]).random(tokens)


def _with_steps(
    requests: Requests, found: list[tuple[Ints, Ints, Ints, Ints]], steps: Ints
) -> Requests:
    """``requests`` with the decode steps ``found``: place of the first row, rows, kept ones and
    number of each.
    """
    if not found:
        return requests
    at, count, kept, step = (np.concatenate(part) for part in zip(*found, strict=True))
    begins = np.cumsum(count) - count
    offset = np.arange(int(count.sum())) - np.repeat(begins, count)
    prompt = np.flatnonzero(requests.decode_index < 0)
    place = np.concatenate((prompt, np.repeat(at, count) + offset))
    index = np.concatenate((np.full(len(prompt), -1), np.repeat(step, count)))
    keeps = np.concatenate((np.ones(len(prompt), bool), offset < np.repeat(kept, count)))
    order = np.lexsort((place, index, requests.request[place]))
    place = place[order]
    return replace(
        requests,
        rows=requests.rows[place],
        request=requests.request[place],
        decode_index=index[order],
        decode_tokens=steps,
        kept=keeps[order],
    )
