"""moesim: trace-driven simulation of Mixture-of-Experts inference.

The command line's words are functions here: ``run``, ``sweep``, ``compare``, ``fit``, ``place``,
``advise``, ``curve``, ``host_curve``, ``plot``, ``import_trace``, ``synthesize``, ``price``,
``timeline``, ``command``, ``read_command``, ``write_report``, ``evidence``, ``sensitivity``,
``search``; and ``read_result``, ``read_sweep`` read what is in a folder.
Everything is imported on first use, so that ``import moesim`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moesim.api import (
        advise,
        command,
        compare,
        curve,
        evidence,
        fit,
        host_curve,
        import_trace,
        place,
        plot,
        price,
        read_command,
        search,
        sensitivity,
        synthesize,
        timeline,
        write_report,
    )
    from moesim.experiment.loading.resolve import load_experiment
    from moesim.experiment.running.run import run
    from moesim.results import Result, read_result
    from moesim.sweep.advise.question import Question
    from moesim.sweep.found import Sweep, read_sweep
    from moesim.sweep.swept import sweep

    __version__: str

_HOMES = {
    "Question": "moesim.sweep.advise.question",
    "Result": "moesim.results",
    "Sweep": "moesim.sweep.found",
    "load_experiment": "moesim.experiment.loading.resolve",
    "read_result": "moesim.results",
    "read_sweep": "moesim.sweep.found",
    "run": "moesim.experiment.running.run",
}
_RENAMED = {"run_sweep": "sweep"}

__all__ = [
    "Question",
    "Result",
    "Sweep",
    "__version__",
    "advise",
    "command",
    "compare",
    "curve",
    "evidence",
    "fit",
    "host_curve",
    "import_trace",
    "load_experiment",
    "place",
    "plot",
    "price",
    "read_command",
    "read_result",
    "read_sweep",
    "run",
    "search",
    "sensitivity",
    "sweep",
    "synthesize",
    "timeline",
    "write_report",
]


if not TYPE_CHECKING:  # to whom any name would be one of Any

    def __getattr__(name: str) -> Any:
        """Import ``name`` from its home on first use."""
        if name == "__version__":
            return _version()
        from importlib import import_module

        if name == "sweep":  # the package itself, which can be called
            return import_module("moesim.sweep")
        if name in __all__:
            return getattr(import_module(_HOMES.get(name, "moesim.api")), name)
        hint = f"; it is named '{_RENAMED[name]}' now" if name in _RENAMED else ""
        raise AttributeError(f"module 'moesim' has no attribute '{name}'{hint}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("moesim")
    except PackageNotFoundError:
        return "0+unknown"
