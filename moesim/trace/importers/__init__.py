"""Importers of recorded routing: one file each, found by folder."""

from __future__ import annotations

from moesim.config.registry import Registry
from moesim.trace.importers.base import Importer

registry: Registry[Importer] = Registry("moesim.trace.importers", Importer, "moesim.importers")  # type: ignore[type-abstract]
"""The importers by kind; third parties add theirs through the entry points ``moesim.importers``."""

__all__ = ["Importer", "registry"]
