"""What makes drafts of further tokens: a model's own MTP layer, or a smaller model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from moesim.model.slicing import sliced, with_sliced_experts
from moesim.model.spec import ModelSpec, MoeSpec, predicting_layer
from moesim.model.spread import ALONE, Spread


class Joining(NamedTuple):
    """The product of the last hidden vector and the next token's embedding, before an MTP layer:
    its weights, and what is held of them and of all else that the model's layers have not.
    """

    elements: int = 0
    size: int = 0
    held_bytes: int = 0


NOTHING = Joining()


@dataclass(frozen=True)
class Drafter:
    """What makes drafts, so many ``times`` one after the other in a pass: ``model``, as each GPU
    of a ``spread`` has it. Of an MTP layer that is a model of this layer alone, whose head and
    embedding are those of the model that verifies (``lent``), and a product before it, which each
    GPU has whole (vLLM's ``eh_proj``, from memory).
    """

    times: int
    model: ModelSpec
    joining: Joining = NOTHING
    lent: bool = False
    spread: Spread = ALONE

    @classmethod
    def of_mtp(cls, model: ModelSpec, times: int) -> Drafter:
        """The first of the MTP layers that ``model`` has, with the head that it shares."""
        layer, hidden = replace(predicting_layer(model.layers), index=0), model.hidden_size
        elements = 2 * hidden * hidden
        more = model.mtp_bytes // model.mtp_layers - layer.bytes
        beyond = model.mtp_parameters // model.mtp_layers - layer.parameters
        size = max(0, more) * min(elements, beyond) // max(beyond, 1)
        return cls(times, replace(model, layers=(layer,)), Joining(elements, size, more), lent=True)

    @classmethod
    def of_model(cls, model: ModelSpec, times: int) -> Drafter:
        """A model of its own."""
        return cls(times, model)

    def of_each(self, spread: Spread) -> Drafter:
        """What one GPU of a ``spread`` has of it, as of the model that verifies."""
        part = with_sliced_experts(sliced(self.model, spread.group), spread.slices)
        return replace(self, model=part, spread=spread)

    def local(self, moe: MoeSpec) -> int:
        """Experts of a layer on the GPU that has most."""
        return -(-moe.experts // self.spread.holders)

    @cached_property
    def held_bytes(self) -> int:
        """Bytes of the weights that a GPU holds of it."""
        layers = self.model.layers
        mixtures = [layer.moe for layer in layers if layer.moe is not None]
        away = sum((moe.experts - self.local(moe)) * moe.expert.bytes for moe in mixtures)
        ends = 0 if self.lent else self.model.bytes - sum(layer.bytes for layer in layers)
        return sum(layer.bytes for layer in layers) - away + ends + self.joining.held_bytes

    @cached_property
    def windows(self) -> tuple[int | None, ...]:
        """The sliding windows of its layers, each once."""
        return tuple(dict.fromkeys(layer.attention.window for layer in self.model.layers))


def with_drafter(model: ModelSpec, drafter: Drafter) -> ModelSpec:
    """``model`` on GPUs that hold the weights of ``drafter`` beside it, and its keys and values."""
    first = len(model.layers)
    layers = tuple(replace(one, index=first + i) for i, one in enumerate(drafter.model.layers))
    held = model.other_bytes + drafter.held_bytes
    return replace(model, other_bytes=held, drafting_layers=layers)
