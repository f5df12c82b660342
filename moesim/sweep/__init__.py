"""Sweeps: every point of an experiment's axes, in processes, never run twice.

The package is callable: ``moesim.sweep("experiment.yaml")`` is ``moesim.sweep.swept.sweep``.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from moesim.sweep.executor import Executor, in_this_process
from moesim.sweep.identity import is_sweep
from moesim.sweep.local import LocalProcesses
from moesim.sweep.point import Point, point_folder
from moesim.sweep.run import SweepOptions, run_sweep
from moesim.sweep.table import read_points

if TYPE_CHECKING:
    from moesim.sweep.found import Sweep

__all__ = [
    "Executor",
    "LocalProcesses",
    "Point",
    "SweepOptions",
    "in_this_process",
    "is_sweep",
    "point_folder",
    "read_points",
    "run_sweep",
]


class _CallableModule(ModuleType):
    """The command's word is the package's name, and Python finds the package first."""

    def __call__(self, *args: Any, **options: Any) -> "Sweep":
        from moesim.sweep.swept import sweep

        return sweep(*args, **options)


sys.modules[__name__].__class__ = _CallableModule
