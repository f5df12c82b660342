"""Batchings: one file each."""

from moesim.config.registry import Registry
from moesim.workload.batching.base import Batching

registry: Registry[Batching] = Registry("moesim.workload.batching", Batching, "moesim.batchings")
