"""The optional libraries, and a model and a tokenizer loaded with them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

from moesim.config.errors import InputError, Problem
from moesim.config.files.paths import expanded

Device = Literal["auto", "cpu", "cuda"]
DataType = Literal["auto", "float32", "bfloat16", "float16"]
Encoder = Callable[[str], list[int]]

BYTES = "bytes"
"""The tokenizer of models whose token ids are the bytes of UTF-8 text."""


class Libraries(NamedTuple):
    """The modules torch and transformers."""

    torch: Any
    transformers: Any


def libraries() -> Libraries:
    """Torch and transformers, without the messages of the latter; an InputError without them."""
    try:
        import torch
        import transformers
    except ImportError as error:
        raise InputError(
            f"recording needs {error.name or 'torch'}: pip install 'moesim[record]'"
        ) from None
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return Libraries(torch, transformers)


def load_causal_lm(name: str, device: Device = "auto", dtype: DataType = "auto") -> Any:
    """The causal language model of a folder or of a name on the Hugging Face hub, for inference.

    ``dtype`` auto is that of the checkpoint. Code that comes with a model is not run. Raises
    InputError where transformers cannot load it or there is no such device.
    """
    torch, transformers = libraries()
    place = _device(torch, device)
    with _loading(name, "model"):
        model = transformers.AutoModelForCausalLM.from_pretrained(name, dtype=dtype)
        return model.to(place).eval()


def load_encoder(name: str, tokenizer: str | None = None) -> Encoder:
    """Text to token ids: ``bytes``, or the tokenizer of a folder or hub name (default: the
    model's), with its special tokens and without a chat template.
    """
    if tokenizer == BYTES:
        return lambda text: list(text.encode())
    transformers = libraries().transformers
    with _loading(tokenizer or name, "tokenizer", f"; --tokenizer {BYTES} takes bytes as tokens"):
        loaded = transformers.AutoTokenizer.from_pretrained(tokenizer or name)
        if not loaded("a")["input_ids"]:
            raise ValueError("it has no vocabulary")
    return lambda text: [int(token) for token in loaded(text)["input_ids"]]


def _device(torch: Any, device: Device) -> str:
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError([Problem("--device", "", "cuda: torch finds no GPU here; use cpu")])
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


@contextmanager
def _loading(name: str, what: str, remedy: str = "") -> Iterator[None]:
    path = expanded(name)
    named_as_path = name.startswith((".", "~", os.sep)) or name.count("/") > 1
    if (named_as_path or path.is_file()) and not path.is_dir():
        raise InputError([Problem(name, "", "no such folder; give a model's folder or hub name")])
    try:
        yield
    except Exception as error:  # noqa: BLE001 - a broken checkpoint makes its readers raise anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        what = f"transformers cannot load this {what} ({reason}){remedy}"
        raise InputError([Problem(name, "", what)]) from None
