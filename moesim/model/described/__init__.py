"""A model from any config.json, read by what its keys mean: for families nobody has described."""

from moesim.model.described.build import describe_config
from moesim.model.described.keys import ConfigError

__all__ = ["ConfigError", "describe_config"]
