"""Host memory that is a cache, as the arrays that compiled prefetching reads."""

from __future__ import annotations

from typing import Any

import numpy as np

from moesim.engine.case import Case
from moesim.engine.program import Program
from moesim.engine.replay.callback import FirstClass
from moesim.engine.replay.prefetch.arrays import Asked, Predicted, Stored
from moesim.engine.replay.prefetch.tables import with_draws
from moesim.engine.residency.storage import host_numbers
from moesim.memory.host.host_residency import HostResidency
from moesim.memory.misses.load import Load
from moesim.memory.policy_reads import reads_of
from moesim.memory.slots.decisions import is_own, new_cells
from moesim.memory.slots.open_slots import DECIDE_OPEN, Deciding, Slots, decide_open_of, opened
from moesim.memory.slots.residency import NONE


def stored_of(program: Program, decide: Any, rest: Deciding) -> Stored:
    """The hosts of ``program``, a GPU each, as they are; ``decide`` and ``rest`` stand for what
    decides in them where they hold all experts.
    """
    case, hosts = program.case, hosts_of(program)
    numbers = np.zeros((0, 0), np.int64)
    local = max(len(case.local_experts(gpu)) for gpu in range(case.gpus))
    if hosts:
        numbers = np.zeros((case.gpus, len(case.model.moe_layers) * local), np.int64)
    for gpu in range(len(numbers)):
        own = host_numbers(case, program.routing, gpu).ravel()
        numbers[gpu, : len(own)] = own
    if any(host.cache for host in hosts):
        assert case.host_cache is not None, "hosts are of it"
        decide = decide_open_of(type(case.host_cache.policy), Load, variants=False)
    flat = numbers.shape[1]
    return Stored(
        decide=FirstClass(decide, DECIDE_OPEN), deciding=_deciding(hosts, flat, rest),
        number=numbers, issued=np.zeros_like(numbers), asked=np.zeros_like(numbers),
        there=np.zeros_like(numbers), ahead=np.zeros(numbers.shape, np.bool_),
        mark=np.zeros(local, np.int64), fresh=np.zeros(flat, np.int64),
    )  # fmt: skip


def hosts_of(program: Program) -> list[HostResidency]:
    """Those that do not hold all experts."""
    hosts = [] if program.storage is None else program.storage.hosts
    return [host for host in hosts if isinstance(host, HostResidency)]


def _deciding(hosts: list[HostResidency], flat: int, rest: Deciding) -> Deciding:
    """The slots of ``hosts``, of so many experts, and room to decide in them."""
    caches, room = (
        [host.cache for host in hosts if host.cache is not None],
        np.zeros((6, flat), int),
    )
    none, zero = np.zeros((1, 0), np.int64), np.zeros(0)
    slots = Slots(NONE, NONE, NONE, none, none, none, none > 0, none[None], zero, NONE)
    layers, cells = 1, new_cells(False, 0, 0, 0, True, False)
    if caches:
        policy = caches[0].policy
        slots, layers = opened(policy, caches), caches[0].layers
        cells = new_cells(False, 0, 0, slots.slot_of.shape[1], is_own(reads_of(policy)), False)
    return rest._replace(
        most_loads=Load().most_loads(), layers=layers, serial=True, resident_first=False,
        protects=True, loads_of=NONE, slots=slots, over=cells.over[None], keys=cells.keys,
        index_of=NONE, planned=NONE, missing=NONE, offsets=np.zeros(2, np.int64), experts=room[0],
        expert=room[1], hit=np.zeros(flat, np.bool_), launch=room[2], wait=room[3], victim=room[4],
        form=room[5],
    )  # fmt: skip


def with_host_draws(
    stored: Stored, hosts: list[HostResidency], case: Case, asked: Asked, predicted: Predicted
) -> Stored:
    """``stored`` with draws for all that a chunk may ask the ``hosts`` for."""
    caches = [host.cache for host in hosts if host.cache is not None]
    if not caches or not caches[0].policy.draws:
        return stored
    slots = stored.deciding.slots
    most = len(asked.experts) + max(case.prefetch.layers, 1) * len(predicted.experts)
    for host, cache, now in zip(hosts, caches, slots.now.tolist(), strict=True):
        host.draw(max(now + most - len(cache.draws), 0))
    slots = with_draws(slots, [cache.draws for cache in caches])
    return stored._replace(deciding=stored.deciding._replace(slots=slots))
