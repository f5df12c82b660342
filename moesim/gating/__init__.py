"""Gating policies: one file each."""

from moesim.config.registry import Registry
from moesim.gating.base import Gating

registry: Registry[Gating] = Registry("moesim.gating", Gating, "moesim.gatings")
