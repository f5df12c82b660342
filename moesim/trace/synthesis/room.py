"""Whether a trace can be drawn in the memory that this machine has."""

from __future__ import annotations

import numpy as np

from moesim.config.errors import InputError, Problem
from moesim.runtime.memory import available_bytes
from moesim.trace.synthesis.parameters import Requests, SyntheticTrace

_CHOICE_BYTES, _WEIGHT_BYTES = 4, 16
"""Of a chosen expert: its number by request and again in one array; and with gate weights, a double
that is sorted where it stands, its part of the sums, and the half that stays."""
_TOKEN_BYTES, _REQUEST_BYTES = 20, 600
_LEVELS = (np.arange(100) + 0.5) / 100


def check_room(parameters: SyntheticTrace, requests: int | None, tokens: int | None) -> None:
    """An InputError where a trace of ``requests`` requests or ``tokens`` tokens, the fewer (without
    both: as the parameters say), is estimated to need more memory than there is.
    """
    mean = max(_mean_tokens(parameters.requests), 1.0)
    of_request = needed_bytes(parameters, 1)
    wanted = [
        (("--requests", ""), requests, of_request),
        (("--tokens", ""), tokens, of_request / mean),
    ]
    if requests is None and tokens is None:
        wanted = [(("", "requests.count"), parameters.requests.count, of_request)]
    needs = [(number * each, number, each, at) for at, number, each in wanted if number is not None]
    need, number, each, at = min(needs)
    if need > (free := available_bytes()):
        remedy = f"ask for {most} or fewer" if (most := int(free / each)) else "make them shorter"
        what = f"{number} would take about {need / 1e9:.3g} GB of memory, and this machine has"
        what += f" {free / 1e9:.3g} GB left; {remedy}"
        raise InputError([Problem(*at, what)])


def needed_bytes(parameters: SyntheticTrace, requests: int) -> float:
    """An estimate of the most memory that drawing ``requests`` requests takes."""
    mean = max(_mean_tokens(parameters.requests), 1.0)
    return requests * (_token_bytes(parameters) * mean + _REQUEST_BYTES)


def _token_bytes(parameters: SyntheticTrace) -> int:
    each = _CHOICE_BYTES + (_WEIGHT_BYTES if parameters.gate_weights else 0)
    each += _CHOICE_BYTES if parameters.prediction else 0
    return each * len(parameters.moe_layer_ids) * parameters.top_k + _TOKEN_BYTES


def _mean_tokens(requests: Requests) -> float:
    """Recorded tokens of a request, on average."""
    recorded = [requests.encode_tokens, requests.decode_tokens]
    if requests.prefill_recorded:
        recorded.append(requests.prefill_tokens)
    means = (np.mean([one.at(level) for level in _LEVELS]) for one in recorded if one is not None)
    return float(sum(means))
