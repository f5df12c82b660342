"""Instants that clocks compare: one after all others; when arrivals over shared links are one."""

from __future__ import annotations

NEVER = 1 << 62
"""An instant after all others."""
SAME_NS = 1 / (2**31 - 1)
"""Transfers over shared links that arrive so many ns apart arrive together, those that do so many
above a nanosecond at it. Users that take turns may come ever closer to a nanosecond, to a quarter
of what was left each time, which no number of finite length follows. It is no round part of one.
"""
