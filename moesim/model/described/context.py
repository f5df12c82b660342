"""What the parts of a described model are built from."""

from __future__ import annotations

from dataclasses import dataclass

from moesim.model.described.habits import Habits
from moesim.model.described.keys import Keys
from moesim.model.weights import NOTHING, Size, Weights


@dataclass(frozen=True)
class Context:
    """A model's keys, formats and habits, and its hidden size."""

    keys: Keys
    weights: Weights
    habits: Habits
    hidden: int

    @property
    def element_bytes(self) -> int:
        """Bytes of an activation, and of a number in the KV cache."""
        return self.weights.plain.element_bytes

    def matrices(self, module: str, shapes: dict[str, tuple[int, int]]) -> Size:
        """Matrices below ``module``, outputs x inputs each, by their names; those of size 0 are
        not there.
        """
        total = NOTHING
        for name, (outputs, inputs) in shapes.items():
            if outputs and inputs:
                total += self.weights.linear(f"{module}.{name}", outputs, inputs)
        return total

    def vectors(self, *elements: int) -> Size:
        """Norms, biases and other small parts."""
        return self.weights.table(sum(elements))
