"""What one GPU's memory holds of a model: all of it, or a stage of consecutive layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate, pairwise
from math import inf
from typing import NamedTuple

from moesim.model.spec import LayerSpec, ModelSpec


class Share(NamedTuple):
    """What one GPU holds of a model, as a ``model`` of its own (layers keep their index); ``moe``:
    its MoE layers among those of the whole. ``gpu``: the GPU of the clock whose passes it has.
    """

    gpu: int
    model: ModelSpec
    moe: slice

    @property
    def layers(self) -> tuple[int, int]:
        """The first and the last of its layers."""
        return self.model.layers[0].index, self.model.layers[-1].index


def whole(model: ModelSpec, gpus: int) -> tuple[Share, ...]:
    """``gpus`` that each hold all layers of ``model``."""
    return tuple(Share(gpu, model, slice(0, len(model.moe_layers))) for gpu in range(gpus))


def stages(
    model: ModelSpec, slots: Sequence[int], cached: Sequence[int], count: int
) -> tuple[Share, ...]:
    """``count`` stages of consecutive layers of ``model``, at least one layer each, on a GPU each.

    They are divided so that the fullest one has the least bytes: weights, of routed experts as many
    as ``slots`` says by MoE layer, and the KV cache of ``cached`` bytes by layer, those that draft
    among them; the embedding counts to the first layer, all that follows the last layer to that
    one.
    """
    experts = dict(zip((layer.index for layer in model.moe_layers), slots, strict=True))
    sizes = [
        _held(layer, experts.get(layer.index, 0)) + kv
        for layer, kv in zip(model.layers, cached[: len(model.layers)], strict=True)
    ]
    sizes[0] += model.embedding_bytes
    sizes[-1] += model.head_matrix_bytes() + model.other_bytes + sum(cached[len(model.layers) :])
    return tuple(_stage(model, *ends) for ends in pairwise((0, *divided(tuple(sizes), count))))


@lru_cache(maxsize=256)
def divided(sizes: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Where each of ``count`` runs of ``sizes`` ends: the largest run is the least possible, then
    the sum of the runs' squares; of equals the first runs are longest.
    """
    total = (0, *accumulate(sizes))
    least: list[float] = list(total)
    for number in range(1, count):
        least = [
            min((max(least[b], total[end] - total[b]) for b in range(number, end)), default=inf)
            for end in range(len(total))
        ]
    return _evenest(total, count, least[-1])


def _evenest(total: Sequence[int], count: int, most: float) -> tuple[int, ...]:
    """Runs of at most ``most`` with the least sum of squares; ``total`` of the first so many."""

    def square(begin: int, end: int) -> float:
        run = total[end] - total[begin]
        return run * run if run <= most else inf

    best: list[tuple[float, tuple[int, ...]]]
    best = [(square(0, end), (-end,)) for end in range(len(total))]
    for number in range(1, count):
        best = [
            min(
                (
                    (best[begin][0] + square(begin, end), (*best[begin][1], -end))
                    for begin in range(number, end)
                ),
                default=(inf, ()),
            )
            for end in range(len(total))
        ]
    return tuple(-end for end in best[-1][1])


def _held(layer: LayerSpec, slots: int) -> int:
    moe = layer.moe
    return layer.bytes - ((moe.experts - slots) * moe.expert.bytes if moe else 0)


def _stage(model: ModelSpec, first: int, end: int) -> Share:
    """A tied head needs the embedding's matrix on the last GPU too."""
    starts, ends = first == 0, end == len(model.layers)
    before = sum(layer.moe is not None for layer in model.layers[:first])
    layers = model.layers[first:end]
    own = replace(
        model,
        layers=layers,
        embedding_parameters=model.embedding_parameters if starts else 0,
        embedding_bytes=model.embedding_bytes if starts else 0,
        head_parameters=(model.head_parameters or model.embedding_parameters) if ends else 0,
        head_bytes=model.head_matrix_bytes() if ends else 0,
        other_parameters=model.other_parameters if ends else 0,
        other_bytes=model.other_bytes if ends else 0,
        drafting_layers=model.drafting_layers if ends else (),
    )
    return Share(0, own, slice(before, before + len(own.moe_layers)))
