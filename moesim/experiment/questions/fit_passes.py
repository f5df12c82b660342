"""Bytes of passes that a run does not have: of another batch, all requests as long as any."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.experiment.building.build import Built
from moesim.experiment.building.footprints import logits_of, pins, widths_of
from moesim.experiment.building.layer_rows import rows_alike
from moesim.memory.footprint import Footprint, Residence
from moesim.memory.live import live_parts
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
        """Those of ``case``, whose prompts are cut into pieces of ``chunk``."""
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
    """A decode step of ``batch`` requests, each at ``context`` tokens."""
    requests = _requests(built.case, batch)
    return _footprint(built.case, residences, requests, requests, context, Phase.DECODE)


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
    cached = [min(context, layer.attention.window or context) for layer in case.model.layers]
    layers = list(zip(cached, case.model.layers, strict=True))
    kv = sum(tokens * layer.gpu_kv_bytes_per_token for tokens, layer in layers)
    both = sum(tokens * layer.attention.kv_bytes_per_token for tokens, layer in layers)
    of_host = (both - kv) * int(requests.sum())
    if phase != Phase.ENCODE and (source_bytes := case.model.source_bytes_per_token):
        kv += longest_source(case.schedule, case.trace) * source_bytes
    logits = logits_of(case.software, tokens, np.array([phase]))
    live = live_parts(widths_of(case), rows_alike(case, tokens), _of_group(case, tokens), logits)
    return Footprint.of(
        case.model,
        residences,
        kv_bytes=_of_group(case, requests) * kv,
        live=live,
        pinned=pins(case),
        nodes=case.nodes,
        host_kv_bytes=of_host,
    )


def _of_group(case: Case, values: Ints) -> Ints:
    """Sums int64[1, gpus] over the GPUs that share the dense part."""
    if case.group == 1:
        return values
    return np.repeat(values.reshape(1, -1, case.group).sum(axis=2), case.group, axis=1)
