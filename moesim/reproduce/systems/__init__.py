"""Published systems, each a record: points of an experiment, laws, published numbers beside."""

from moesim.reproduce.systems.load import load_system, system_names
from moesim.reproduce.systems.record import System
from moesim.reproduce.systems.run import Found, run_system

__all__ = ["Found", "System", "load_system", "run_system", "system_names"]
