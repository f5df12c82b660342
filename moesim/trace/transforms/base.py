"""What a transform of routing is."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from moesim.config.params import Params
from moesim.config.registry import kind_of
from moesim.trace.transforms.choices import Choices


class Transform(Params):
    """A rule that leaves a token fewer or other choices; has its own ``kind: Literal[...]``.

    It sees the whole trace, of which it may learn. One whose choices depend on which tokens share a
    forward pass says so with ``by_pass``, and reads ``choices.passes``.
    """

    by_pass: ClassVar[bool] = False
    loses: ClassVar[str] = "cut"
    """What became of the gate weight that it loses, as results name it."""

    @abstractmethod
    def apply(self, choices: Choices) -> Choices:
        """``choices`` by this rule; most are ``choices.keep`` of a mask. Leaves its input as it is,
        chooses no expert that is not in ``choices`` or its ``predicted``, and puts unused places
        last. InputError where the trace lacks what the rule reads.
        """


def as_text(one: Transform) -> str:
    """A rule as a file has it: ``{kind: top_k, k: 2}``."""
    said = {"kind": kind_of(type(one))} | one.model_dump(mode="json", exclude_unset=True)
    return f"{{{', '.join(f'{name}: {value}' for name, value in said.items())}}}"
