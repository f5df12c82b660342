"""Traces: what their misses are, from recordings, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from moesim.config.arguments import check_choice, check_list, check_out, check_type, check_whole
from moesim.config.errors import check_apart, located

if TYPE_CHECKING:
    import pandas as pd

    from moesim.model import ModelSpec
    from moesim.trace import RoutingTrace
    from moesim.trace.lengths import Lengths
    from moesim.trace.synthesis import SyntheticTrace

POLICIES = ("lru", "lfu", "fifo", "lifo", "static", "min")


def curve(
    trace: Path | str | RoutingTrace,
    *,
    policy: Sequence[str] = POLICIES,
    batch: int = 1,
    phase: Literal["decode", "prefill", "all", "encode"] = "decode",
    rule: Literal["step", "textbook"] = "step",
) -> pd.DataFrame:
    """The miss ratio of ``trace`` at every number of expert slots, by policy and MoE layer.

    Columns: ``policy``; ``layer`` (-1: all together); ``slots`` of a layer; ``activations``;
    ``misses``; ``miss_ratio``; ``method``. ``batch``: requests in a static batch; ``phase``: whose
    tokens run. ``rule``: ``step`` as in a run, where the experts of a step are not evicted before
    their activation; ``textbook``: every activation on its own. Raises an InputError for a trace
    that cannot be read and for an unknown policy.

    >>> moesim.curve("traces/quickstart.parquet", policy=["lru", "min"])
    """
    from moesim.experiment.questions.curves import Rule, miss_curves
    from moesim.trace import RoutingTrace, read_trace
    from moesim.workload.requests import PhaseChoice

    check_list("--policy", policy)
    check_whole("--batch", batch)
    check_choice("--phase", phase, get_args(PhaseChoice))
    check_choice("--rule", rule, get_args(Rule))
    told = "trace; give the path of one, or what read_trace gives"
    check_type("trace", trace, (str, Path, RoutingTrace), told)
    if isinstance(trace, RoutingTrace):
        return miss_curves(trace, policy, batch_size=batch, phase=phase, rule=rule)
    with located(Path(trace)):
        read = read_trace(Path(trace))
        return miss_curves(read, policy, batch_size=batch, phase=phase, rule=rule)


def import_trace(
    file: Path | str,
    *,
    out: Path | str | None = None,
    model: str | ModelSpec | None = None,
    importer: str | None = None,
    top_k: int | None = None,
    prompt_tokens: Lengths | None = None,
    request_tokens: Lengths | None = None,
    source: str | None = None,
    licence: str | None = None,
) -> RoutingTrace:
    """The trace in the recording ``file``, of any known format; ``out``: write it, too (.parquet).

    ``model``: what it was recorded from, a card or a config.json; ``importer``: the format, instead
    of recognising it; ``top_k`` experts a token, ``prompt_tokens`` and ``request_tokens`` (a number
    for all requests, or one for each), ``source`` and ``licence``: what the recording does not say.
    Raises an InputError for a file that is unknown, damaged, a pickle or no sound trace.

    >>> moesim.import_trace("routing.npz", model="gpt-oss-20b", out="mine.parquet")
    """
    from moesim.model import load_model
    from moesim.trace.importing import import_trace as imported
    from moesim.trace.lengths import PROMPT, REQUEST, check_lengths

    check_type("file", file, (str, Path), "path; name the file of a recording")
    check_out(out)
    check_lengths(PROMPT, prompt_tokens, 0)
    check_lengths(REQUEST, request_tokens, 1)
    path = Path(file)
    if out is not None:
        parts = [part for part in path.rglob("*") if part.suffix != ".parquet"]
        named = [Path(model)] if isinstance(model, str) else []
        check_apart(Path(out), path, *parts, *named)
    spec = load_model(model) if isinstance(model, str) else model
    trace = imported(
        path,
        importer=importer,
        model=spec,
        top_k=top_k,
        prompt_tokens=prompt_tokens,
        request_tokens=request_tokens,
        source=source,
        licence=licence,
    )
    return _written(trace, out)


def synthesize(
    parameters: Path | str | SyntheticTrace,
    *,
    out: Path | str | None = None,
    requests: int | None = None,
    tokens: int | None = None,
    seed: int | None = None,
    domain: str | None = None,
) -> RoutingTrace:
    """A trace drawn from ``parameters``, a YAML file or what ``load_parameters`` gives; ``out``:
    write it, too (.parquet).

    ``requests``, ``seed``: instead of the file's; ``tokens``: as many requests as have so many, the
    last one cut; ``domain``: only requests of this domain. Raises an InputError for bad parameters.

    >>> moesim.synthesize("traces/skewed.yaml", tokens=10_000)
    """
    from moesim.trace.parquet import check_target
    from moesim.trace.synthesis import SyntheticTrace, load_parameters
    from moesim.trace.synthesis import synthesize as draw

    rule = "parameters; give the path of a YAML file, or what load_parameters gives"
    check_type("parameters", parameters, (str, Path, SyntheticTrace), rule)
    check_out(out)
    if isinstance(parameters, SyntheticTrace):
        return _written(draw(parameters, requests, tokens, seed, domain), out)
    file = Path(parameters)
    if out is not None:
        check_apart(Path(out), file)
        check_target(Path(out))
    read = load_parameters(file)
    with located(file):
        trace = draw(read, requests, tokens, seed, domain)
    return _written(trace, out)


def _written(trace: RoutingTrace, out: Path | str | None) -> RoutingTrace:
    from moesim.trace import write_trace

    if out is not None:
        write_trace(trace, Path(out))
    return trace
