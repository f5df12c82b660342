"""Which requests a synthetic trace has: their domains and lengths."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import numpy as np

from moesim.config.errors import InputError, nearest
from moesim.trace.synthesis.domains import Domains
from moesim.trace.synthesis.lengths import Lengths
from moesim.trace.synthesis.parameters import PhaseName, Requests, SyntheticTrace

PHASES: tuple[PhaseName, ...] = ("encode", "prefill", "decode")
"""In the order in which a request runs through them."""


@dataclass(frozen=True)
class Request:
    """One request: its number, which seeds it, its domain, and the tokens of each recorded phase.

    ``first_decode`` is the position of its first decode token.
    """

    number: int
    domain: int
    tokens: tuple[int, int, int]
    first_decode: int

    def cut(self, most: int) -> Request:
        """The first ``most`` tokens of it."""
        left, kept = most, []
        for tokens in self.tokens:
            kept.append(min(tokens, left))
            left -= kept[-1]
        return Request(self.number, self.domain, (kept[0], kept[1], kept[2]), self.first_decode)


def generator(seed: int, number: int, stream: int) -> np.random.Generator:
    """The random numbers of one request and purpose: the same however many requests there are."""
    return np.random.default_rng([seed, number, stream])


def plan(
    parameters: SyntheticTrace, requests: int | None, tokens: int | None, domain: str | None
) -> list[Request]:
    """``requests`` requests (None: as the parameters say), or as many as have ``tokens`` tokens
    in all; ``domain``: all of it. The same request comes first whatever the number.
    """
    only = None if domain is None else _index(parameters.domains, domain)
    wanted = parameters.requests.count if requests is None and tokens is None else requests
    planned: list[Request] = []
    total, domain_before = 0, only
    for number in count():
        if number == wanted or (tokens is not None and total >= tokens):
            break
        request = _next(parameters, number, domain_before, only)
        if not sum(request.tokens):
            raise InputError(f"request {number} has no tokens: give a phase at least one")
        domain_before = request.domain
        planned.append(request if tokens is None else request.cut(tokens - total))
        total += sum(planned[-1].tokens)
    return planned


def _next(parameters: SyntheticTrace, number: int, before: int | None, only: int | None) -> Request:
    levels = generator(parameters.seed, number, 0).random(5)
    requests: Requests = parameters.requests
    encode, prompt, answer = (
        0 if lengths is None else lengths.at(level)
        for lengths, level in zip(_lengths(requests), levels[2:], strict=True)
    )
    recorded = prompt if requests.prefill_recorded else 0
    domain = _domain(parameters.domains, before, levels[0], levels[1]) if only is None else only
    return Request(number, domain, (encode, recorded, answer), prompt)


def _lengths(requests: Requests) -> tuple[Lengths | None, ...]:
    return requests.encode_tokens, requests.prefill_tokens, requests.decode_tokens


def _domain(domains: Domains, before: int | None, stays: float, drawn: float) -> int:
    if before is not None and stays < domains.persistence:
        return before
    place = int(np.searchsorted(domains.share().cumsum(), drawn, side="right"))
    return min(place, len(domains.names) - 1)


def _index(domains: Domains, name: str) -> int:
    if name not in domains.names:
        raise InputError(f"--domain '{name}' is not a domain; {nearest(name, domains.names)}")
    return domains.names.index(name)
