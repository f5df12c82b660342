"""Prefill and greedy decode of one prompt after the other, and the routing heard in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.trace.record.loading import libraries
from moesim.trace.record.routers import Choice, Routers


@dataclass(frozen=True, eq=False)
class RecordedRequest:
    """The routing of the tokens of a request, prompt first.

    ``ids`` int64[T, L, k] and ``weights`` float32[T, L, k], the largest weight first. The first
    ``prompt_tokens`` of the T were processed in one prefill pass, each other in a decode pass.
    """

    ids: NDArray[np.int64]
    weights: NDArray[np.float32]
    prompt_tokens: int


def record(
    model: Any, routers: Routers, prompts: Iterable[Sequence[int]], new_tokens: int
) -> Iterator[RecordedRequest]:
    """Run ``model`` over ``prompts`` (token ids) and yield each request when it is complete.

    Decoding is greedy, with the model's cache. A request generates at most ``new_tokens`` tokens:
    the first comes from the prefill pass, and the last is not processed, so there are at most
    ``new_tokens`` - 1 decode passes; an end-of-sequence token ends it earlier.
    """
    model.eval()
    settings = _greedy(model, new_tokens)
    for prompt in prompts:
        with routers.listening() as heard:
            _generate(model, prompt, settings)
        yield _request(heard, len(prompt))


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


def _request(heard: list[list[Choice]], prompt_tokens: int) -> RecordedRequest:
    torch = libraries().torch
    passes = [[len(choice.ids) for choice in layer] for layer in heard]
    assert all(rows == [prompt_tokens] + [1] * (len(passes[0]) - 1) for rows in passes)
    ids, weights = (
        torch.stack([torch.cat([choice[part] for choice in layer]) for layer in heard], dim=1)
        for part in (0, 1)
    )
    weights, order = weights.sort(dim=2, descending=True, stable=True)
    ids = ids.gather(2, order)
    return RecordedRequest(ids.long().cpu().numpy(), weights.cpu().numpy(), prompt_tokens)
