"""Drafts, and instances that prefill: which keys are to be written for what no line says enough of.

Methods of vLLM and SGLang are those of vllm/config/speculative.py (from memory) and of
sglang/srt/arg_groups/fields/spec.py of 0.5.23.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from moesim.experiment.engine_commands.words import DRAFTS, INSTANCES, Given, Line

_OPEN = "..."
"""What stands for what a line does not say."""
_KINDS = (("ngram", "ngram"), ("suffix", "ngram"), ("mtp", "mtp"), ("nextn", "mtp"),
          ("eagle", "mtp"), ("standalone", "draft"), ("draft", "draft"))  # fmt: skip
"""Parts of a method's name and its kind, the first that is found. SGLang runs a model's own layer
as EAGLE, and an EAGLE head is nearest to such a layer: one, once a draft.
"""
_METHODS = ("--speculative-algorithm", "--spec-type")
_MODELS = ("--speculative-draft-model-path", "-md", "-hfd")
_NUMBERS = ("--speculative-num-steps", "--draft")
_OBJECT = {
    "method": ("method", "decoding_type"),
    "model": ("model", "speculative_model_dir", "speculative_model"),
    "number": ("num_speculative_tokens", "num_nextn_predict_layers", "max_draft_len"),
}
"""What vLLM's object and that of TensorRT-LLM's file (from memory) call the same."""
_CONFIG, _BEHIND_TOKEN = "--speculative-config", "--speculative-num-draft-tokens"
_TRANSFER = "--kv-transfer-config"


def told_together(given: Sequence[Given], line: Line) -> Iterator[str]:
    """What of ``given`` says only together what is not modelled, and what to write, a text each."""
    for why, remedy in ((DRAFTS, _drafts), (INSTANCES, _instances)):
        of = [str(one) for one in given if one.option.why == why]
        if of and why == INSTANCES and _keeps_on_host(line):
            yield f"{', '.join(of)}: not modelled: a KV cache on the host"
        elif of:
            yield f"{', '.join(of)}: not modelled: {why}; write {remedy(line)}"


def _keeps_on_host(line: Line) -> bool:
    """Whether vLLM's connector is to a store of its own, not to another instance."""
    config = _object(line, _TRANSFER)
    name, role = str(config.get("kv_connector")).lower(), config.get("kv_role", "kv_both")
    return role == "kv_both" and ("offload" in name or "lmcache" in name)


def _instances(line: Line) -> str:
    """The key of instances; vLLM computes a prompt's last token where it decodes."""
    first = ", first_token: decode" if line.has(_TRANSFER) else ""
    text = f"serving.disaggregation: {{prefill: 1, decode: 1{first}}}"
    return f"{text} with your numbers of instances; requests are served then (--served)"


def _drafts(line: Line) -> str:
    """``workload.speculative`` with what the line says of it."""
    method, model, number, width = _of_config(line) if line.has(_CONFIG) else _of_options(line)
    word = (method or (f"{model} draft" if model else "")).lower()
    kind = next((kind for part, kind in _KINDS if part in word), _OPEN)
    keys = {"kind": "tree" if width > 1 else kind, "num_speculative_tokens": number or _OPEN}
    keys |= {"width": width} if width > 1 else {}
    keys |= {"model": model or _OPEN} if keys["kind"] == "draft" else {}
    known = "what is open" if _OPEN in keys.values() else "only the acceptance"
    text = ", ".join(f"{key}: {value}" for key, value in keys.items())
    return f"workload.speculative: {{{text}, acceptance: {_OPEN}}}; {known} is yours to say"


def _of_config(line: Line) -> tuple[str | None, str | None, Any, int]:
    """Method, model, drafts in a row and alternatives of an object."""
    config = _object(line, _CONFIG)
    found = {
        what: next((config[name] for name in names if name in config), None)
        for what, names in _OBJECT.items()
    }
    method, model = (None if found[key] is None else str(found[key]) for key in ("method", "model"))
    number = found["number"]
    return method, model, number if isinstance(number, int) else None, 1


def _object(line: Line, name: str) -> dict[str, Any]:
    """What stands behind an option in JSON; empty where that is no object."""
    found: Any = None
    with suppress(ValueError):
        found = json.loads(line.text(name) or "")
    return found if isinstance(found, dict) else {}


def _of_options(line: Line) -> tuple[str | None, str | None, str | None, int]:
    """The same of SGLang's and of llama.cpp's options, as far as they are there."""
    method, model, number = (_first(line, names) for names in (_METHODS, _MODELS, _NUMBERS))
    verified, width = line.text(_BEHIND_TOKEN) or "", line.text("--speculative-eagle-topk") or ""
    if number is None and verified.isdecimal() and int(verified) > 1:
        number = str(int(verified) - 1)
    return method, model, number, int(width) if width.isdecimal() else 1


def _first(line: Line, names: Sequence[str]) -> str | None:
    return next((text for name in names if (text := line.text(name))), None)
