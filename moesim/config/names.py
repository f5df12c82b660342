"""Names of shipped things, as people write them."""

from __future__ import annotations

import re
from collections.abc import Iterable

_BETWEEN = re.compile(r"[\s_-]+")


def plain_name(name: str) -> str:
    """``name`` in small letters, with hyphens where it has spaces or underscores."""
    return _BETWEEN.sub("-", name.strip().lower())


def known_name(name: str, known: Iterable[str]) -> str | None:
    """The one of ``known`` that ``name`` is, written in any letters, with spaces or underscores for
    hyphens: 'RTX 4090' is rtx-4090. None where it is none.
    """
    plain = plain_name(name)
    return next((one for one in known if plain_name(one) == plain), None)
