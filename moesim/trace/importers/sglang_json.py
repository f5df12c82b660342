"""SGLang's answers to /generate with ``return_routed_experts``, saved as JSON.

An answer, a list of them, or one a line: ``{"text": ..., "meta_info": {"prompt_tokens": 7,
"routed_experts": "...", ...}}``, where ``routed_experts`` is base64 of int32 [tokens, hidden
layers, top_k], from the token ``routed_experts_start_len`` on (0 where it is not there). Written
from SGLang 0.5.23's description; not verified against a recorded answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from moesim.config.errors import InputError
from moesim.trace.answers import choices_in_base64, saved_answers, whole_number
from moesim.trace.assemble import describe, phases, request_columns, wrong
from moesim.trace.hidden_layers import needed_model
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
    for number, answer in enumerate(saved_answers(recording.path)):
        name = f"answer {number}"
        info = answer.get("meta_info") if isinstance(answer, dict) else None
        if not isinstance(info, dict):
            raise wrong(name, "has no meta_info: must be what /generate returned")
        yield name, info


def _choices(name: str, answer: Answer, model: ModelSpec) -> NDArray[np.uint16]:
    """uint16[tokens, MoE layers, top_k] of one answer."""
    place = f"{name}: routed_experts"
    text = answer.get("routed_experts")
    if not isinstance(text, str):
        what = f"is {text!r:.40}: must be base64 text; ask with return_routed_experts: true"
        raise wrong(place, what)
    return choices_in_base64(place, text, model)


def _numbers(answers: list[tuple[str, Answer]], key: str, default: int | None) -> NDArray[np.int64]:
    found = [whole_number(f"{name}: {key}", answer.get(key, default)) for name, answer in answers]
    return np.array(found, np.int64)
