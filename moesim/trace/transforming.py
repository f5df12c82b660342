"""A trace through transforms of its routing, and what they lose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.config.errors import InputError, Problem
from moesim.config.registry import answering, kind_of, wrong_answer
from moesim.trace.routing import NO_EXPERT, RoutingTrace
from moesim.trace.transforms.base import Transform
from moesim.trace.transforms.choices import Choices, Floats
from moesim.trace.transforms.faults import fault_of_choices


@dataclass(frozen=True, eq=False)
class Transformed:
    """A trace by new rules: the ``trace``, whose ids count the living experts of each layer, and
    what changed.

    ``experts`` int64[L] and ``mean_choices`` float64[L]: a layer's living experts, and the choices
    of a token there. ``lost`` float64[L], of the recorded gate weight, ``lost_learnt`` and
    ``lost_held_out`` of all layers in the tokens that a transform learnt from and the others; None
    where the trace has no weights or nothing was learnt. ``changed``: whether some token has other
    choices than the trace recorded, or some expert is gone.
    """

    trace: RoutingTrace
    experts: NDArray[np.int64]
    mean_choices: Floats
    mean_before: float
    lost: Floats | None
    lost_whole: float | None
    lost_learnt: float | None
    lost_held_out: float | None
    notes: tuple[str, ...]
    changed: bool

    @property
    def cut_share(self) -> float:
        """The share of the gate weight that is lost; without weights that of choices."""
        fewer = 1 - float(self.mean_choices.mean()) / self.mean_before
        return max(0.0, fewer) if self.lost_whole is None else self.lost_whole

    def summary(self) -> dict[str, Any]:
        """What a result says of it: numbers, then rows by MoE layer and notes."""
        lost = [None] * len(self.experts) if self.lost is None else self.lost.tolist()
        rows = zip(self.experts.tolist(), self.mean_choices.tolist(), lost, strict=True)
        names = ("experts", "mean_choices", "gate_weight_lost")
        return {
            "mean_choices": float(self.mean_choices.mean()),
            "recorded_choices": self.mean_before,
            "cut_share": self.cut_share,
            "gate_weight_lost": self.lost_whole,
            "gate_weight_lost_learnt": self.lost_learnt,
            "gate_weight_lost_held_out": self.lost_held_out,
            "routing_by_layer": [dict(zip(names, row, strict=True)) for row in rows],
            **({"routing_notes": list(self.notes)} if self.notes else {}),
        }


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
    used = trace.expert_ids != NO_EXPERT
    before = Choices(
        ids=trace.expert_ids,
        weights=weights,
        recorded=weights,
        living=np.arange(of_layers.max())[None] < of_layers[:, None],
        predicted=trace.predicted_ids,
        passes=read_only(passes),
    )
    after = before
    for one in transforms:
        after = _applied(one, after)
    if not after.chosen.any():
        what = "leaves no token a choice; keep more"
        raise InputError([Problem("", "routing", what)])
    total = None if weights is None else np.where(used, weights, 0.0)
    kept = None if after.recorded is None else np.where(after.chosen, after.recorded, 0.0)
    same = np.array_equal(after.living, before.living)
    changed = not (same and np.array_equal(after.ids, before.ids))
    return Transformed(
        trace=_trace(trace, after, transforms) if changed else trace,
        experts=after.living.sum(axis=1),
        mean_choices=after.chosen.sum(axis=2).mean(axis=0),
        mean_before=float(used.sum(axis=2).mean()),
        lost=_lost(total, kept, (0, 2)),
        lost_whole=_share(total, kept),
        lost_learnt=_share(total, kept, slice(0, after.learnt)) if after.learnt else None,
        lost_held_out=_share(total, kept, slice(after.learnt, None)) if after.learnt else None,
        notes=after.notes,
        changed=changed,
    )


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


def _lost(total: Floats | None, kept: Floats | None, axes: Any) -> Floats | None:
    """The share of ``total`` that is not in ``kept``; 0 where there is nothing."""
    if total is None or kept is None:
        return None
    whole = total.sum(axis=axes)
    return np.asarray((whole - kept.sum(axis=axes)) / np.where(whole > 0, whole, 1.0))


def _share(total: Floats | None, kept: Floats | None, tokens: slice = slice(None)) -> float | None:
    if total is None or kept is None or not len(total[tokens]):
        return None
    found = _lost(total[tokens], kept[tokens], None)
    return None if found is None else float(found)


def _trace(trace: RoutingTrace, after: Choices, transforms: Sequence[Transform]) -> RoutingTrace:
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
