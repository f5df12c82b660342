"""The study's routing: pools of synthetic sentences by domain, kept as files."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moesim.config.files.inputs import stamp
from moesim.config.files.paths import shipped_folder
from moesim.reproduce.parameters import Assumptions, number
from moesim.reproduce.settings import Task
from moesim.trace import RoutingTrace, read_trace, write_trace
from moesim.trace.synthesis import load_parameters, synthesize
from moesim.trace.synthesis.domains import SubsetEffect
from moesim.trace.synthesis.lengths import Fixed
from moesim.trace.synthesis.parameters import Part, SyntheticTrace
from moesim.trace.synthesis.position import PositionEffect
from moesim.trace.synthesis.rows import fixed
from moesim.workload.requests import Requests

ACTIVE_SHARE = 0.25
"""Of a layer's experts, how many a place in the sentence uses: about 75 % are inactive
(arXiv 2303.06182)."""
OFF = -8.0
"""Logarithm of the weight of an expert where its place in the sentence does not use it."""
PLACE_SEED = 77


@lru_cache
def _published(trace: str) -> SyntheticTrace:
    return load_parameters(shipped_folder() / "experiments" / trace)


def domain_names(task: Task) -> tuple[str, ...]:
    """The domains of the task's trace, the mildest first."""
    return _published(task.trace).domains.names


def parameters_of(task: Task, values: Assumptions) -> SyntheticTrace:
    """The parameters of the task's routing, under the assumptions. The decoder's sentences have
    their sources with them, as long as they are.
    """
    found = _published(task.trace)
    if task.mix == "lm":
        return found
    lengths = Fixed(tokens=round(number(values, "mt_tokens")))
    encodes = task.phase == "encode"
    update = {"encode_tokens": lengths, "decode_tokens": None if encodes else lengths}
    parts = [part if "encode" in part.phases else _lasting(part, values) for part in found.parts]
    requests = found.requests.model_copy(update=update)
    return found.model_copy(update={"requests": requests, "parts": tuple(parts)})


def _lasting(part: Part, values: Assumptions) -> Part:
    """The decoder's part, in which the sentences of a batch change their experts together, step by
    step: ``persistence`` of those in use stay in use.
    """
    tokens = round(number(values, "mt_tokens"))
    of_language = number(values, "language_experts")
    shares = (ACTIVE_SHARE / of_language, number(values, "persistence"))
    on = used_by_place(tokens, part.layers, *shares)
    rows = tuple(tuple(fixed(OFF * ~layer, 1) for layer in place) for place in on)
    effect = PositionEffect(from_tokens=tuple(range(tokens)), log_factors=rows)
    domain = part.domain_effect
    assert isinstance(domain, SubsetEffect), "a language has experts of its own"
    domain = domain.model_copy(update={"share": of_language})
    return part.model_copy(update={"position_effect": effect, "domain_effect": domain})


def used_by_place(
    tokens: int, layers: int, share: float, persistence: float, experts: int = 128
) -> NDArray[np.bool_]:
    """bool[tokens, layers, experts]: whether a place in the sentence uses an expert of its
    language. A chain of two states: one in use stays with probability ``persistence``, ``share`` of
    them are in use.
    """
    random = np.random.default_rng(PLACE_SEED)
    returns = share * (1 - persistence) / (1 - share)
    used = [random.random((layers, experts)) < share]
    for _ in range(tokens - 1):
        stays = np.where(used[-1], persistence, returns)
        used.append(random.random((layers, experts)) < stays)
    return np.stack(used)


def pool_path(folder: Path, task: Task, domain: int, values: Assumptions, sentences: int) -> Path:
    """Where the pool lies: its name says what it depends on."""
    words = [task.name, str(domain), str(sentences)]
    if task.mix == "mt":
        words.append(f"{number(values, 'mt_tokens'):g}-tokens")
    if task.phase == "decode":
        words.append(f"persistence-{number(values, 'persistence'):g}")
        words.append(f"language-{number(values, 'language_experts'):g}")
    return folder / f"{'_'.join(words)}.parquet"


def write_pool(path: Path, task: Task, domain: int, values: Assumptions, sentences: int) -> None:
    """Synthesise a pool of ``sentences`` of a domain into ``path``."""
    parameters = parameters_of(task, values)
    drawn = synthesize(parameters, requests=sentences, domain=domain_names(task)[domain])
    write_trace(drawn, path)


def read_pool(path: Path) -> RoutingTrace:
    """The pool at ``path``, read once a process as long as the file stays."""
    return _read_pool(path, stamp(path))


@lru_cache(maxsize=6)
def _read_pool(path: Path, stamp: tuple[int, ...]) -> RoutingTrace:
    del stamp
    return read_trace(path)


def repeated(pool: Requests, count: int, times: int = 1) -> Requests:
    """The first ``count`` sentences of ``pool``, which begins anew where it has fewer; each of them
    ``times`` over before the next.
    """
    lengths = np.bincount(pool.request)
    starts = np.cumsum(lengths) - lengths
    chosen = np.arange(count) // times % pool.count
    request = np.repeat(np.arange(count), lengths[chosen])
    first = np.cumsum(lengths[chosen]) - lengths[chosen]
    tokens = np.arange(len(request)) - first[request] + starts[chosen][request]
    return Requests(
        rows=pool.rows[tokens],
        request=request,
        decode_index=pool.decode_index[tokens],
        decode_tokens=pool.decode_tokens[chosen],
    )
