"""What a prefetcher is: a prediction of the experts that layers ahead will need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from moesim.config.params import Params
from moesim.config.units import Bytes, Duration
from moesim.memory.activations import ActiveExperts, Ints, steps_of
from moesim.runtime.compiled import inlined, njit, types

Key = tuple[int, int]
"""A MoE layer and a GPU."""


@dataclass(frozen=True, eq=False)
class View:
    """What predictions are made from: forward passes ``first`` and the ones after it.

    ``local``: by GPU, its physical experts; ``logical`` int64[layers, physical]: which expert each
    holds. ``active_experts`` of those passes, by MoE layer and GPU, numbered within
    the GPU, ascending; ``before``: what each needed in the last pass before ``first`` that ran it;
    ``past``: those of the passes just before ``first``, as many as the prefetcher ``remembers`` and
    there were. ``active`` bool[passes, layers]: which layers a pass runs. ``chosen`` counts
    ``choices``, for who reads them. ``recorded`` bool[distances, passes, layers, logical]: a
    recorded look-ahead, where the trace has one. ``followers(source, target, part)``:
    int64[logical, logical], how many tokens of the first ``part`` of the trace choose e in
    ``source`` and f in ``target``.
    ``slices``: neighbouring GPUs that hold parts of the same experts, and predict the same.
    ``distance``: over how many MoE layers is predicted, at most the prefetcher's ``distances``.
    ``apart``: each pass is one token, whose experts differ, on one GPU that has all experts.
    """

    first: int
    local: list[Ints]
    logical: Ints
    active_experts: Mapping[Key, ActiveExperts]
    before: Mapping[Key, Ints]
    active: NDArray[np.bool_]
    chosen: Callable[[], Ints]
    recorded: NDArray[np.bool_] | None
    followers: Callable[[int, int, float], Ints]
    seed: int = 0
    slices: int = 1
    distance: int = 1
    apart: bool = False
    past: Mapping[Key, ActiveExperts] = field(default_factory=dict)

    @property
    def choices(self) -> Ints:
        """Choices int64[passes, layers, logical] of all GPUs' tokens."""
        return self.chosen()

    @property
    def passes(self) -> int:
        """Number of forward passes."""
        return len(self.active)

    def chosen_in(self, layer: int) -> tuple[ActiveExperts, Ints]:
        """The logical experts that all GPUs' tokens choose in ``layer``, and aligned with them how
        often.
        """
        if self.apart:
            active, logical = self.active_experts[layer, 0], self.logical[layer]
            if (logical != np.arange(len(logical))).any():
                active = ActiveExperts(active.offsets, logical[active.experts])
            return active, np.ones_like(active.experts)
        chosen = self.choices[:, layer]
        active = ActiveExperts.of(chosen > 0)
        return active, chosen[steps_of(active.offsets), active.experts]

    def known(self, layer: int, gpu: int) -> tuple[ActiveExperts, int]:
        """What each pass of ``past`` and of the view needs in ``layer``, and how many are past."""
        active, past = self.active_experts[layer, gpu], self.past.get((layer, gpu))
        return (past.then(active), len(past.offsets) - 1) if past else (active, 0)

    def of_local(self, values: NDArray[Any], layer: int, gpu: int) -> NDArray[Any]:
        """Values [passes, logical] of ``layer`` for each expert of ``gpu``, [passes, local]."""
        return values[:, self.logical[layer, self.local[gpu]]]


