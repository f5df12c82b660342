"""vLLM's server answers (completions, chat, generate) with ``routed_experts``, saved as JSON.

An answer, a list of them, or one a line: ``{"choices": [{"index": 0, "routed_experts": ...}],
"usage": {"prompt_tokens": 7, "completion_tokens": 3}}``. ``routed_experts`` is a list [tokens,
hidden layers, top_k], or base64 of an npy file or of int32 in that shape; zeros for dense layers,
no weights. The prompt's part may stand apart in ``prompt_routed_experts``, of the choice or of the
answer; its length may also be that of ``prompt_token_ids``. Written from the description of
vLLM's RequestOutput (PR 28284); the server's names were not checked against an answer of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.config.counted import counted
from moesim.config.errors import InputError
from moesim.trace.answers import choices_in_base64, saved_answers, whole_number
from moesim.trace.assemble import array_of_lists, describe, phases, request_columns, wrong
from moesim.trace.hidden_layers import moe_layers, needed_model
from moesim.trace.importers.base import Importer
from moesim.trace.lengths import PROMPT, REQUEST, prompts_of, rows_of
from moesim.trace.recording import Recording
from moesim.trace.routing import RoutingTrace

if TYPE_CHECKING:
    from moesim.model import ModelSpec

Answer = dict[str, Any]
_ROUTED, _OF_PROMPT = "routed_experts", "prompt_routed_experts"


class VllmJson(Importer):
    """vLLM server answers (JSON or JSON lines) with routed_experts; needs --model.

    Each choice is a request. Prompts end where the answer says, else where --prompt-tokens does.
    """

    kind: Literal["vllm-json"] = "vllm-json"

    def recognises(self, recording: Recording) -> bool:
        """A text file of JSON, with ``choices`` near its beginning."""
        head = recording.head
        return head.lstrip()[:1] in {b"{", b"["} and b'"choices"' in head

    def read(self, recording: Recording) -> RoutingTrace:
        """The trace: requests in the order of answers and their choices."""
        if recording.request_tokens is not None:
            raise InputError(f"every choice is a request of its own: leave {REQUEST} out")
        model = needed_model(recording, "vLLM")
        requests = [one for answer in _answers(recording) for one in _requests(*answer, model)]
        if not requests:
            raise InputError("has no choice: save what the server returned")
        ids = np.concatenate([one.ids for one in requests])
        rows = rows_of([len(one.ids) for one in requests], len(ids))
        first = np.zeros(len(requests), np.int64)
        request, position = request_columns(rows, first)
        prompts = prompts_of(*_prompts(requests, recording, rows, first))
        notes = "prompt length not recorded: all tokens as decode" if prompts is None else ""
        return RoutingTrace(
            expert_ids=ids,
            request_id=request,
            position=position,
            phase=phases(position, prompts),
            gate_weights=None,
            predicted_ids=None,
            metadata=describe(recording, ids, "vllm server routed_experts", notes=notes),
        )


class _Request(NamedTuple):
    ids: NDArray[np.uint16]
    prompt: int | None


def _answers(recording: Recording) -> Iterator[tuple[str, Answer]]:
    """Each answer, and what messages call it."""
    for number, answer in enumerate(saved_answers(recording.path)):
        name = f"answer {number}"
        if not isinstance(answer, dict) or not isinstance(answer.get("choices"), list):
            raise wrong(name, "has no list 'choices': must be what the server returned")
        yield name, answer


def _requests(name: str, answer: Answer, model: ModelSpec) -> Iterator[_Request]:
    choices = answer["choices"]
    for number, choice in enumerate(choices):
        place = f"{name}: choice {number}"
        if not isinstance(choice, dict):
            raise wrong(place, f"is {choice!r:.40}: must be an object")
        ids = _ids(f"{place}: {_ROUTED}", choice.get(_ROUTED), model)
        apart = choice.get(_OF_PROMPT, answer.get(_OF_PROMPT))
        prompt = _prompt(place, choice, answer)
        if apart is not None:
            before = _ids(f"{place}: {_OF_PROMPT}", apart, model)
            if prompt is not None and len(before) != prompt:
                rule = f"the answer says a prompt of {counted(prompt, 'token')}"
                raise wrong(
                    f"{place}: {_OF_PROMPT}", f"has {counted(len(before), 'token')}: {rule}"
                )
            ids, prompt = np.concatenate([before, ids]), len(before)
        if len(choices) == 1:
            _check_length(place, len(ids), prompt, answer)
        yield _Request(ids, prompt)


def _ids(place: str, value: object, model: ModelSpec) -> NDArray[np.uint16]:
    """uint16[tokens, MoE layers, top_k]."""
    if isinstance(value, str):
        return choices_in_base64(place, value, model)
    if not isinstance(value, list):
        what = f"is {value!r:.40}: must be a list or base64 text; start vLLM with"
        raise wrong(place, f"{what} --enable-return-routed-experts")
    return moe_layers(place, array_of_lists(place, value, "[tokens, hidden layers, top_k]"), model)


def _prompt(place: str, choice: Answer, answer: Answer) -> int | None:
    usage = answer.get("usage")
    if isinstance(usage, dict) and usage.get("prompt_tokens") is not None:
        return whole_number(f"{place}: prompt_tokens", usage["prompt_tokens"])
    tokens = choice.get("prompt_token_ids", answer.get("prompt_token_ids"))
    return len(tokens) if isinstance(tokens, list) else None


def _check_length(place: str, tokens: int, prompt: int | None, answer: Answer) -> None:
    """An InputError where there are more tokens than the answer says; the last one is not run."""
    usage = answer.get("usage")
    answered = usage.get("completion_tokens") if isinstance(usage, dict) else None
    if prompt is None or answered is None:
        return
    most = prompt + whole_number(f"{place}: completion_tokens", answered)
    if tokens > most:
        what = f"has {counted(tokens, 'token')}: the answer's usage says at most {most}"
        raise wrong(f"{place}: {_ROUTED}", what)


def _prompts(
    requests: list[_Request], recording: Recording, rows: NDArray[np.int64], first: NDArray[Any]
) -> tuple[Any, NDArray[np.int64], NDArray[Any], str]:
    """What ``prompts_of`` takes: the lengths of the answers, or the user's."""
    said = [one.prompt for one in requests]
    known = [prompt for prompt in said if prompt is not None]
    if known and recording.prompt_tokens is not None:
        raise InputError(f"answers say where prompts end: leave {PROMPT} out")
    if 0 < len(known) < len(said):
        missing = said.index(None)
        raise wrong(f"request {missing}", "has no prompt length where others have: save it too")
    return (known or recording.prompt_tokens), rows, first, "prompt_tokens" if known else PROMPT
