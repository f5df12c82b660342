"""How long prompts and answers are: one file a kind."""

from moesim.config.registry import Registry
from moesim.workload.lengths.base import Lengths

registry: Registry[Lengths] = Registry("moesim.workload.lengths", Lengths, "moesim.lengths")
