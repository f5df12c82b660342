"""Sweeps: every point of an experiment's axes, in processes, never run twice."""

from moesim.sweep.executor import Executor, in_this_process
from moesim.sweep.identity import is_sweep
from moesim.sweep.local import LocalProcesses
from moesim.sweep.point import Point, point_folder
from moesim.sweep.run import run_sweep
from moesim.sweep.table import read_points

__all__ = [
    "Executor",
    "LocalProcesses",
    "Point",
    "in_this_process",
    "is_sweep",
    "point_folder",
    "read_points",
    "run_sweep",
]
