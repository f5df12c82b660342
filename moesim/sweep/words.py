"""Values of a sweep's axes in words."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd


def in_words(value: Any) -> str:
    """A cell of a sweep's table: a component, which is JSON there, as ``oracle, recall 50 %``; a
    list of them joined by ``+``, ``none`` where it is empty; a list of numbers as ``96 % / 90 %``;
    one of which nothing is set as ``default``; nothing as ``-``.
    """
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return "-"
    text = str(value)
    if (text[:1], text[-1:]) not in {("{", "}"), ("[", "]")}:
        return text
    try:
        found = json.loads(text)
    except ValueError:  # a name or a path that is written so
        return text
    if found == {}:
        return "default"
    parts = found if isinstance(found, list) else [found]
    if not all(isinstance(part, dict) for part in parts):
        return _plain(found)
    return " + ".join(map(_component, parts)) or "none"


def _component(settings: dict[str, Any]) -> str:
    kind = [str(settings.pop("kind"))] if "kind" in settings else []
    return ", ".join([*kind, *(f"{k.replace('_', ' ')} {_plain(v)}" for k, v in settings.items())])


def _plain(value: Any) -> str:
    return " / ".join(map(str, value)) if isinstance(value, list) else str(value)


NAMED = {
    "experts.on_cpu.layers": "layers on the CPU",
    "parallelism.pipeline": "pipeline stages",
    "experts.on_cpu.pattern": "experts on the CPU",
    "experts.host.capacity": "host memory",
    "experts.choose.high": "choose high",
    "experts.variants.high.capacity": "high capacity",
}
"""Axes whose last word says too little."""
UNSAID = {
    "parallelism.dispatch_dtype": "activations' dispatch dtype",
    "parallelism.exchange": "default exchange",
    "parallelism.nodes": "default nodes",
    "workload.context": "contexts of the trace",
    "workload.requests": "all requests",
}
"""What nothing means on axes where it is not the lack of such a thing."""
NAMED_WITH_ALL = ("experts.host.capacity", "workload.context")
"""Axes whose values are a size or ``all``, as those of another axis are, or tokens as ``16k``."""

SAID = {
    ("experts.capacity", "all"): "all experts",
    ("experts.on_cpu.layers", "auto"): "fewest layers on the CPU",
}
"""Values that say too little without their axis, and what they say with it."""


def last_word(axis: str) -> str:
    """The last word of an axis' path, the word before ``kind``: ``policy``, ``batch size``."""
    return NAMED.get(axis) or axis.removesuffix(".kind").rpartition(".")[2].replace("_", " ")


def word(axis: str, value: object) -> str:
    """``value`` with its axis' name where it needs one: `lru`, `batch size 16`, `no chunk`,
    `acceptance 80 %`.
    """
    if pd.api.types.is_scalar(value) and pd.isna(value):  # type: ignore[call-overload]
        return UNSAID.get(axis, f"no {last_word(axis)}")
    if axis and value == "none":
        return f"no {last_word(axis)}"
    if said := SAID.get((axis, str(value))):
        return said
    text = f"{value:g}" if isinstance(value, float) else in_words(value)
    number = str(value).removesuffix(" %").replace(".", "").isdigit()
    says_itself = isinstance(value, str) and not number and axis not in NAMED_WITH_ALL
    return text if says_itself else f"{last_word(axis)} {text}".strip()
