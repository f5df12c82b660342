"""What does not fit together in the parameters of a synthetic trace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from moesim.config.counted import counted
from moesim.trace.synthesis.lengths import Lognormal
from moesim.trace.synthesis.parameters import Part, SyntheticTrace
from moesim.trace.synthesis.rows import numbers

Path = tuple[str | int, ...]
Finding = tuple[Path, str]
_MOST_LOG = 50.0


def findings(parameters: SyntheticTrace) -> Iterator[Finding]:
    """Every mistake, with the path of the value."""
    ids, names = parameters.moe_layer_ids, parameters.domains.names
    if parameters.top_k > parameters.experts:
        yield ("top_k",), f"{parameters.top_k} is more than experts = {parameters.experts}"
    if list(ids) != sorted(set(ids)):
        yield ("moe_layer_ids",), "must rise, each layer once"
    for key in ("shares", "sharpness"):
        given = getattr(parameters.domains, key)
        if len(given) != len(names) and (given or key == "shares"):
            what = f"has {counted(len(given), 'number')}; write one for each domain"
            yield ("domains", key), what
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        yield ("domains", "names"), f"has '{repeated[0]}' twice; give each domain a name of its own"
    if parameters.gate_weights and len(parameters.gate_weights.means) != parameters.top_k:
        what = f"must have as many numbers as top_k = {parameters.top_k}"
        yield ("gate_weights", "means"), what
    yield from _phases(parameters)
    for number, part in enumerate(parameters.parts):
        yield from ((("parts", number, *path), what) for path, what in _part(parameters, part))


def _phases(parameters: SyntheticTrace) -> Iterator[Finding]:
    """Tokens that no part routes, and layers that two parts route."""
    routed: set[tuple[str, int]] = set()
    for number, part in enumerate(parameters.parts):
        layers = range(part.first_layer, part.first_layer + part.layers)
        own = {(phase, layer) for phase in part.phases for layer in layers}
        if routed & own:
            phase, layer = min(routed & own)
            yield ("parts", number), f"routes {phase} in layer {layer}, as a part before it does"
        routed |= own
    for phase in ("encode", "prefill", "decode"):
        key = f"{phase}_tokens"
        recorded = phase != "prefill" or parameters.requests.prefill_recorded
        lengths = getattr(parameters.requests, key)
        if isinstance(lengths, Lognormal) and lengths.least_tokens > lengths.most_tokens:
            what = f"{lengths.least_tokens} is more than most_tokens = {lengths.most_tokens}"
            yield ("requests", key, "least_tokens"), what
        has_tokens = lengths is not None and recorded
        if has_tokens and not any(name == phase for name, _ in routed):
            yield ("requests", key), f"no part has '{phase}' among its phases"


def _part(parameters: SyntheticTrace, part: Part) -> Iterator[Finding]:
    if part.first_layer + part.layers > len(parameters.moe_layer_ids):
        end, layers = part.first_layer + part.layers, len(parameters.moe_layer_ids)
        yield ("layers",), f"ends at layer {end}, but there are {layers} in moe_layer_ids"
    never = round(getattr(part.popularity, "never_used", 0.0) * parameters.experts)
    if (used := parameters.experts - never) < min(parameters.top_k, parameters.experts):
        what = f"leaves {used} of the experts; top_k = {parameters.top_k} are needed"
        yield ("popularity", "never_used"), what
    for path in (
        ("request_spread",),
        ("popularity", "exponent"),
        ("domain_effect", "spread"),
        ("stickiness", "stay_probability"),
    ):
        given = _at(part, path)
        if given is not None and len(given) not in (1, part.layers):
            what = f"has {counted(len(given), 'number')}; write 1, or layers = {part.layers}"
            yield path, what
    for place, first in (
        (("position_effect", "from_tokens"), 0),
        (("stickiness", "recency", "ages"), 1),
    ):
        given = _at(part, place)
        if given is not None and (given[0] != first or list(given) != sorted(set(given))):
            yield place, f"must begin at {first} and rise"
    yield from _rows(parameters, part)


def _rows(parameters: SyntheticTrace, part: Part) -> Iterator[Finding]:
    """Tables whose rows are too few, too many, too short or too long."""
    layers, experts = part.layers, parameters.experts
    ages = len(_at(part, ("stickiness", "recency", "ages")) or ())
    effects = _at(part, ("domain_effect", "log_factors"))
    tables: list[tuple[Path, Any, int, int]] = [
        (path, _at(part, path), layers, width)
        for path, width in (
            (("popularity", "weights_by_layer"), experts),
            (("stickiness", "recency", "log_factors"), ages),
        )
    ]
    if effects is not None:
        path = ("domain_effect", "log_factors")
        tables += [
            ((*path, name), effects.get(name, ()), layers, experts)
            for name in parameters.domains.names
        ]
    starts = _at(part, ("position_effect", "from_tokens")) or ()
    for key, name, matrices, rows_each in (
        ("between_layers", "layers", layers - 1, experts),
        ("within_token", "layers", layers, experts),
        ("position_effect", "stages", len(starts), layers),
    ):
        path = (key, "log_factors")
        given = _at(part, path)
        if given is not None and len(given) != matrices:
            yield path, f"has {len(given)} {name}; write {matrices}"
        tables += [((*path, i), rows, rows_each, experts) for i, rows in enumerate(given or ())]
    for place, rows, count, width in tables:
        yield from _shape(place, rows, count, width)


def _shape(path: Path, rows: Sequence[str] | None, count: int, width: int) -> Iterator[Finding]:
    if rows is None:
        return
    if len(rows) != count:
        yield path, f"has {counted(len(rows), 'row')}; write {count}"
    for number, row in enumerate(rows):
        values = numbers(row)
        if len(values) != width:
            yield (*path, number), f"has {counted(len(values), 'number')}; write {width}"
        elif "log_factors" in path and abs(values).max() > _MOST_LOG:
            yield (
                (*path, number),
                f"logarithms from -{_MOST_LOG:.0f} to {_MOST_LOG:.0f} are allowed",
            )
        elif "weights_by_layer" in path and (values.min() < 0 or values.max() == 0):
            yield (*path, number), "weights must be 0 or more, and not all 0"


def _at(part: Part, path: Sequence[str]) -> Any:
    value: Any = part
    for name in path:
        value = getattr(value, name, None)
    return value
