"""How what is not wrong, but not as one may think, is told."""

from __future__ import annotations

import warnings
from collections.abc import Callable

Warn = Callable[[str], None]
"""Told in a line what to mind."""


def as_warning(line: str) -> None:
    """Tell Python users as a warning."""
    warnings.warn(line.removeprefix("warning: "), stacklevel=3)
