"""When requests come: one file a kind."""

from moesim.config.registry import Registry
from moesim.workload.arrivals.base import Arrivals

registry: Registry[Arrivals] = Registry("moesim.workload.arrivals", Arrivals, "moesim.arrivals")
