"""The bytes of every forward pass of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.experiment.building.layer_rows import rows_alike, rows_of_run
from moesim.experiment.building.reserved import reserved_parts
from moesim.hardware import SoftwareProfile
from moesim.memory.footprint.compute_buffer import compute_buffer_bytes
from moesim.memory.footprint.footprint import Footprint, Pool, Residence
from moesim.memory.footprint.kv_pool import KvPool
from moesim.memory.footprint.live import LayerRows, Tokens, Widths, live_parts
from moesim.memory.footprint.shares import Share
from moesim.memory.slots.staging import STAGING_BUFFERS
from moesim.trace.routing import Phase
from moesim.workload.schedule import AttentionSums, last_of_requests, over_groups
from moesim.workload.sources import SourceSums

Sums = Mapping[int | None, AttentionSums]
"""By sliding window."""
MATRICES = 3
"""Of an expert: gate, up and down."""


def footprint_of(
    case: Case, residences: tuple[Residence, ...], planned: Footprint | None = None
) -> Footprint:
    """Bytes of every pass of ``case``. Where requests are served, room is set aside for the fullest
    pass that was ``planned`` before the run (None: of ``case`` itself), and a pass that holds more
    takes more; so where software reserves memory.
    """
    tokens = case.schedule.tokens(case.gpus)
    present = over_groups(tokens, case.group)
    logits = logits_of(case.software, present, case.schedule.phase)
    if case.software.logits == "last" and (given := case.schedule.logits(case.gpus)) is not None:
        logits = over_groups(given, case.group)
    counted = Tokens(present, logits, scores_of(case))
    live = live_of(case, rows_of_run(case, tokens), counted, residences)
    sums = {} if case.kv_pool is not None else sums_of(case)
    if case.kv_pool is None:
        live = _fuller(live, _reserved(case, live, sums))
    else:
        aside = _profiled(case, case.kv_pool, residences) if planned is None else planned.live
        live = _fuller(live, aside)
    return Footprint.of(
        case.shares, residences, kv_bytes=_kv_bytes(case, sums), live=live,
        pinned=pins(case), nodes=case.nodes, host_kv_bytes=_host_kv_bytes(case),
        host_cache_bytes=host_cache_bytes(case),
    )  # fmt: skip


def served_pass(case: Case, residences: tuple[Residence, ...]) -> Footprint:
    """Bytes of a pass of as many tokens as there may be, and of the room for keys and values."""
    pool = case.kv_pool
    assert pool is not None, "requests are served"
    kv = np.array([[pool.bytes_of(share.model) for share in case.shares]])
    live = _profiled(case, pool, residences)
    return Footprint.of(
        case.shares, residences, kv_bytes=kv, live=live, pinned=pins(case), nodes=case.nodes,
        host_cache_bytes=host_cache_bytes(case),
    )  # fmt: skip


def _kv_bytes(case: Case, sums: Sums) -> Ints:
    """Bytes int64[passes, shares] of the caches; ``sums`` where they grow."""
    if case.kv_pool is not None:
        pools = [case.kv_pool.bytes_of(share.model) for share in case.shares]
        return np.tile(pools, (case.schedule.passes, 1))
    cached = {window: one.of_groups(case.group).cached_tokens for window, one in sums.items()}
    sources = None
    if case.model.source_bytes_per_token:
        of_sources = SourceSums.of(case.schedule, case.trace, case.gpus)
        sources = of_sources.of_groups(case.group).cached_tokens
    kv = np.zeros((case.schedule.passes, len(case.shares)), np.int64)
    for place, share in enumerate(case.shares):
        for layer in share.model.cached_layers:
            tokens = cached[layer.attention.window][:, share.gpu]
            kv[:, place] += tokens * layer.gpu_kv_bytes_per_token
        if sources is not None:
            kv[:, place] += sources[:, share.gpu] * share.model.source_bytes_per_token
    return kv


def _profiled(case: Case, pool: KvPool, residences: tuple[Residence, ...]) -> dict[str, Ints]:
    """What is live int64[1, shares] in a pass of as many tokens as there may be: room for it is
    set aside.
    """
    own = np.full((1, case.gpus), -(-pool.tokens // case.group))
    present = np.full((1, case.gpus), pool.tokens)
    logits = present if case.software.logits == "all" else np.minimum(present, pool.seats)
    counted = Tokens(present, logits, np.zeros_like(present))
    live = live_of(case, rows_alike(case, own), counted, residences)
    return _fuller(live, _reserved(case, live, {}))


def _reserved(case: Case, live: dict[str, Ints], sums: Sums) -> dict[str, Ints]:
    """As ``live``, but int64[1, shares] and what software reserves for a pass, if it does; where
    requests are served, whose room for keys and values is what this leaves, with a small mask.
    """
    memory, pool, nothing = case.software.memory, case.kv_pool, np.zeros(len(case.shares), np.int64)
    held = dict.fromkeys(live, nothing[None])
    if not memory.reserved_tokens:
        return held
    tokens, cells = memory.reserved_tokens if pool is None else pool.tokens, 0
    if (whole := sums.get(None)) is not None:
        cells = int(whole.cached_tokens.max(initial=0))
    logits = [min(tokens, memory.reserved_logits)] * len(case.shares)
    if len(case.stages) > 1:
        logits[:-1] = [0] * (len(logits) - 1)
    sizes = [compute_buffer_bytes(case.model, tokens, some, cells) for some in logits]
    return held | {"activations": np.array([sizes])}


def _fuller(live: dict[str, Ints], other: dict[str, Ints]) -> dict[str, Ints]:
    """Of passes what is ``live`` [passes, shares], or in the ``other`` one [1, shares], if that is
    more.
    """
    mine, its = (np.sum(list(one.values()), axis=0) for one in (live, other))
    return {name: np.where(mine >= its, live[name], other[name]) for name in live}


def _host_kv_bytes(case: Case) -> int:
    """The most bytes that layers of the host cache."""
    blocks = [layer.attention for layer in case.model.layers if layer.on_host]
    if not blocks:
        return 0
    sums, kv = sums_of(case), np.zeros((case.schedule.passes, case.gpus), np.int64)
    for block in blocks:
        kv += sums[block.window].cached_tokens * block.kv_bytes_per_token
    return int(kv.max(initial=0))


def host_cache_bytes(case: Case) -> int | None:
    """Bytes of a host's slots, None where it holds all offloaded experts."""
    if case.miss.near_memory:
        return 0
    if case.host_cache is None:
        return None
    if case.host_cache.limit is not None:
        return case.host_cache.limit
    return case.host_cache.slots * int(case.stored.max())


