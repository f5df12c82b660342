"""What a way of handling misses is: how a missing expert is served."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from itertools import product
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field

from moesim.config.errors import InputError, Problem
from moesim.config.params import Params, unread_fields
from moesim.memory.forms import IN_SLOT, LOADED, ON_HOST, Flags, Form, flags_of

NO_LIMIT = 1 << 62


class Missing(NamedTuple):
    """What ``place`` is told. Of this step and layer on one GPU so far: ``copied`` and ``hosted``
    nanoseconds of copies and of the host, ``loads`` made; of the missing expert: its copy's, its
    kernel's and the host's price; how many loads a step may make; and where the misses of a step
    are divided beforehand (``splits``), whether it is ``planned`` to be loaded, else 0.
    """

    copied: Any
    hosted: Any
    loads: Any
    copy_ns: Any
    kernel_ns: Any
    host_ns: Any
    most_loads: Any
    planned: Any


class MissHandling(Params):
    """A way gives ``place(missing)``, which is plain arithmetic that numba compiles, and reads no
    clock.
    """

    compares: ClassVar[bool] = False
    """Whether ``place`` reads prices; they are 0 where it does not."""
    loads: ClassVar[bool] = True
    """Whether misses may be loaded."""
    splits: ClassVar[bool] = False
    """Whether the misses of a step in a layer are divided before the first activation, by
    ``loads_of``; it then ``compares`` too."""
    forms: ClassVar[tuple[Form, ...]] = (LOADED,)
    """How its activations are served: first LOADED, which hits are, then what else a miss may
    be.
    """

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Raise an InputError where ``forms`` is no table that can be counted by, ``place`` takes
        other arguments, or a field reaches nothing.
        """
        super().__pydantic_init_subclass__(**kwargs)
        if unread := unread_fields(cls):
            what = "is a field that reaches nothing: place reads 'missing' alone; use it in"
            what += " most_loads(self) or loads_of(self, ...), or write ClassVar"
            where = f"{cls.__qualname__}.{unread[0]}"
            raise InputError([Problem(cls.__module__, where, what)])
        takes = inspect.signature(cls.place)
        try:
            takes.bind(None)
        except TypeError:
            what = f"takes {takes}; write @staticmethod place(missing), which has them as members"
            raise InputError([Problem(cls.__module__, f"{cls.__qualname__}.place", what)]) from None
        names = [form.counted for form in cls.forms]
        behind = any(form.in_background for form in cls.forms)
        first, once = cls.forms[:1] == (LOADED,), len(set(names)) == len(names)
        if first and once and (not behind or ON_HOST in cls.forms):
            return
        what = f"is {', '.join(names) or 'empty'}; write LOADED first, and each name once"
        what += ", and ON_HOST too where copies run in the background" if behind else ""
        raise InputError([Problem(cls.__module__, f"{cls.__qualname__}.forms", what)])

    @property
    def flags(self) -> Flags:
        """What its forms are, by number."""
        return flags_of(self.forms)

    @property
    def uses_host(self) -> bool:
        """Whether experts may be computed by the host."""
        return bool(self.flags.on_host.any())

    @property
    def near_memory(self) -> bool:
        """Whether what the host would compute is computed by a near-memory device."""
        return False

    @property
    def near_units(self) -> int | None:
        """Units of that device which an expert lies on; None: all."""
        return None

    @property
    def uses_link(self) -> bool:
        """Whether kernels may read weights over the link."""
        return bool(self.flags.over_link.any())

    @property
    def skips(self) -> bool:
        """Whether experts may be left out."""
        return bool(self.flags.nowhere.any())

    @property
    def copies_behind(self) -> bool:
        """Whether experts may be copied in the background."""
        return any(form.in_background for form in self.forms)

    def most_loads(self) -> int:
        """Loads that a step may make in a layer on one GPU."""
        return NO_LIMIT

    def loads_of(self, experts: int, bandwidths: tuple[int, int]) -> tuple[int, ...]:
        """Where it ``splits``: of 0, 1, ... ``experts`` misses, how many are loaded; empty for as
        many as let copies and host end together. ``bandwidths``: bytes a second of a GPU's
        copies, and at which its host reads experts.
        """
        del experts, bandwidths
        return ()

    def resolved(self) -> MissHandling:
        """The way that a run decides by: itself, or one that does the same."""
        return self

    def copies_all_from(self) -> int | None:
        """Tokens of a forward pass from which on it leaves the slots as they are."""
        return None

    @staticmethod
    def place(missing: Any) -> Any:
        """The number of one of ``forms``; ``missing`` as ``Missing``."""
        raise NotImplementedError

    def place_around(self) -> Callable[[Any], Any]:
        """What ``place`` is in passes that leave the slots as they are."""
        return type(self).place


def fault_of_answer(miss: MissHandling, missing: Missing, answer: object) -> str:
    """What is wrong with the ``answer`` of ``miss`` where so much is ``missing``; "": nothing."""
    if not isinstance(answer, int | np.integer | np.bool_):
        return f"answers {answer!r}, which is no whole number"
    if not int(not miss.loads) <= int(answer) < len(miss.forms):
        return f"answers form {int(answer)}, of {len(miss.forms)} that it has"
    if int(answer) == IN_SLOT and missing.loads >= missing.most_loads:
        return f"loads after {missing.loads} of {missing.most_loads} loads"
    return ""


def fault_of_way(miss: MissHandling) -> str:
    """What is wrong with what ``miss`` answers in some cases, early and late in a step, with each
    price the largest; "" where nothing is. Compiled decisions do not look at an answer.
    """
    most, longer = miss.most_loads(), (0, 1_000_000)
    loads = (0, 1, min(most, 100))
    for one in product(longer, longer, loads, longer, longer, longer, (most,), (0, 1)):
        missing = Missing(*one)
        if fault := fault_of_answer(miss, missing, miss.place(missing)):
            return fault
    return ""


class Beside(MissHandling):
    """A way whose experts beside the GPU may be the host's or a near-memory device's."""

    computed_by: Literal["host", "near_memory"] = Field(
        default="host",
        description="What computes experts beside the GPU; near_memory: hardware.near_memory.",
    )
    units_per_expert: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="cpu with computed_by: near_memory only: units of the device that an expert "
        "lies on, so that several experts of a layer run at a time; none: all of them.",
    )

    @property
    def near_memory(self) -> bool:
        """See ``MissHandling``."""
        return self.computed_by == "near_memory"

    @property
    def near_units(self) -> int | None:
        """See ``MissHandling``."""
        return self.units_per_expert
