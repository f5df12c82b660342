"""Schedulers of engines that serve requests: one file a kind, and the state that they go by."""

from moesim.config.registry import Registry
from moesim.workload.serving.base import RequestScheduler

registry: Registry[RequestScheduler] = Registry(
    "moesim.workload.serving", RequestScheduler, "moesim.schedulers"
)
