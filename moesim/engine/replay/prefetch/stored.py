"""Host memory that is a cache, as the arrays that compiled prefetching reads."""

from __future__ import annotations

from typing import Any

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.program import Program
from moesim.engine.replay.callback import FirstClass
from moesim.engine.replay.prefetch.arrays import HOST_SLOTS, Asked, Predicted, Stored
from moesim.engine.residency.storage import host_numbers
from moesim.memory.decisions import DECIDE_IN, is_own, new_cells
from moesim.memory.host_residency import HostResidency
from moesim.memory.misses.load import Load
from moesim.memory.policy import ROWS, CachePolicy
from moesim.memory.policy_reads import reads_of
from moesim.memory.residency import decide_in_of
from moesim.memory.split import OFFERED


def stored_of(program: Program, decide: Any) -> Stored:
    """The hosts of ``program``, a GPU each, as they are; ``decide`` stands for what decides in
    them where they hold all experts.
    """
    case, hosts = program.case, hosts_of(program)
    if not hosts:
        none = np.zeros((0, 0), np.int64)
        return _stored(decide, np.zeros(3, np.int64), [], none, 0, CachePolicy)
    layers = len(case.model.moe_layers)
    assert case.host_cache is not None, "hosts are of it"
    choices = np.array([case.host_cache.slots, Load().most_loads(), layers])
    if case.host_cache.slots:
        decide = decide_in_of(type(case.host_cache.policy), Load)
    local = max(len(case.local_experts(gpu)) for gpu in range(case.gpus))
    numbers = np.zeros((case.gpus, layers * local), np.int64)
    for gpu in range(case.gpus):
        own = host_numbers(case, program.routing, gpu).ravel()
        numbers[gpu, : len(own)] = own
    return _stored(decide, choices, hosts, numbers, local, type(case.host_cache.policy))


def hosts_of(program: Program) -> list[HostResidency]:
    """Those that do not hold all experts."""
    hosts = [] if program.storage is None else program.storage.hosts
    return [host for host in hosts if isinstance(host, HostResidency)]


def _stored(
    decide: Any, choices: Ints, hosts: list[HostResidency], numbers: Ints, local: int,
    policy: type[CachePolicy],
) -> Stored:  # fmt: skip
    caches = [host.cache for host in hosts if host.cache is not None]
    flat, rows, own = numbers.shape[1], ROWS, bool(caches) and is_own(reads_of(policy))
    resident = np.zeros((len(hosts), 0), np.bool_)
    state = np.zeros((len(hosts), rows, 0), np.int64)
    if caches:
        resident = np.stack([cache.resident for cache in caches])
        state = np.stack([cache.state for cache in caches])
    cells = new_cells(False, int(choices[HOST_SLOTS]), 0, resident.shape[1], own, splits=False)
    return Stored(
        decide=FirstClass(decide, DECIDE_IN), choices=choices, resident=resident, state=state,
        now=np.zeros(len(hosts), np.int64), draws=np.zeros(0),
        draws_at=np.zeros(1 + len(hosts), np.int64), number=numbers,
        issued=np.zeros_like(numbers), asked=np.zeros_like(numbers),
        there=np.zeros_like(numbers), ahead=np.zeros(numbers.shape, np.bool_),
        mark=np.zeros(local, np.int64), fresh=np.zeros(flat, np.int64),
        wanted=np.zeros(flat, np.int64), hit=np.zeros(flat, np.bool_),
        out=np.zeros((5, flat), np.int64), offsets=np.zeros(2, np.int64),
        none=np.zeros(0, np.int64), no_prices=np.zeros((OFFERED, 0), np.int64), cells=cells,
    )  # fmt: skip


def with_host_draws(
    stored: Stored, hosts: list[HostResidency], case: Case, asked: Asked, predicted: Predicted
) -> Stored:
    """``stored`` with draws for all that a chunk may ask the ``hosts`` for."""
    if not any(host.cache for host in hosts):
        return stored
    assert case.host_cache is not None, "they are of it"
    if not case.host_cache.policy.draws:
        return stored
    most = len(asked.experts) + max(case.prefetch.layers, 1) * len(predicted.experts)
    caches = [host.cache for host in hosts if host.cache is not None]
    for host, cache, now in zip(hosts, caches, stored.now.tolist(), strict=True):
        host.draw(max(now + most - len(cache.draws), 0))
    draws = [cache.draws for cache in caches]
    return stored._replace(draws=np.concatenate(draws), draws_at=np.cumsum([0, *map(len, draws)]))
