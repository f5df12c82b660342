"""Routers: which replica of an engine gets a request, one file a kind."""

from moesim.config.registry import Registry
from moesim.workload.routers.base import Router

registry: Registry[Router] = Registry("moesim.workload.routers", Router, "moesim.routers")