def sums_of(case: Case) -> dict[int | None, AttentionSums]:
    """By sliding window of the model's layers, what passes attend to on each GPU."""
    windows = dict.fromkeys(layer.attention.window for layer in case.model.cached_layers)
    schedule, trace = case.schedule, case.trace
    return {window: AttentionSums.of(schedule, trace, case.gpus, window) for window in windows}


def live_of(
    case: Case, rows: LayerRows, tokens: Tokens, residences: tuple[Residence, ...]
) -> dict[str, Ints]:
    """What is live int64[passes, shares] of ``tokens``, and what the software always holds.

    The last stage alone has the logits; each has the rows of the model's fullest MoE layer.
    """
    widths = widths_of(case)
    ends = [live_parts(widths, rows, tokens)]
    if len(case.stages) > 1:
        before = live_parts(widths, rows, replace(tokens, logits=np.zeros_like(tokens.logits)))
        ends = [before] * (len(case.stages) - 1) + ends
    live = {name: np.concatenate([one[name] for one in ends], axis=1) for name in ends[0]}
    held = reserved_parts(case.software.memory, case.shares, residences, case.gpus)
    return live | {name: np.tile(sizes, (len(tokens.present), 1)) for name, sizes in held.items()}


def scores_of(case: Case) -> Ints:
    """Pairs int64[passes, gpus] of a token and a key of kernels that are not fused, 0 where there
    are none: every token of a request with all keys that the last of them sees, masked or not.
    """
    schedule, gpus = case.schedule, case.gpus
    if not case.software.memory.score_bytes:
        return np.zeros((schedule.passes, gpus), np.int64)
    token_pass = schedule.pass_of_token()
    last = last_of_requests(token_pass, schedule.request)
    tokens = np.diff(np.flatnonzero(np.concatenate(([True], last))))
    keys = schedule.positions(case.trace)[last] + 1
    place = (token_pass * gpus + schedule.gpu)[last]
    sums = np.bincount(place, tokens * keys, schedule.passes * gpus).astype(np.int64)
    return over_groups(sums.reshape(schedule.passes, gpus), case.group)


