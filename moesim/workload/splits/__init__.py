"""How a GPU's memory is split over time between slots of experts and blocks of keys and values: one
file a kind.
"""

from moesim.config.registry import Registry
from moesim.workload.splits.base import Split

registry: Registry[Split] = Registry("moesim.workload.splits", Split, "moesim.splits")
