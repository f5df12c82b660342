"""Bytes of passes that a run does not have: of another batch, all requests as long as any."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.experiment.building.built import Built
from moesim.experiment.building.footprints import (
    host_cache_bytes,
    live_of,
    logits_of,
    pins,
    served_pass,
)
from moesim.experiment.building.layer_rows import rows_alike
from moesim.memory.footprint.footprint import Footprint, Residence
from moesim.memory.footprint.live import Tokens
from moesim.memory.footprint.shares import Share
from moesim.model.spec import LayerSpec
from moesim.trace.routing import Phase
from moesim.workload.sources import longest_source


@dataclass(frozen=True)
class Lengths:
    """Tokens of the run's longest request: ``encoded``, of its ``prompt``, at most ``chunk`` of
    them a pass and GPU, and in the cache of its last decode step (``context``); 0: no such pass.
    """

    encoded: int
    prompt: int
    context: int
    chunk: int | None

    @classmethod
    def of(cls, case: Case, chunk: int | None) -> Lengths:
        """Those of ``case``, whose prompts are cut into pieces of ``chunk``. Of requests that are
        served only the ``context``: room is set aside for passes of any tokens.
        """
        if case.serving is not None:
            asked = case.serving.served.asked
            return cls(0, 0, int((asked.input_tokens + asked.output_tokens).max()), None)
        rows = case.schedule.rows
        position, phase = case.trace.position[rows].astype(np.int64) + 1, case.trace.phase[rows]
        encoded, prompt, context = (
            int(position[phase == one].max(initial=0))
            for one in (Phase.ENCODE, Phase.PREFILL, Phase.DECODE)
        )
        return cls(encoded, prompt, context, chunk)


def fullest_passes(built: Built, batch: int, lengths: Lengths) -> Footprint:
    """The passes of ``batch`` requests that are as long as ``lengths`` say."""
    parts = []
    if encoded := lengths.encoded:
        parts.append(_pass(built, batch, encoded, 0, Phase.ENCODE))
    if prompt := lengths.prompt:
        parts.append(_pass(built, batch, prompt, prompt, Phase.PREFILL, lengths.chunk))
    if lengths.context:
        parts.append(decode_step(built, batch, lengths.context, built.residences))
    names = parts[0].parts
    joined = {name: np.concatenate([one.parts[name] for one in parts]) for name in names}
    return replace(parts[0], parts=joined)


def decode_step(
    built: Built, batch: int, context: int, residences: tuple[Residence, ...]
) -> Footprint:
    """A decode step of ``batch`` requests, each at ``context`` tokens; of requests that are served,
    the fullest pass beside so many blocks.
    """
    if built.case.serving is not None:
        return _served(built, residences, batch, context)
    requests = _requests(built.case, batch)
    return _footprint(built.case, residences, requests, requests, context, Phase.DECODE)


def _served(built: Built, residences: tuple[Residence, ...], batch: int, context: int) -> Footprint:
    """``built`` without ``most_bytes`` has as many blocks as are written, whatever they are for."""
    case, pool = built.case, built.case.kv_pool
    assert pool is not None, "requests are served"
    assert case.serving is not None, "requests are served"
    seats = -(-batch // case.serving.room.ranks)
    blocks = pool.blocks_of(context) * seats
    if built.most_bytes is None:
        blocks, seats = max(blocks, pool.blocks), max(seats, pool.at_once)
    asked = replace(pool, blocks=blocks, at_once=seats)
    return served_pass(replace(case, kv_pool=asked), residences)


def _pass(
    built: Built, batch: int, length: int, context: int, phase: Phase, most: int | None = None
) -> Footprint:
    requests = _requests(built.case, batch)
    tokens = requests * length if most is None else np.minimum(requests * length, most)
    return _footprint(built.case, built.residences, requests, tokens, context, phase)


def _requests(case: Case, batch: int) -> Ints:
    """Requests int64[1, gpus] of a batch."""
    return np.array([[len(range(gpu, batch, case.gpus)) for gpu in range(case.gpus)]])


def _footprint(
    case: Case,
    residences: tuple[Residence, ...],
    requests: Ints,
    tokens: Ints,
    context: int,
    phase: Phase,
) -> Footprint:
    """One pass with ``tokens`` of ``requests`` int64[1, gpus]."""
    crosses = phase != Phase.ENCODE and case.model.source_bytes_per_token
    source = longest_source(case.schedule, case.trace) if crosses else 0
    kv = np.array([_request_bytes(share, context, source) for share in case.shares])
    held = _of_group(case, requests)[:, [share.gpu for share in case.shares]]
    logits = logits_of(case.software, _of_group(case, tokens), np.array([phase]))
    of_host = sum(layer_cache_bytes(one, context) for one in case.model.layers if one.on_host)
    keys = context or -(-int(tokens.sum()) // max(int(requests.sum()), 1))
    together = _of_group(case, tokens)
    counted = Tokens(together, logits, together * keys)
    live = live_of(case, rows_alike(case, tokens), counted, residences)
    return Footprint.of(
        case.shares,
        residences,
        kv_bytes=held * kv,
        live=live,
        pinned=pins(case),
        nodes=case.nodes,
        host_kv_bytes=of_host * int(requests.sum()),
        host_cache_bytes=host_cache_bytes(case),
    )


def _request_bytes(share: Share, context: int, source: int) -> int:
    """Bytes on the GPU of a request's cache at ``context`` tokens, with so many of its
    ``source``.
    """
    layers = (layer for layer in share.model.cached_layers if not layer.on_host)
    own = sum(layer_cache_bytes(layer, context) for layer in layers)
    return own + source * share.model.source_bytes_per_token


def layer_cache_bytes(layer: LayerSpec, context: int) -> int:
    """Bytes of a request's cache in ``layer`` at ``context`` tokens."""
    tokens = min(context, layer.attention.window or context)
    return tokens * layer.attention.kv_bytes_per_token


def _of_group(case: Case, values: Ints) -> Ints:
    """Sums int64[1, gpus] over the GPUs that share the dense part."""
    if case.group == 1:
        return values
    return np.repeat(values.reshape(1, -1, case.group).sum(axis=2), case.group, axis=1)
