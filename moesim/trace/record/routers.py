"""What routers return, and listening to it.

A router of Hugging Face transformers returns the ids and the weights of the chosen experts,
[tokens, top_k] each, side by side in a tuple (Mixtral, OLMoE, Qwen2/3-MoE, gpt-oss, DeepSeek and
most others since transformers 5). These are what the expert layer is given: groups, biases and
normalisation are in them, which router logits do not show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from moesim.config.errors import InputError, Problem

_SCALES = ("routed_scaling_factor", "router_scaling_factor", "route_scale")


class Choice(NamedTuple):
    """Tensors [tokens, top_k]: ids of the chosen experts and their weights."""

    ids: Any
    weights: Any


class Heard(NamedTuple):
    """By MoE layer a choice a forward pass: those that routers ``made``, and by distance, from 1
    on, those of the routers so many layers ahead on the input of the layer's own: a prediction
    ``ahead``, which the last layers have none of.
    """

    made: list[list[Choice]]
    ahead: list[list[list[Choice]]]


@dataclass(frozen=True)
class Routers:
    """The routers of a model's MoE layers, in the order of the layers."""

    modules: tuple[Any, ...]
    layer_ids: tuple[int, ...]
    experts: int
    top_k: int

    @contextmanager
    def listening(self, look_ahead: int = 0) -> Iterator[Heard]:
        """What every forward pass inside adds its choices to; predictions are over up to
        ``look_ahead`` MoE layers.

        Weights are those of before the model's constant scale (DeepSeek's
        ``routed_scaling_factor``).
        """
        layers = range(len(self.modules))
        distances = range(1, look_ahead + 1)
        heard = Heard(
            [[] for _ in layers], [[[] for _ in layers[distance:]] for distance in distances]
        )
        hooks = [
            module.register_forward_hook(self._adding_to(heard, layer), with_kwargs=True)
            for layer, module in enumerate(self.modules)
        ]
        try:
            yield heard
        finally:
            for hook in hooks:
                hook.remove()

    def _adding_to(self, heard: Heard, layer: int) -> Callable[..., None]:
        """The hook of a layer's router; routers ahead are called without theirs."""

        def add(module: Any, inputs: Any, named: Any, output: Any) -> None:
            heard.made[layer].append(_told(module, output))
            for gate, predicted in zip(self.modules[layer + 1 :], heard.ahead, strict=False):
                predicted[layer].append(_told(gate, gate.forward(*inputs, **named)))

        return add

    def check_look_ahead(self, layers: int) -> None:
        """An InputError where there are not so many MoE ``layers`` behind the first."""
        if layers < (most := len(self.modules)):
            return
        what = f"{layers} is more than the {most - 1} MoE layers behind the first; write fewer"
        raise InputError([Problem("--look-ahead", "", what)])


def choice(output: Any) -> Choice | None:
    """The neighbours in a module's output that are ids and weights; None if there are none."""
    parts = list(output) if isinstance(output, tuple | list) else []
    for place, ids in enumerate(parts):
        if not _is_matrix(ids) or ids.is_floating_point():
            continue
        for weights in (*parts[:place][-1:], *parts[place + 1 : place + 2]):
            if _is_matrix(weights) and weights.is_floating_point() and weights.shape == ids.shape:
                return Choice(ids, weights)
    return None


def _is_matrix(value: Any) -> bool:
    return hasattr(value, "is_floating_point") and value.dim() == 2  # noqa: PLR2004


def _told(router: Any, output: Any) -> Choice:
    """The choice in what a router returned."""
    made = choice(output)
    assert made is not None
    return Choice(made.ids.detach(), made.weights.detach().float() / _scale(router))


def _scale(router: Any) -> float:
    return float(next((getattr(router, name) for name in _SCALES if hasattr(router, name)), 1.0))
