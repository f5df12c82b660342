"""The formats in which every expert is kept, and the parts that it has."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from moesim.config.amounts.capacity import ExpertCapacity
from moesim.config.params import Params
from moesim.config.units import Capacity, Percent
from moesim.memory.choices.base import VARIANTS

_NAME = re.compile(r"[A-Za-z0-9_-]+")


class Piece(Params):
    """An expert, or a part of one, in some format."""

    format: str | None = Field(
        default=None,
        min_length=1,
        description="The format of its experts, as in {base: NAME, format: {experts: FORMAT}}: "
        "int4, int2, fp8, q2_k, ...; by default the model's own.",
    )
    group: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Inputs that share a scale, of integer formats: 32, 64 or 128."
    )
    rows: Percent | None = Field(
        default=None,
        gt=0,
        description="Its share of each expert's neurons ('25 %'): bytes and work go with them. By"
        " default all of a variant's, and what the other parts leave of a part's.",
    )
    rank: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="Each matrix is a product of two with so many inner channels (low rank).",
    )

    @field_validator("format")
    @classmethod
    def _a_name(cls, name: str | None) -> str | None:
        if name is not None and not _NAME.fullmatch(name):
            raise ValueError(
                f"'{name}' is no format's name: write int4, int2, fp8, q2_k or another"
            )
        return name

    @property
    def format_name(self) -> str | None:
        """The format with its group, as models name it; None for the model's own."""
        if self.format is None or self.group is None:
            return self.format
        return f"{self.format}_g{self.group}"


class PartOfExperts(Piece):
    """A share of every expert's neurons, in a format of its own."""

    resident: Percent = Field(
        default=0.0,
        description="The share of its bytes that stays on the GPU, of all experts. Only the rest "
        "has slots, is copied, and is kept by the host.",
    )
    reuse: Percent = Field(
        default=0.0,
        description="The share of its bytes that was on the GPU for the token before: likewise, "
        "but the host keeps all of them, since the next token needs others.",
    )

    @model_validator(mode="after")
    def _no_more_than_all(self) -> PartOfExperts:
        if Fraction(str(self.resident)) + Fraction(str(self.reuse)) > 1:
            raise ValueError("resident and reuse are more than 100 % together")
        return self


class Variant(Piece):
    """One format of every expert, and its slots."""

    capacity: Capacity | None = Field(
        default=None,
        description="Its part of experts.capacity ('30 %'), or its own slots ('8 slots/layer') or "
        "bytes ('2 GiB') on each GPU; one may leave it out, and has the rest of 100 %.",
    )

    nested: bool = Field(
        default=False,
        description="Its bits are a slice of those of the next better variant: loading that one "
        "copies the difference alone where this one is resident, and the host has it in that.",
    )

    @field_validator("capacity")
    @classmethod
    def _a_part(cls, capacity: ExpertCapacity | None) -> ExpertCapacity | None:
        if capacity is not None and capacity.kind in ("auto", "all"):
            what = "is no part of experts.capacity"
            raise ValueError(f"'{capacity}' {what}: write '30 %', '8 slots/layer' or '2 GiB'")
        return capacity


class VariantsOfExperts(Params):
    """Two or three formats, the best first."""

    high: Variant = Field(description="The best format.")
    middle: Variant | None = Field(default=None, description="One between them, if there is one.")
    low: Variant = Field(description="The format with fewest bytes.")

    @model_validator(mode="after")
    def _parts_of_one(self) -> VariantsOfExperts:
        if self.high.nested:
            raise ValueError("high is a slice of no better variant; leave its 'nested' out")
        parts = [one.capacity for _, one in self.named]
        if parts.count(None) > 1:
            raise ValueError("only one variant has the rest of experts.capacity; write the others")
        if None in parts and any(part and part.kind != "fraction" for part in parts):
            raise ValueError("a variant has the rest where the others are parts, as in '70 %'")
        if self._shared_out > 1 or (None in parts and self._shared_out == 1):
            raise ValueError("the parts of experts.capacity are more than 100 % together")
        return self

    @property
    def _shared_out(self) -> Fraction:
        """The parts of experts.capacity that are written, together."""
        parts = [one.capacity for _, one in self.named]
        written = (part.amount for part in parts if part and part.kind == "fraction")
        return sum(map(Fraction, map(str, written)), start=Fraction(0))

    @property
    def capacities(self) -> tuple[ExpertCapacity, ...]:
        """Those of all variants, the best first."""
        rest = ExpertCapacity("fraction", float(1 - self._shared_out))
        return tuple(one.capacity or rest for _, one in self.named)

    @property
    def named(self) -> tuple[tuple[str, Variant], ...]:
        """The variants by name, the best first."""
        every = ((name, getattr(self, name)) for name in VARIANTS)
        return tuple((name, one) for name, one in every if one is not None)
