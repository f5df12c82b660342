"""A trace through transforms of its routing, and what they lose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.config.errors import InputError, Problem
from moesim.config.registry import answering, kind_of, wrong_answer
from moesim.trace.losses import LayerLosses, Losses, composed
from moesim.trace.routing import NO_EXPERT, RoutingTrace
from moesim.trace.transforms.base import Transform, as_text
from moesim.trace.transforms.choices import Choices, Floats
from moesim.trace.transforms.faults import fault_of_choices


@dataclass(frozen=True, eq=False)
class LostByToken:
    """Gate weight of each token in all MoE layers, float64[T]: what was ``recorded``, and what
    became of that which transforms took, by ``Transform.loses``.
    """

    recorded: Floats
    lost: dict[str, Floats]


@dataclass(frozen=True, eq=False)
class Transformed:
    """A trace by new rules: the ``trace``, whose ids count the living experts of each layer, and
    what changed.

    ``losses``: against the recording; where the trace was transformed before, the first one.
    ``experts`` int64[L]: a layer's living experts. ``varies`` bool[L]: in which layers some tokens
    take fewer of them than others, or none. ``changed``: whether some token has other choices than
    the trace recorded, or some expert is gone. ``by_token``: None without gate
    weights, and where the trace was transformed before.
    """

    trace: RoutingTrace
    losses: Losses
    experts: NDArray[np.int64]
    varies: NDArray[np.bool_]
    changed: bool
    by_token: LostByToken | None = None


def transform(
    trace: RoutingTrace,
    transforms: Sequence[Transform],
    experts: Sequence[int] = (),
    passes: NDArray[np.int64] | None = None,
) -> Transformed:
    """``trace`` by ``transforms``, one after the other; ``experts`` of each MoE layer, by default
    as the trace says; ``passes`` as ``Choices`` has them. InputError where it lacks what a
    transform reads, or no choice is left.
    """
    of_layers = np.array(experts or [trace.experts] * trace.moe_layers)
    weights = None if trace.gate_weights is None else trace.gate_weights.astype(np.float64)
    before = Choices(
        ids=trace.expert_ids,
        weights=weights,
        recorded=weights,
        living=np.arange(of_layers.max())[None] < of_layers[:, None],
        predicted=trace.predicted_ids,
        passes=read_only(passes),
    )
    after, kept = before, [_weight(before)]
    for one in transforms:
        after = _applied(one, after)
        kept.append(_weight(after))
    if not after.chosen.any():
        what = "leaves no token a choice; keep more"
        raise InputError([Problem("", "routing", what)])
    same = np.array_equal(after.living, before.living)
    changed = not (same and np.array_equal(after.ids, before.ids))
    losses = _losses((before, after), (kept[0], kept[-1]), [as_text(one) for one in transforms])
    if trace.metadata.losses is not None:
        losses = composed(trace.metadata.losses, losses)
    left = _trace(trace, after, transforms, losses) if changed else trace
    return Transformed(
        trace=left,
        losses=losses,
        experts=after.living.sum(axis=1),
        varies=left.varies | _some_lack(after) if changed else left.varies,
        changed=changed,
        by_token=None if trace.metadata.losses else _by_token(kept, transforms),
    )


def _some_lack(choices: Choices) -> NDArray[np.bool_]:
    """In which layers, of those where any token has a choice, some have less than the most that one
    may have, bool[L].
    """
    number = choices.chosen.sum(axis=2)
    most = np.minimum(number.max(), choices.living.sum(axis=1))
    return np.asarray(number.any(axis=0) & (number < most).any(axis=0))


def _by_token(kept: Sequence[Floats | None], transforms: Sequence[Transform]) -> LostByToken | None:
    """What each of ``transforms`` lost, from the weights ``kept`` before and behind them,
    float64[T, L].
    """
    sums = [of.sum(axis=1) for of in kept if of is not None]
    if len(sums) < len(kept):
        return None
    lost = {one.loses: np.zeros_like(sums[0]) for one in transforms}
    for one, before, after in zip(transforms, sums, sums[1:], strict=False):
        lost[one.loses] += before - after
    return LostByToken(sums[0], lost)


def _applied(one: Transform, choices: Choices) -> Choices:
    """``choices`` by ``one``, which may not write what it is given: a sweep's runs share it."""
    arrays = {one: getattr(choices, one) for one in ("ids", "weights", "living", "predicted")}
    given = replace(choices, **{name: read_only(array) for name, array in arrays.items()})
    same = choices.recorded is choices.weights
    given = replace(given, recorded=given.weights if same else read_only(choices.recorded))
    with answering("routing", one):
        after = one.apply(given)
    if fault := fault_of_choices(given, after):
        raise wrong_answer("routing", one, fault)
    return after


