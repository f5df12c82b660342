"""Times of figures, in the unit that reads well."""

from __future__ import annotations

LONG_MS = 10_000.0


def shown_ms(most: float) -> tuple[float, str]:
    """By what milliseconds up to ``most`` are divided where they are shown, and their unit then:
    seconds from ten on.
    """
    return (1e3, "s") if most >= LONG_MS else (1.0, "ms")


def milliseconds(value: float) -> str:
    """A time in ms with its unit, in seconds where it is long."""
    per, unit = shown_ms(value)
    return f"{value / per:.4g} {unit}"
