"""What the records of a run take in memory, which it must have before it starts."""

from __future__ import annotations

from moesim.config.amounts.sizes import GIB
from moesim.config.errors import InputError, Problem
from moesim.engine.case import Case
from moesim.experiment.schema.experiment import Experiment
from moesim.runtime.memory import available_bytes

LAYER_BYTES, SPAN_BYTES, ACTIVATION_BYTES = 270, 560, 600
"""At the peak, for a row of the layers, a span, and all spans of an activation where nobody knows
which miss: measured over 974,784 rows, 67,584 to 341,012 spans (small-moe, nine runs: resident or
not, batches or requests that are served), and 3.9 M activations (gpt-oss-20b, 24 layers, one GPU).
"""
LAYER_SPANS, MISS_SPANS = 5, 3
"""Of a GPU in a layer of a pass, and beside these of an expert that is not there (2.3 to 3.3)."""
WORTH_SAYING = GIB
REMEDY = "records: step or summary keep far less, without the figures of layers"


def record_bytes(records: str, rows: int, activations: int, missing: float | None) -> int:
    """What the tables of ``records`` take beyond those of the steps, with so many ``rows`` of
    layers: of each GPU in each MoE layer of each pass.

    ``activations`` at most, of which so many are ``missing``; None: nobody knows how many.
    """
    of_layers = rows * LAYER_BYTES if records in ("layer", "expert") else 0
    if records != "expert":
        return of_layers
    if missing is None:
        return of_layers + activations * ACTIVATION_BYTES
    return of_layers + round(rows * LAYER_SPANS + missing * MISS_SPANS) * SPAN_BYTES


def refuse_too_many_records(experiment: Experiment, case: Case) -> None:
    """An InputError where the records of ``case`` take more memory than there is."""
    schedule, layers = case.schedule, len(case.model.moe_layers)
    choices = len(schedule.rows) * layers * case.trace.top_k
    experts = sum(len(case.local_experts(gpu)) for gpu in range(case.gpus))
    rows = schedule.passes * layers
    resident = case.kernels == "grouped" and all(all(case.resident(n)) for n in range(case.gpus))
    most = rows * case.gpus, min(choices, rows * experts)
    size = record_bytes(experiment.records, *most, 0 if resident else None)
    if size > WORTH_SAYING and size > (there := available_bytes()):
        what = f"{told(experiment.records, size)}, and {_gib(there)} are free; {REMEDY}"
        raise InputError([Problem("", "records", what)])


def told(records: str, size: int, *, timed: bool = False) -> str:
    """What ``size`` bytes of ``records`` take; ``timed``: at most, by arrivals."""
    takes = f"'{records}' takes {'up to ' * timed}about {_gib(size)} of memory for its tables"
    return takes + ", if few requests are answered at once" * timed


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