def widths_of(case: Case) -> Widths:
    """Bytes of rows, logits, scores and positions under the case's kernels and software."""
    fused, memory = case.kernels in ("grouped", "block_sparse"), case.software.memory
    heads = max(layer.attention.heads for layer in case.model.layers)
    return replace(
        Widths.of(case.model, case.software.logit_bytes, fused=fused),
        score=heads * memory.score_bytes,
        position=memory.position_bytes,
        place=memory.place_bytes,
    )


def logits_of(software: SoftwareProfile, tokens: Ints, phase: NDArray[np.uint8]) -> Ints:
    """Of ``tokens`` int64[passes, gpus] in passes of a ``phase`` each, those that have logits."""
    of_pass = phase[:, None]
    of_prompt = tokens if software.logits == "all" else np.minimum(tokens, 1)
    with_head = np.where(of_pass == Phase.DECODE, tokens, of_prompt)
    return np.where(of_pass == Phase.ENCODE, 0, with_head)


def pins(case: Case) -> bool:
    """Whether offloaded experts are in pinned host memory, which a kernel needs that reads them."""
    return case.software.pinned or case.miss.uses_link


def residences_of(case: Case) -> tuple[Residence, ...]:
    """The experts of each GPU."""
    buffers = case.policy.shared_buffers()
    return tuple(
        Residence(
            len(case.local_experts(share.gpu)),
            tuple(case.slots[share.gpu, share.moe].tolist()),
            buffers,
            staging_of(case, share.gpu),
            _beside_the_best(case, share),
            None if case.pool_bytes is None else int(case.pool_bytes[share.gpu]),
        )
        for share in case.shares
    )


def _beside_the_best(case: Case, share: Share) -> tuple[Pool, ...]:
    """The slots of all variants but the first on the GPU of ``share``."""
    if case.variants is None:
        return ()
    sizes = case.variants.sizes[share.moe].T.tolist()
    slots = case.variants.slots[:, share.gpu, share.moe].tolist()
    nested = case.variants.nested or (False,) * len(slots)
    every = zip(slots, sizes[: len(slots)], nested, strict=True)
    return tuple(Pool(tuple(own), tuple(size), inside) for own, size, inside in every)[1:]


def staging_of(case: Case, gpu: int) -> int:
    """Experts that the staging buffers of ``gpu`` hold, if it has not all of its own. What the CPU
    has is copied matrix by matrix of a whole layer, as in llama.cpp (ggml-backend.cpp).
    """
    least, local = case.miss.copies_all_from(), len(case.local_experts(gpu))
    reserves = least is not None and case.software.memory.reserved_tokens >= least
    if not (reserves or case.ways(0, case.schedule.passes).any()):
        return 0
    if least is not None:
        return max(STAGING_BUFFERS, -(-local // MATRICES))
    layer = local if case.prefill == "stream" else 1
    return STAGING_BUFFERS * layer
