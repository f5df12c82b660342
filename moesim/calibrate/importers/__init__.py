"""Importers of measurements: one file each, found by folder."""

from __future__ import annotations

from moesim.calibrate.importers.base import Importer
from moesim.config.registry import Registry

registry: Registry[Importer] = Registry(
    "moesim.calibrate.importers", Importer, "moesim.measurement_importers"
)
"""The importers by kind; third parties' by the entry points ``moesim.measurement_importers``."""

__all__ = ["Importer", "registry"]
