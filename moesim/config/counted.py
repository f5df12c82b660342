"""Numbers of things in messages."""

from __future__ import annotations


def counted(number: int, thing: str) -> str:
    """``1 request``, but ``2 requests``."""
    return f"{number} {thing}{'' if number == 1 else 's'}"
