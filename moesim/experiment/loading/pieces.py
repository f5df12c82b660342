"""Variants and parts of experts, in the formats that an experiment gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from moesim.config.errors import InputError
from moesim.experiment.loading.names import needed
from moesim.experiment.schema.experiment import Experiment
from moesim.experiment.schema.experts import Experts
from moesim.experiment.schema.parts import rows_of
from moesim.experiment.schema.variants import Piece
from moesim.model import ModelSpec
from moesim.model.chosen import FORMATS, with_experts_in
from moesim.model.in_parts import Neurons, experts_of, joined, with_experts
from moesim.model.spec import FfnSpec


def pieces_of(room: Experts) -> list[tuple[str, Piece]]:
    """Every variant and part of ``room``, with the path of its key."""
    variants = [] if room.variants is None else room.variants.named
    named: list[tuple[str, Piece]] = [(f"experts.variants.{name}", one) for name, one in variants]
    return named + [(f"experts.parts.{name}", one) for name, one in (room.parts or {}).items()]


def models_of(experiment: Experiment) -> list[str]:
    """The names under which the model is read for variants and parts."""
    pieces = pieces_of(experiment.experts)
    return [with_experts_in(experiment.model, one.format_name) for _, one in pieces]


def wrong_piece(experiment: Experiment, path: str, piece: Piece) -> tuple[str, str] | None:
    """The key that is wrong with ``piece``, and what is; None where nothing is."""
    if piece.group is not None and piece.format is None:
        return f"{path}.group", f"is of a format; write {path}.format"
    if piece.group is not None and piece.format_name not in FORMATS:
        what = "is of the integer formats int2, int3, int4 and int8, with 32, 64 or 128 inputs"
        return f"{path}.group", f"{what}; leave it out"
    try:
        name = with_experts_in(experiment.model, piece.format_name)
        model: ModelSpec = needed("model", name, experiment.folders)
    except InputError as error:
        return f"{path}.format", _said(error)
    try:
        for expert in experts_of(model):
            _neurons(experiment.experts, piece).of(expert)
    except InputError as error:
        return f"{path}.rank", _said(error).removeprefix("rank: ")
    return None


def experts_in(experiment: Experiment, piece: Piece) -> list[FfnSpec]:
    """An expert of each MoE layer as ``piece``. Raises InputError where the model cannot be had in
    its format.
    """
    name = with_experts_in(experiment.model, piece.format_name)
    model: ModelSpec = needed("model", name, experiment.folders)
    neurons = _neurons(experiment.experts, piece)
    return [neurons.of(expert) for expert in experts_of(model)]


def in_piece(experiment: Experiment, model: ModelSpec, piece: Piece) -> ModelSpec:
    """``model`` with experts that are ``piece``."""
    return with_experts(model, experts_in(experiment, piece))


def with_pieces(experiment: Experiment, model: ModelSpec) -> ModelSpec:
    """``model`` as its first variant, or with experts of several parts, if it has some."""
    room = experiment.experts
    if room.variants is not None:
        return in_piece(experiment, model, room.variants.high)
    if room.parts is None:
        return model
    every = [experts_in(experiment, one) for one in room.parts.values()]
    shares = (
        [Fraction(str(getattr(one, name))) for one in room.parts.values()]
        for name in ("resident", "reuse")
    )
    resident, reuse = shares
    experts = [joined(of_layer, resident, reuse) for of_layer in zip(*every, strict=True)]
    return replace(with_experts(model, experts), notes=(*model.notes, *_left_out(room)))


def _left_out(room: Experts) -> Sequence[str]:
    """What the parts leave of the neurons, as a note."""
    used = sum(rows_of(room.parts or {}), start=Fraction(0))
    if used == 1:
        return ()
    return (f"{float(100 * (1 - used)):.3g} % of each expert's neurons are in none of its parts",)


def _neurons(room: Experts, piece: Piece) -> Neurons:
    if room.parts is None or all(one is not piece for one in room.parts.values()):
        return Neurons(Fraction(str(1.0 if piece.rows is None else piece.rows)), piece.rank)
    numbers = zip(room.parts.values(), rows_of(room.parts), strict=True)
    return Neurons(next(rows for one, rows in numbers if one is piece), piece.rank)


def _said(error: InputError) -> str:
    return "; ".join(problem.what for problem in error.problems)
