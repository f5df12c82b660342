"""Batchings: one file each."""

from moesim.config.registry import Registry
from moesim.workload.batching.base import AnyBatching

registry: Registry[AnyBatching] = Registry(
    "moesim.workload.batching", AnyBatching, "moesim.batchings"
)
