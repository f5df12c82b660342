"""The metadata of a trace as JSON, as it stands in the Parquet schema."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Any

from moesim.config.errors import InputError, Problem, nearest
from moesim.config.json_text import as_object, parse_json
from moesim.trace.domains import as_json, from_json
from moesim.trace.losses import decode_losses
from moesim.trace.routing import TraceMetadata

FORMAT_VERSION = 1
"""Version of the Parquet form; a reader refuses a newer one."""

_TYPES: dict[str, tuple[type, ...]] = {
    "model": (str, type(None)),
    "experts": (int,),
    "top_k": (int,),
    "moe_layer_ids": (list,),
    "recorder": (str,),
    "source": (str,),
    "licence": (str,),
    "notes": (str,),
}


def encode_metadata(metadata: TraceMetadata) -> bytes:
    """JSON with sorted keys, so that equal metadata give equal bytes. Losses stand beside it, where
    older versions, which take no key that they do not know, do not look.
    """
    values = {"format_version": FORMAT_VERSION, **asdict(metadata)}
    del values["domains"], values["losses"]
    if metadata.domains:
        values["domains"] = as_json(metadata.domains)
    return json.dumps(values, sort_keys=True, ensure_ascii=False).encode()


def decode_metadata(text: bytes, losses: bytes | None = None) -> TraceMetadata:
    """The metadata in ``text``, with what was lost as ``losses`` say it, if they do; an InputError
    names a missing, unknown or mistyped key.
    """
    try:
        values = as_object(parse_json(text, ""), "")
    except InputError as error:
        whats = (f"the trace metadata {problem.what}" for problem in error.problems)
        raise InputError(Problem("", "", what) for what in whats) from None
    version = values.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise InputError(
            f"the trace has format_version {version}: this moesim reads {FORMAT_VERSION};"
            " import the recording again, or update moesim"
        )
    _check(values)
    domains = from_json(values.pop("domains", {}))
    layers = tuple(values.pop("moe_layer_ids"))
    lost = None if losses is None else decode_losses(losses)
    return TraceMetadata(**values, moe_layer_ids=layers, domains=domains, losses=lost)


def _check(values: dict[str, Any]) -> None:
    names = [field.name for field in fields(TraceMetadata) if field.name != "losses"]
    for name in values:
        if name not in names:
            raise InputError(f"unknown key '{name}' in the trace metadata; {nearest(name, names)}")
    for name, types in _TYPES.items():
        if name not in values and name != "notes":
            raise InputError(f"the trace metadata has no '{name}': every trace must say it")
        value = values.get(name, "")
        if not isinstance(value, types) or isinstance(value, bool):
            rule = f"must be {_words(types)}"
            raise InputError(f"'{name}' is {value!r} in the trace metadata: {rule}")
    if not all(type(layer) is int for layer in values["moe_layer_ids"]):
        raise InputError(f"'moe_layer_ids' is {values['moe_layer_ids']!r}: must be whole numbers")


def _words(types: tuple[type, ...]) -> str:
    return " or ".join("null" if kind is type(None) else kind.__name__ for kind in types)
