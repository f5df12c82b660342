"""Figures, one file each: ``prepare`` makes a table, ``draw`` draws it."""

from moesim.config.registry import Registry
from moesim.report.figures.base import Figure

registry: Registry[Figure] = Registry("moesim.report.figures", Figure, "moesim.figures")  # type: ignore[type-abstract]

__all__ = ["Figure", "registry"]