def read_only(array: NDArray[Any] | None) -> Any:
    """``array``, not to be written."""
    if array is None:
        return None
    view = array.view()
    view.flags.writeable = False
    return view


def _losses(
    ends: tuple[Choices, Choices],
    weights: tuple[Floats | None, Floats | None],
    rules: Sequence[str],
) -> Losses:
    """What the way from the first to the last of ``ends`` lost, of such ``weights``."""
    (before, after), (total, kept) = ends, weights
    columns: list[Sequence[Any]] = [
        after.living.sum(axis=1).tolist(),
        before.chosen.any(axis=2).sum(axis=0).tolist(),
        before.chosen.sum(axis=(0, 2)).tolist(),
        after.chosen.sum(axis=(0, 2)).tolist(),
        *([None] * len(after.living) if of is None else of.sum(axis=0).tolist()
          for of in (total, kept)),
    ]  # fmt: skip
    learnt = after.learnt
    return Losses(
        rules=tuple(rules),
        layers=tuple(LayerLosses(*row) for row in zip(*columns, strict=True)),
        learnt=_share(total, kept, slice(0, learnt)) if learnt else None,
        held_out=_share(total, kept, slice(learnt, None)) if learnt else None,
        notes=after.notes,
        as_recorded=after.weights is None
        or after.recorded is None
        or np.array_equal(after.weights, after.recorded),
    )


def _weight(choices: Choices) -> Floats | None:
    """The recorded gate weight of the choices that there are, float64[T, L]."""
    if choices.recorded is None:
        return None
    return np.asarray(np.where(choices.chosen, choices.recorded, 0.0).sum(axis=2))


def _share(total: Floats | None, kept: Floats | None, tokens: slice) -> float | None:
    """The share of ``total`` that is not in ``kept``, in ``tokens``; 0 where there is nothing."""
    if total is None or kept is None or not len(total[tokens]):
        return None
    whole = float(total[tokens].sum())
    return max(0.0, whole - float(kept[tokens].sum())) / (whole or 1.0)


def _trace(
    trace: RoutingTrace, after: Choices, transforms: Sequence[Transform], losses: Losses
) -> RoutingTrace:
    """``trace`` with the choices ``after``, as wide as its fullest token, ids counted anew."""
    width = int(after.chosen.sum(axis=2).max())
    numbers = np.where(after.living, np.cumsum(after.living, axis=1) - 1, NO_EXPERT)
    numbers = numbers.astype(np.uint16)
    said = ", ".join(str(kind_of(type(one))) for one in transforms)
    notes = "; ".join(part for part in (trace.metadata.notes, f"routing by {said}") if part)
    predicted = after.predicted
    return replace(
        trace,
        expert_ids=_renumbered(after.ids[:, :, :width], numbers),
        gate_weights=None
        if after.weights is None
        else np.ascontiguousarray(after.weights[:, :, :width].clip(0, 1).astype(np.float16)),
        predicted_ids=None if predicted is None else _predicted(predicted, numbers, width),
        metadata=replace(
            trace.metadata,
            experts=max(width, int(after.living.sum(axis=1).max())),
            top_k=width,
            notes=notes,
            losses=losses,
        ),
    )


def _renumbered(ids: NDArray[np.uint16], numbers: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """``ids`` [..., L, k] by ``numbers`` [L, E], the new id of each expert."""
    layers = np.arange(ids.shape[-2])[:, None]
    last = numbers.shape[1] - 1
    found = numbers[layers, np.minimum(ids, last)]
    return np.ascontiguousarray(np.where(ids > last, np.uint16(NO_EXPERT), found))


def _predicted(
    ids: NDArray[np.uint16], numbers: NDArray[np.uint16], width: int
) -> NDArray[np.uint16]:
    """A recorded look-ahead among the living experts, its first ``width``."""
    found = _renumbered(ids, numbers)
    order = np.argsort(found == NO_EXPERT, axis=-1, kind="stable")
    moved = np.take_along_axis(found, order, axis=-1)[..., :width]
    return np.ascontiguousarray(moved)
