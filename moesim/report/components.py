"""Components of an experiment in words."""

from __future__ import annotations

import json
from typing import Any


def cause_in_words(cause: str) -> str:
    """A cause of ``time_share`` as text: ``waiting_for_gpus`` as ``waiting for GPUs``."""
    return cause.replace("_", " ").replace(" gpus", " GPUs").replace(" cpu", " CPU")


def in_words(value: Any) -> str:
    """A cell of a sweep's table: a component, which is JSON there, as ``oracle, recall 50 %``."""
    text = str(value)
    if not (text.startswith("{") and text.endswith("}")):
        return text
    settings = dict(json.loads(text))
    kind = [str(settings.pop("kind"))] if "kind" in settings else []
    return ", ".join([*kind, *(f"{k.replace('_', ' ')} {v}" for k, v in settings.items())])
