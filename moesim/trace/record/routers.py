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

_SCALES = ("routed_scaling_factor", "router_scaling_factor", "route_scale")


class Choice(NamedTuple):
    """Tensors [tokens, top_k]: ids of the chosen experts and their weights."""

    ids: Any
    weights: Any


@dataclass(frozen=True)
class Routers:
    """The routers of a model's MoE layers, in the order of the layers."""

    modules: tuple[Any, ...]
    layer_ids: tuple[int, ...]
    experts: int
    top_k: int

    @contextmanager
    def listening(self) -> Iterator[list[list[Choice]]]:
        """A list for each layer, to which every forward pass inside adds its choice.

        Weights are those of before the model's constant scale (DeepSeek's
        ``routed_scaling_factor``).
        """
        heard: list[list[Choice]] = [[] for _ in self.modules]
        hooks = [
            module.register_forward_hook(_adding_to(choices, _scale(module)))
            for module, choices in zip(self.modules, heard, strict=True)
        ]
        try:
            yield heard
        finally:
            for hook in hooks:
                hook.remove()


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


def _adding_to(choices: list[Choice], scale: float) -> Callable[[Any, Any, Any], None]:
    def add(_module: Any, _inputs: Any, output: Any) -> None:
        made = choice(output)
        assert made is not None
        choices.append(Choice(made.ids.detach(), made.weights.detach().float() / scale))

    return add


def _scale(router: Any) -> float:
    return float(next((getattr(router, name) for name in _SCALES if hasattr(router, name)), 1.0))
