"""moesim: trace-driven simulation of Mixture-of-Experts inference.

``run`` runs one experiment, ``run_sweep`` all points of one; ``read_result`` reads a result folder.
Everything is imported on first use, so that ``import moesim`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moesim.api import run_sweep
    from moesim.experiment.resolve import load_experiment
    from moesim.experiment.run import run
    from moesim.results import Result, read_result

_HOMES = {
    "Result": "moesim.results",
    "load_experiment": "moesim.experiment.resolve",
    "read_result": "moesim.results",
    "run": "moesim.experiment.run",
    "run_sweep": "moesim.api",
}

__all__ = ["Result", "__version__", "load_experiment", "read_result", "run", "run_sweep"]


def __getattr__(name: str) -> Any:
    """Import ``name`` from its home on first use."""
    if name == "__version__":
        return _version()
    if name not in _HOMES:
        raise AttributeError(f"module 'moesim' has no attribute '{name}'")
    from importlib import import_module

    home = import_module(_HOMES[name])
    return getattr(home, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("moesim")
    except PackageNotFoundError:
        return "0+unknown"
