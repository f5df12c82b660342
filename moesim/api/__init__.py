"""What Python users call beside ``moesim.run`` and ``moesim.sweep``: the command line's words.

Each function does what the command of its name does, and returns what that prints. Everything is
imported where it is used.
"""

from moesim.api.questions import command, fit, host_curve, place, price, read_command
from moesim.api.results import compare, plot, timeline, write_report
from moesim.api.studies import advise, evidence, search, sensitivity
from moesim.api.traces import curve, import_trace, synthesize

__all__ = [
    "advise",
    "command",
    "compare",
    "curve",
    "evidence",
    "fit",
    "host_curve",
    "import_trace",
    "place",
    "plot",
    "price",
    "read_command",
    "search",
    "sensitivity",
    "synthesize",
    "timeline",
    "write_report",
]
