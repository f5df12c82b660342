"""Which requests of the trace give the routing of the requests that are served."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import Field

from moesim.config.errors import InputError, Problem, nearest
from moesim.config.params import Params
from moesim.trace.domains import domain_of
from moesim.trace.routing import Phase, RoutingTrace
from moesim.workload.lengths.base import Pair
from moesim.workload.schedule import Ints

CANDIDATES = 8
"""Draws of which ``nearest`` takes the nearest."""


class Recorded(NamedTuple):
    """Requests of a trace, int64[n] each: the first row and the number of their prompt's rows and
    of their decode rows, and the prompt's length (which some traces say without having its rows);
    which of the trace's ``domains``, by name, each is of, -1: of none.
    """

    prompt_row: Ints
    prompt_rows: Ints
    decode_row: Ints
    decode_rows: Ints
    prompt_tokens: Ints
    domain: Ints
    domains: tuple[str, ...]

    @classmethod
    def of(cls, trace: RoutingTrace) -> Recorded:
        """The requests of ``trace``."""
        offsets = trace.request_offsets()
        begins = offsets[:-1]
        counts = [
            np.add.reduceat((trace.phase == phase).astype(np.int64), begins)
            for phase in (Phase.ENCODE, Phase.PREFILL, Phase.DECODE)
        ]
        encoder, prompt, decode = counts
        first = begins + encoder
        decode_row = first + prompt
        inside = np.minimum(decode_row, trace.tokens - 1)
        told = np.where(decode > 0, trace.position[inside].astype(np.int64), prompt)
        domains = trace.metadata.domains
        domain = domain_of(domains, trace.request_id[begins].astype(np.int64))
        length, names = np.maximum(told, 1), tuple(one.name for one in domains)
        return cls(first, prompt, decode_row, decode, length, domain, names)

    def about(self, domain: str | None) -> NDArray[np.bool_]:
        """Which requests are of a ``domain``, None: of any. InputError where the trace has none."""
        check_domain(domain, self.domains)
        if domain is None:
            return np.ones(len(self.domain), np.bool_)
        return np.equal(self.domain, self.domains.index(domain))

    def lengths(self, bound: Ints) -> Pair:
        """Input and output tokens of requests that are as those of ``bound``: the last token of an
        answer is in no pass, so that an answer has one more than decode rows.
        """
        return self.prompt_tokens[bound], self.decode_rows[bound] + 1


def check_domain(domain: str | None, domains: tuple[str, ...]) -> None:
    """InputError where a ``domain`` is asked for that is none of a trace's ``domains``."""
    if domain is None or domain in domains:
        return
    what = f"'{domain}' is no domain of the trace; {nearest(domain, domains)}"
    if not domains:
        what = f"is '{domain}', and the trace does not say what its requests are about;"
        what += " leave it out, or write a trace that 'moesim trace label' has made of it"
    raise InputError(f"workload.routing.domain: {what}")


class Binding(Params):
    """What a request has in common with the request of the trace that it is bound to."""

    when_short: Literal["auto", "repeat", "chain", "truncate", "error"] = Field(
        default="auto",
        description="Where a request is longer than the trace's: its rows again from the first, the"
        " rows of another one, as drawn, a shorter request, or an error; auto: prompts chain,"
        " answers repeat.",
    )
    prompts_from: Literal["own", "decode"] = Field(
        default="own",
        description="Prompt tokens take rows of prompts, or, of traces that have none, decode rows,"
        " from a drawn one on.",
    )

    domain: str | None = Field(
        default=None,
        description="Only requests of the trace that are about this (see moesim trace stats).",
    )

    def bind(self, count: int, recorded: Ints, stream: Generator) -> Ints:
        """The trace's request int64[count] of each request, out of those ``recorded``."""
        raise NotImplementedError


class Own(Binding):
    """The first request is the first of the trace, and so on; lengths are the trace's."""

    kind: Literal["own"] = "own"

    def bind(self, count: int, recorded: Ints, stream: Generator) -> Ints:
        """See ``Binding``."""
        del stream
        if count > len(recorded):
            of = f" about '{self.domain}'" if self.domain is not None else ""
            what = (
                f"is {count}, and the trace has {len(recorded)}{of}; write routing: {{kind: draw}},"
            )
            raise InputError(f"workload.requests: {what} or fewer")
        return recorded[:count]


class Draw(Binding):
    """Each request is any of the trace's, drawn evenly."""

    kind: Literal["draw"] = "draw"

    def bind(self, count: int, recorded: Ints, stream: Generator) -> Ints:
        """See ``Binding``."""
        return recorded[stream.integers(0, len(recorded), count)]


class Nearest(Binding):
    """Of eight requests of the trace, drawn evenly, that which is nearest in length."""

    kind: Literal["nearest"] = "nearest"

    def bind(self, count: int, recorded: Ints, stream: Generator) -> Ints:
        """The eight draws of each request int64[count, 8]; ``nearest_of`` chooses."""
        return recorded[stream.integers(0, len(recorded), (count, CANDIDATES))]


def nearest_of(drawn: Ints, recorded: Recorded, asked: Pair) -> Ints:
    """Of ``drawn`` int64[n, 8] the first with the least distance in the logarithms of both lengths
    from ``asked``.
    """
    theirs = recorded.lengths(drawn)
    apart = sum(
        (np.log(there) - np.log(one)[:, None]) ** 2
        for there, one in zip(theirs, asked, strict=True)
    )
    return np.take_along_axis(drawn, np.argmin(apart, axis=1)[:, None], axis=1)[:, 0]


def with_rows(recorded: Recorded, binding: Binding, *, prompts: bool) -> Ints:
    """The trace's requests that have rows of what is served; an InputError where one of a trace
    without prompts would be asked for some.
    """
    if prompts and binding.prompts_from == "own" and not recorded.prompt_rows.any():
        what = "has no prompts, so nothing says which experts their tokens choose; write"
        what += " workload.routing.prompts_from: decode to take decode rows, or phase: decode"
        raise InputError([Problem("", "trace", what)])
    needed = recorded.decode_rows > 0
    if isinstance(binding, Own):
        needed[:] = True
    if prompts and binding.prompts_from == "own":
        needed &= recorded.prompt_rows > 0
    needed &= recorded.about(binding.domain)
    if not needed.any():
        of = f" about '{binding.domain}'" if binding.domain is not None else ""
        what = f"has no request{of} with what is served: prompt and decode rows, or, in phase"
        what += " decode or with prompts_from: decode, decode rows"
        raise InputError([Problem("", "trace", what)])
    return np.flatnonzero(needed)


BindingChoice = Own | Draw | Nearest
