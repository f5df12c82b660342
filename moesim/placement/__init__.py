"""Placement planners: one file each."""

from moesim.config.registry import Registry
from moesim.placement.base import Planner

registry: Registry[Planner] = Registry("moesim.placement", Planner, "moesim.planners")
