"""The routers of a model, found by what they return."""

from __future__ import annotations

import re
from typing import Any

from moesim.config.errors import InputError
from moesim.trace.record.loading import libraries
from moesim.trace.record.routers import Routers, choice

_LAYER = re.compile(r"(?:^|\.)(?:layers|blocks|h)\.(\d+)\.")
_NAMED_AS_ROUTER = re.compile(r"(?:^|\.)(?:gate|router)$")
_PROBE_TOKENS = 3


def find_routers(model: Any) -> Routers:
    """The routers of ``model``, found in a forward pass of three tokens.

    Raises InputError, naming what was found, if there are none, several in a layer, or layers of
    different top-k.
    """
    outputs = _probe(model)
    found = {name: made for name, output in outputs.items() if (made := choice(output))}
    layers = {name: int(match[1]) for name in found if (match := _LAYER.search(name))}
    names = sorted(layers, key=lambda name: layers[name])
    top_k = {found[name].ids.shape[1] for name in names}
    if not names:
        raise InputError(_unrecognised(model, outputs))
    if len(set(layers.values())) < len(names) or len(top_k) > 1:
        listed = ", ".join(f"{name} (top-{found[name].ids.shape[1]})" for name in names[:4])
        raise InputError(
            f"{type(model).__name__} has the routers {listed}, ...: a trace has one a layer, all"
            " with the same top-k; save the ids of some as npz for 'moesim trace import'"
        )
    modules = [model.get_submodule(name) for name in names]
    return Routers(
        tuple(modules),
        tuple(layers[name] for name in names),
        max(_experts(*pair) for pair in zip(modules, map(outputs.get, names), strict=True)),
        top_k.pop(),
    )


def _probe(model: Any) -> dict[str, Any]:
    """The outputs of all modules in one forward pass, by name."""
    torch = libraries().torch
    outputs: dict[str, Any] = {}

    def keep(name: str) -> Any:
        return lambda _module, _inputs, output: outputs.update({name: output})

    hooks = [module.register_forward_hook(keep(name)) for name, module in model.named_modules()]
    try:
        with torch.inference_mode():
            model(input_ids=torch.arange(_PROBE_TOKENS, device=model.device)[None])
    finally:
        for hook in hooks:
            hook.remove()
    return outputs


def _experts(router: Any, output: Any) -> int:
    """Routed experts: the width of the logits beside the choice, or the router's attribute."""
    widths = [int(part.shape[-1]) for part in output if hasattr(part, "shape") and part.dim()]
    known = (getattr(router, name, None) for name in ("num_experts", "n_routed_experts"))
    return max(*widths, *(number for number in known if isinstance(number, int)))


def _unrecognised(model: Any, outputs: dict[str, Any]) -> str:
    named = [name for name in outputs if _NAMED_AS_ROUTER.search(name)]
    found = "no module is named gate or router"
    if named:
        module, output = model.get_submodule(named[0]), outputs[named[0]]
        found = f"{named[0]} ({type(module).__name__}) returns {_shown(output)}"
    return (
        f"no router of {type(model).__name__} is recognised, none returns expert ids and weights of"
        f" [tokens, top_k]: {found}; record the ids with a hook of your own, save them as npz and"
        " use 'moesim trace import'"
    )


def _shown(output: Any) -> str:
    if isinstance(output, tuple | list):
        return f"({', '.join(map(_shown, output))})"
    if hasattr(output, "dtype"):
        return f"{str(output.dtype).removeprefix('torch.')}{list(output.shape)}"
    return type(output).__name__
