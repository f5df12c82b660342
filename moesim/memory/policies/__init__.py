"""Cache policies: one file each."""

from moesim.config.registry import Registry
from moesim.memory.policy import CachePolicy

registry: Registry[CachePolicy] = Registry(
    "moesim.memory.policies", CachePolicy, "moesim.cache_policies"
)