class Prefetcher(Params):
    """A prefetcher predicts; the engine issues what there is room for (docs/semantics.md)."""

    layers: Annotated[int, Field(ge=1)] = Field(
        default=1, description="How many MoE layers ahead are prefetched for."
    )
    budget: Bytes | None = Field(
        default=None,
        description="The most bytes of prefetches that wait or are copied at once on a GPU; none: "
        "no limit.",
    )
    when: Literal["layer", "before_pass"] = Field(
        default="layer",
        description="When experts are predicted: in each MoE layer for the layers ahead, or before "
        "a forward pass for all its layers, and the pass waits until they are there (SiDA-MoE).",
    )
    every: Annotated[int, Field(ge=1)] = Field(
        default=1,
        description="before_pass only: for how many passes at once, before the first of them.",
    )
    cost: Duration = Field(
        default=0.0,
        description="What a prediction takes of the GPU: behind the gate of each MoE layer, or "
        "before a pass.",
    )
    stop: Literal["none", "first_missing"] = Field(
        default="none",
        description="Which of the layers ahead are loaded for: none stops before the last; "
        "first_missing stops behind the nearest one of which a predicted expert is in no slot.",
    )

    variant: Literal["wanted", "high", "low"] = Field(
        default="wanted",
        description="Where experts have variants, in which one they are prefetched: as a program "
        "wants that knows their gate weights (what no token will choose: low), or always the best "
        "or the worst.",
    )

    fetches: ClassVar[bool] = True
    """Whether anything is predicted at all."""
    across_passes: ClassVar[bool] = True
    """Whether layers of the next pass are predicted."""
    by_source: ClassVar[bool] = False
    """Whether predictions depend on the layer from which they are made."""
    follows: ClassVar[bool] = True
    """Whether a pass is predicted from the passes before it, so that only the next one can be."""
    recorded: ClassVar[bool] = False
    """Whether the trace's recorded look-ahead is read."""
    looks_ahead: ClassVar[bool] = False
    """Whether it knows what will be needed, which no program does."""
    weighs: ClassVar[bool] = False
    """Whether it says how much experts will be needed, and so in which variant they are wanted."""
    when_none_starts: ClassVar[str] = "what it predicts, if anything, is in a slot already"
    """What a run says that started none."""

    @property
    def remembers(self) -> int:
        """How many passes before the first of a view are to be in its ``past``."""
        return 0

    @property
    def before_pass(self) -> bool:
        """Whether experts are predicted before passes, which wait for them."""
        return self.when == "before_pass"

    @model_validator(mode="after")
    def _predicts_where_it_can(self) -> Self:
        if not self.before_pass:
            if self.every > 1:
                raise ValueError("'every' is of passes: write when: before_pass too, or every: 1")
            return self
        if self.by_source:
            raise ValueError("'when' is before_pass, where no layer has run yet; write when: layer")
        if self.every > 1 and self.follows:
            raise ValueError("'every' is more than 1, and it knows the next pass alone; write 1")
        if self.layers > 1 or self.stop != "none":
            raise ValueError("'when' is before_pass, for all layers; leave out layers and stop")
        return self

    def distances(self, view: View) -> int:
        """In how many ways predictions depend on how many MoE layers ahead they are; what is
        farther is predicted as the last.
        """
        del view
        return 1

    def predict(self, view: View, source: int, target: int, gpu: int) -> ActiveExperts:
        """The experts of MoE layer ``target`` on ``gpu``, seen from ``source``, for each pass of
        ``view``: numbered within the GPU, in the order in which they are to be fetched.
        """
        raise NotImplementedError


def fault_of_predicted(found: object, passes: int, experts: int) -> str:
    """What is wrong with what was ``found`` for ``passes`` of a GPU of ``experts``; "": nothing."""
    if not isinstance(found, ActiveExperts):
        return f"gives {type(found).__name__}, not ActiveExperts"
    offsets, predicted = found.offsets, found.experts
    for name, column in (("offsets", offsets), ("experts", predicted)):
        if (kind := getattr(column, "dtype", np.dtype(object))).kind not in "iu":
            return f"predicts {name} that are {kind}, not whole numbers"
    faults = (
        "", f"gives offsets that do not divide {len(predicted)} experts over {passes} passes",
        f"predicts an expert outside 0..{experts - 1}", "predicts an expert twice in a pass",
    )  # fmt: skip
    if offsets.shape != (passes + 1,):
        return faults[1]
    one, other = (np.ascontiguousarray(column, np.int64) for column in (offsets, predicted))
    return faults[_fault_in(one, other, np.full(experts, -1))]


WORD = 64
"""Experts that are bits of one word."""


@inlined
def _ascend(offsets: Any, predicted: Any) -> bool:
    """Whether in each pass those ``predicted`` ascend, so that none comes twice: all that do not
    are the first of a pass. In vectors, which is faster than to look at each.
    """
    fall, begin = 0, 0
    for i in range(1, len(predicted)):
        fall += predicted[i] <= predicted[i - 1]
    for step in range(1, len(offsets) - 1):
        at = offsets[step]
        if 0 < at < offsets[step + 1]:
            begin += predicted[at] <= predicted[at - 1]
    return fall == begin


@njit(types.int64(*[types.int64[::1]] * 3), cache=True)
def _fault_in(offsets: Any, predicted: Any, taken: Any) -> int:
    """Which fault there is: 1, the offsets; 2, an expert that is none; 3, one twice in a pass; 0,
    none. ``taken`` int64[experts] says which pass predicted each last: none did.
    """
    divides, outside, twice = offsets[0] == 0 and offsets[-1] == len(predicted), False, False
    for step in range(len(offsets) - 1):
        divides &= offsets[step] <= offsets[step + 1]
    if not divides:
        return 1
    for i in range(len(predicted)):
        outside |= not 0 <= predicted[i] < len(taken)
    if outside:
        return 2
    if _ascend(offsets, predicted):
        return 0
    for step in range(len(offsets) - 1):
        bits = np.int64(0)
        for i in range(offsets[step], offsets[step + 1]):
            if len(taken) <= WORD:
                twice |= (bits >> predicted[i]) & 1 > 0
                bits |= 1 << predicted[i]
            else:
                twice |= taken[predicted[i]] == step
                taken[predicted[i]] = step
    return 3 if twice else 0
