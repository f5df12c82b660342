"""Weights in host memory by a number of GiB: ``--cpu-offload-gb`` of vLLM and SGLang.

Both go through the layers from the first on and take parameter by parameter until as many bytes are
there, the last one whole (vLLM 0.20.2 ``UVAOffloader``, SGLang 0.5.23 ``OffloaderV1``; Apache-2.0).
vLLM's kernels read them in place; SGLang copies what a layer has of them whenever it runs.
"""

from __future__ import annotations

import re
from itertools import accumulate

from moesim.config.amounts.sizes import GIB
from moesim.config.errors import Problem
from moesim.experiment.engine_commands.base import Configuration, Reading
from moesim.model import ModelSpec

OPTION = "--cpu-offload-gb"
ZERO_COPY = {"kind": "zero_copy"}


def put_offload(reading: Reading, model: ModelSpec | None, *, zero_copy: bool) -> None:
    """Put the layers that a line leaves in host memory: the nearest whole number of them."""
    given = reading.line.last(OPTION)
    if given is None or not given.value:
        return
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,9})?", given.value):
        what = f"'{given.value}' is no number of GiB; write one, as 10"
        reading.line.problems.append(Problem(given.word, "", what))
        return
    if not (size := float(given.value) * GIB):
        return
    if model is None or {"parallelism", "experts"} & set(reading.experiment):
        why = "weights on the host are read for one GPU and a model that moesim can open"
        reading.warn(given, f"not modelled: {why}")
        return
    ends = list(accumulate((layer.bytes for layer in model.layers), initial=0))
    layers = min(range(len(ends)), key=lambda number: abs(ends[number] - size))
    reading.put("offload_layers", layers or None)
    if zero_copy and layers:
        reading.put("experts.miss", ZERO_COPY)
    what = f"the first {layers} layers, {ends[layers] / GIB:.1f} GiB, are the nearest whole ones"
    reading.note(given, f"{what}; the engine takes tensor by tensor")


def offload_words(asked: Configuration) -> list[str]:
    """The option for the layers of an experiment, rounded down: the parameter that goes beyond it
    is the last one taken.
    """
    if not (number := asked.experiment.offload_layers):
        return []
    size = sum(layer.bytes for layer in asked.model.layers[:number])
    return [OPTION, f"{size * 100 // GIB / 100:.2f}"]


def why_not_offloaded(asked: Configuration, engine: str, *, zero_copy: bool) -> list[str]:
    """Why ``engine`` keeps no layers on the host as the experiment does."""
    one = asked.experiment
    if not one.offload_layers or one.experts.miss.uses_link is zero_copy:
        return []
    if zero_copy:
        what = f"{engine} copies no layers, but reads their weights in place"
        return [f"offload_layers: {what} (experts.miss: zero_copy); SGLang copies them"]
    what = f"experts.miss: zero_copy: {engine} copies the layers of offload_layers (miss: load)"
    return [f"{what}; vLLM reads them in place"]
