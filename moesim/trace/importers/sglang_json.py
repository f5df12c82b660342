"""SGLang's answers to /generate with ``return_routed_experts``, saved as JSON.

An answer, a list of them, or one a line: ``{"text": ..., "meta_info": {"prompt_tokens": 7,
"routed_experts": "...", ...}}``, where ``routed_experts`` is base64 of int32 [tokens, hidden
layers, top_k], from the token ``routed_experts_start_len`` on (0 where it is not there). Written
from SGLang 0.5.23's description; not verified against a recorded answer.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from moesim.config.errors import InputError, Problem
from moesim.config.json_text import parse_json
from moesim.trace.assemble import (
    MOST_TOKENS,
    counts,
    describe,
    phases,
    request_columns,
    wrong,
)
from moesim.trace.hidden_layers import moe_layers, needed_model
from moesim.trace.importers.base import Importer
from moesim.trace.lengths import PROMPT, REQUEST, prompts_of, rows_of
from moesim.trace.recording import Recording
from moesim.trace.routing import RoutingTrace

if TYPE_CHECKING:
    from moesim.model import ModelSpec

Answer = dict[str, Any]
_START = "routed_experts_start_len"


class SglangJson(Importer):
    """SGLang answers (JSON or JSON lines) with base64 routed_experts; needs --model.

    Each answer is a request; its ``prompt_tokens`` say where the prompt ends. The model says which
    of the layers are MoE layers (the zeros of the others are dropped). No weights are recorded.
    """

    kind: Literal["sglang-json"] = "sglang-json"

    def recognises(self, recording: Recording) -> bool:
        """A text file of JSON, with ``meta_info`` near its beginning."""
        return recording.head.lstrip()[:1] in {b"{", b"["} and b'"meta_info"' in recording.head

    def read(self, recording: Recording) -> RoutingTrace:
        """The trace: request i is answer i."""
        if recording.prompt_tokens is not None or recording.request_tokens is not None:
            raise InputError(f"answers say their lengths: leave {PROMPT}, {REQUEST} out")
        model = needed_model(recording, "SGLang")
        answers = list(_answers(recording))
        if not answers:
            raise InputError("has no answer: save what /generate returned")
        parts = [_choices(name, answer, model) for name, answer in answers]
        ids = np.concatenate(parts)
        rows = rows_of([len(part) for part in parts], len(ids))
        first = _numbers(answers, _START, 0)
        prompts = _numbers(answers, "prompt_tokens", None)
        request, position = request_columns(rows, first)
        of_prompt = prompts_of(prompts.tolist(), rows, first, "prompt_tokens")
        return RoutingTrace(
            expert_ids=ids,
            request_id=request,
            position=position,
            phase=phases(position, of_prompt),
            gate_weights=None,
            predicted_ids=None,
            metadata=describe(recording, ids, "sglang routed_experts"),
        )


def _answers(recording: Recording) -> Iterator[tuple[str, Answer]]:
    """The ``meta_info`` of each answer, and what messages call it."""
    path = recording.path
    text = path.read_bytes()
    lines = [line for line in text.splitlines() if line.strip()]
    one_a_line = len(lines) > 1 and all(line.startswith(b'{"') for line in lines)
    number = 0
    for place, part in enumerate(lines if one_a_line else [text], start=1):
        found = parse_json(part, str(path), place, strict=False)
        for answer in found if isinstance(found, list) else [found]:
            name = f"answer {number}"
            info = answer.get("meta_info") if isinstance(answer, dict) else None
            if not isinstance(info, dict):
                raise wrong(name, "has no meta_info: must be what /generate returned")
            yield name, info
            number += 1


def _choices(name: str, answer: Answer, model: ModelSpec) -> NDArray[np.uint16]:
    """uint16[tokens, MoE layers, top_k] of one answer."""
    place = f"{name}: routed_experts"
    text = answer.get("routed_experts")
    if not isinstance(text, str):
        what = f"is {text!r:.40}: must be base64 text; ask with return_routed_experts: true"
        raise wrong(place, what)
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise wrong(place, f"is not base64 ({error}); save the answer again") from None
    top_k = max((layer.moe.top_k for layer in model.moe_layers if layer.moe), default=1)
    row = 4 * len(model.layers) * top_k
    if not content or len(content) % row:
        shape = f"int32 [tokens, {len(model.layers)} layers, top-{top_k}] of {model.name}"
        raise wrong(place, f"has {len(content)} bytes: must be whole tokens of {row}, {shape}")
    array = np.frombuffer(content, "<i4").reshape(-1, len(model.layers), top_k)
    return moe_layers(place, array, model)


def _numbers(answers: list[tuple[str, Answer]], key: str, default: int | None) -> NDArray[np.int64]:
    found = []
    for name, answer in answers:
        value = answer.get(key, default)
        if type(value) is not int or not 0 <= value <= MOST_TOKENS:
            what = f"is {value!r:.40}: must be a whole number of tokens from 0 to {MOST_TOKENS}"
            raise InputError([Problem("", f"{name}: {key}", what)])
        found.append(value)
    return counts(key, np.array(found, np.int64), len(found))
