"""What servers return, saved as JSON, with the experts of each token in it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from moesim.config.json_text import parse_json
from moesim.trace.assemble import MOST_TOKENS, wrong
from moesim.trace.hidden_layers import moe_layers
from moesim.trace.recording import array_of

if TYPE_CHECKING:
    from moesim.model import ModelSpec

NPY = b"\x93NUMPY"


def saved_answers(path: Path) -> Iterator[Any]:
    """The answers of a file: one, a list of them, or one a line."""
    text = path.read_bytes()
    lines = [line for line in text.splitlines() if line.strip()]
    one_a_line = len(lines) > 1 and all(line.startswith(b'{"') for line in lines)
    for place, part in enumerate(lines if one_a_line else [text], start=1):
        found = parse_json(part, str(path), place, strict=False)
        yield from found if isinstance(found, list) else [found]


def whole_number(name: str, value: object) -> int:
    """``value`` if it is a number of tokens; an InputError about ``name`` if not."""
    if type(value) is not int or not 0 <= value <= MOST_TOKENS:
        what = f"is {value!r:.40}: must be a whole number of tokens from 0 to {MOST_TOKENS}"
        raise wrong(name, what)
    return value


def choices_in_base64(place: str, text: str, model: ModelSpec) -> NDArray[np.uint16]:
    """uint16[tokens, MoE layers, top_k] of base64 of an npy file, or of int32 [tokens, hidden
    layers, top_k] without a header.
    """
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise wrong(place, f"is not base64 ({error}); save the answer again") from None
    if content.startswith(NPY):
        return moe_layers(place, array_of(BytesIO(content), place), model)
    top_k = max((layer.moe.top_k for layer in model.moe_layers if layer.moe), default=1)
    row = 4 * len(model.layers) * top_k
    if not content or len(content) % row:
        shape = f"int32 [tokens, {len(model.layers)} layers, top-{top_k}] of {model.name}"
        raise wrong(place, f"has {len(content)} bytes: must be whole tokens of {row}, {shape}")
    array = np.frombuffer(content, "<i4").reshape(-1, len(model.layers), top_k)
    return moe_layers(place, array, model)
