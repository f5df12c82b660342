"""What transforms took from a recording, as the trace that they left says it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from moesim.config.errors import InputError

Count = Annotated[int, Field(ge=0)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]

IN_PART = "the trace is a part of one: what is lost is that of the whole"


@dataclass(frozen=True)
class LayerLosses:
    """A MoE layer: its living ``experts``, the ``tokens`` with a choice in the recording, their
    choices there and those ``left``; the gate weight recorded and what of it is kept, None where it
    is not known.
    """

    experts: Count
    tokens: Count
    recorded: Count
    left: Count
    recorded_weight: Weight | None
    kept_weight: Weight | None


@dataclass(frozen=True)
class Losses:
    """What ``rules``, one after the other, took from a recording.

    ``learnt``, ``held_out``: the share of the gate weight lost in tokens that a transform learnt
    from, and in the others. ``as_recorded``: the gate weights that are left are those of the
    recording. ``whole``: the trace has all tokens that these losses are of. ``cut_at_least``: what
    earlier rules cut, where what later ones lose is not known.
    """

    rules: tuple[str, ...]
    layers: tuple[LayerLosses, ...]
    learnt: Share | None = None
    held_out: Share | None = None
    notes: tuple[str, ...] = ()
    as_recorded: bool = True
    whole: bool = True
    cut_at_least: Share = 0.0

    @property
    def recorded_choices(self) -> float:
        """Of a token in a layer, of those with a choice in the recording."""
        return sum(one.recorded for one in self.layers) / self._tokens

    @property
    def mean_choices(self) -> float:
        """What is left of them, of the same tokens and layers."""
        return sum(one.left for one in self.layers) / self._tokens

    @property
    def _tokens(self) -> int:
        return max(1, sum(one.tokens for one in self.layers))

    @property
    def gate_weight_lost(self) -> float | None:
        """The share of the recorded gate weight that is lost; None where it is not known."""
        return _lost(self.layers)

    @property
    def lost_by_layer(self) -> list[float | None]:
        """The same of each layer."""
        return [_lost([one]) for one in self.layers]

    @property
    def mean_by_layer(self) -> list[float]:
        """``mean_choices`` of each layer."""
        return [one.left / max(1, one.tokens) for one in self.layers]

    @property
    def cut_share(self) -> float:
        """The share of the gate weight that is lost; where it is not known that of choices, and no
        less than was cut when it was.
        """
        if (lost := self.gate_weight_lost) is not None:
            return max(0.0, lost)
        return max(self.cut_at_least, 1 - self.mean_choices / (self.recorded_choices or 1.0))

    def summary(self) -> dict[str, Any]:
        """What a result says of it: numbers, then rows by MoE layer and notes."""
        experts = [one.experts for one in self.layers]
        rows = zip(experts, self.mean_by_layer, self.lost_by_layer, strict=True)
        names = ("experts", "mean_choices", "gate_weight_lost")
        return {
            "mean_choices": self.mean_choices,
            "recorded_choices": self.recorded_choices,
            "cut_share": self.cut_share,
            "gate_weight_lost": self.gate_weight_lost,
            "gate_weight_lost_learnt": self.learnt,
            "gate_weight_lost_held_out": self.held_out,
            "routing_by_layer": [dict(zip(names, row, strict=True)) for row in rows],
            **({"routing_notes": list(self.notes)} if self.notes else {}),
        }

    @property
    def told(self) -> str:
        """That the trace was transformed, and how."""
        return f"the trace was transformed before: {', '.join(self.rules)}"

    def noted(self, *notes: str) -> Losses:
        """These with more ``notes``."""
        return replace(self, notes=(*self.notes, *notes))

    def of_layers(self, layers: Sequence[int]) -> Losses:
        """These of some ``layers``, by their place; all others are no longer there."""
        if list(layers) == list(range(len(self.layers))):
            return self
        kept = tuple(self.layers[layer] for layer in layers)
        return replace(self, layers=kept, learnt=None, held_out=None)


def _lost(layers: Sequence[LayerLosses]) -> float | None:
    recorded = [one.recorded_weight for one in layers if one.recorded_weight is not None]
    kept = [one.kept_weight for one in layers if one.kept_weight is not None]
    if not len(recorded) == len(kept) == len(layers):
        return None
    return (sum(recorded) - sum(kept)) / (sum(recorded) or 1.0)


def composed(first: Losses, then: Losses) -> Losses:
    """The losses of a trace that had lost ``first`` and lost ``then`` of what was left, against the
    first recording. Where its gate weights are no longer recorded ones, or are of some of its
    tokens, what more is lost of them is not known.
    """
    more = then.gate_weight_lost != 0
    known = not more or (first.as_recorded and first.whole)
    pairs = zip(first.layers, then.layers, strict=True)
    notes, several = [], first.learnt is not None or then.learnt is not None
    if not known and then.gate_weight_lost is not None:
        notes.append(f"the gate weight lost is not known: {_why_not(first)}")
    elif more and several:
        notes.append("the gate weight lost in tokens learnt from is not known: the trace was"
                     " transformed before")  # fmt: skip
    return Losses(
        rules=(*first.rules, *then.rules),
        layers=tuple(_joined(*pair, first, more=more, known=known) for pair in pairs),
        learnt=None if more else first.learnt,
        held_out=None if more else first.held_out,
        notes=(*first.notes, *then.notes, *notes),
        as_recorded=first.as_recorded and then.as_recorded,
        whole=first.whole,
        cut_at_least=first.cut_share,
    )


def _why_not(first: Losses) -> str:
    if not first.as_recorded:
        return "an earlier rule changed the weights that were recorded"
    return "the trace is a part of one that was transformed"


def _joined(
    one: LayerLosses, then: LayerLosses, first: Losses, *, more: bool, known: bool
) -> LayerLosses:
    """A layer of ``first`` that ``then`` lost something, of all the tokens that were recorded."""
    left = then.left if first.whole else round(one.left * then.left / max(1, then.recorded))
    kept = then.kept_weight if more else one.kept_weight
    return replace(
        one,
        experts=then.experts,
        left=left,
        recorded_weight=one.recorded_weight if known else None,
        kept_weight=kept if known else None,
    )


def encode_losses(losses: Losses) -> bytes:
    """JSON with sorted keys, so that equal losses give equal bytes."""
    import json

    return json.dumps(asdict(losses), sort_keys=True, ensure_ascii=False).encode()


def decode_losses(text: bytes) -> Losses:
    """The losses in ``text``; an InputError names a missing or mistyped key."""
    try:
        return _reader().validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "its text"
        what = f"the trace's record of what was lost: {where}: {first['msg']}"
        raise InputError(f"{what}; transform the recording again") from None


@lru_cache
def _reader() -> TypeAdapter[Losses]:
    return TypeAdapter(Losses)
