"""Which components are the project's own: those that are installed beside it are not."""

from __future__ import annotations

from typing import Any

from moesim.config.registry import Registry


def own(registry: Registry[Any]) -> list[str]:
    """The kinds of the project's own."""
    found = registry.components.items()
    return [kind for kind, one in found if one.__module__.startswith("moesim.")]
