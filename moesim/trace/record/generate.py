"""Prefill and greedy decode of one prompt after the other, and the routing heard in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.trace.record.loading import libraries
from moesim.trace.record.routers import Choice, Heard, Routers
from moesim.trace.routing import NO_EXPERT


@dataclass(frozen=True, eq=False)
class RecordedRequest:
    """The routing of the tokens of a request, prompt first.

    ``ids`` int64[T, L, k] and ``weights`` float32[T, L, k], the largest weight first. The first
    ``prompt_tokens`` of the T were processed in one prefill pass, each other in a decode pass.
    ``predicted`` uint16[T, D, L, k]: what the routers predicted over d + 1 MoE layers, NO_EXPERT
    in the first d + 1; None where nothing is.
    """

    ids: NDArray[np.int64]
    weights: NDArray[np.float32]
    prompt_tokens: int
    predicted: NDArray[np.uint16] | None = None


def record(
    model: Any,
    routers: Routers,
    prompts: Iterable[Sequence[int]],
    new_tokens: int,
    look_ahead: int = 0,
) -> Iterator[RecordedRequest]:
    """Run ``model`` over ``prompts`` (token ids) and yield each request when it is complete.

    Decoding is greedy, with the model's cache. A request generates at most ``new_tokens`` tokens:
    the first comes from the prefill pass, and the last is not processed, so there are at most
    ``new_tokens`` - 1 decode passes; an end-of-sequence token ends it earlier. ``look_ahead``: over
    how many MoE layers the routers predict, which changes nothing of what is generated.
    """
    model.eval()
    settings = _greedy(model, new_tokens)
    for prompt in prompts:
        with routers.listening(look_ahead) as heard:
            _generate(model, prompt, settings)
        yield request_of(heard, len(prompt))


def _greedy(model: Any, new_tokens: int) -> Any:
    ends = model.generation_config.eos_token_id
    first_end = ends[0] if isinstance(ends, list) else ends
    return libraries().transformers.GenerationConfig(
        max_new_tokens=new_tokens,
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        use_cache=True,
        eos_token_id=ends,
        pad_token_id=first_end or 0,
    )


def _generate(model: Any, prompt: Sequence[int], settings: Any) -> None:
    torch = libraries().torch
    tokens = torch.tensor([list(prompt)], device=model.device)
    with torch.inference_mode():
        model.generate(tokens, attention_mask=torch.ones_like(tokens), generation_config=settings)


def request_of(heard: Heard, prompt_tokens: int) -> RecordedRequest:
    """What was ``heard`` of a request, of whose tokens the first pass has ``prompt_tokens``."""
    passes = [[len(choice.ids) for choice in layer] for layer in heard.made]
    assert all(rows == [prompt_tokens] + [1] * (len(passes[0]) - 1) for rows in passes)
    ids, weights = _joined(heard.made)
    return RecordedRequest(ids, weights, prompt_tokens, _look_ahead(heard, ids))


def _look_ahead(heard: Heard, ids: NDArray[np.int64]) -> NDArray[np.uint16] | None:
    """The predictions of the tokens that chose ``ids`` [T, L, k], as a trace has them."""
    if not heard.ahead:
        return None
    tokens, *chosen = ids.shape
    found = np.full((tokens, len(heard.ahead), *chosen), NO_EXPERT, np.uint16)
    for distance, layers in enumerate(heard.ahead, 1):
        found[:, distance - 1, distance:] = _joined(layers)[0]
    return found


def _joined(layers: list[list[Choice]]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Ids and weights [T, L, k] of choices by layer and pass, the largest weight first."""
    ids, weights = (
        np.stack(
            [np.concatenate([choice[part].cpu().numpy() for choice in layer]) for layer in layers],
            axis=1,
        )
        for part in (0, 1)
    )
    order = np.argsort(-weights, axis=2, kind="stable")
    ids, weights = (np.take_along_axis(of, order, axis=2) for of in (ids, weights))
    return ids.astype(np.int64), weights
