"""The Python standard library's sources as bytes: for training, held out, and as prompts."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HELD_OUT_EVERY = 20
APART = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}


def texts() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The text for training, and every twentieth file of the sorted ones, held out."""
    root = Path(sysconfig.get_path("stdlib"))
    files = sorted(p for p in root.rglob("*.py") if not APART & set(p.relative_to(root).parts))
    held_out = files[::HELD_OUT_EVERY]
    return joined([path for path in files if path not in set(held_out)]), joined(held_out)


def joined(files: list[Path]) -> NDArray[np.uint8]:
    """The bytes of ``files``, one after the other."""
    return np.frombuffer(b"".join(path.read_bytes() for path in files), dtype=np.uint8)


def windows(
    text: NDArray[np.uint8], number: int, batch: int, length: int, seed: int
) -> Iterator[NDArray[np.int64]]:
    """``number`` batches [batch, length] of runs that begin anywhere in ``text``."""
    generator = np.random.default_rng(seed)
    for _ in range(number):
        starts = generator.integers(0, len(text) - length, batch)
        yield runs(text, starts, length)


def runs(text: NDArray[np.uint8], starts: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """The ``length`` bytes from each of ``starts``, [starts, length]."""
    return np.stack([text[start : start + length] for start in starts]).astype(np.int64)


def prompts(text: NDArray[np.uint8], lengths: range, seed: int) -> list[list[int]]:
    """Runs of these lengths, shuffled, spread over ``text``, each from the beginning of a line."""
    lines = np.flatnonzero(text == ord("\n")) + 1
    chosen = lines[np.linspace(0, len(lines) - max(lengths) - 1, len(lengths)).astype(int)]
    shuffled = np.random.default_rng(seed).permutation(lengths)
    return [
        text[start : start + length].tolist()
        for start, length in zip(chosen, shuffled, strict=True)
    ]


def counted_bits(training: NDArray[np.uint8], held_out: NDArray[np.uint8], order: int) -> float:
    """Bits a byte of counts over ``training`` given ``order`` bytes, each count plus 0.1."""
    states = 256**order
    counts = np.bincount(contexts(training, order + 1), minlength=states * 256).astype(float)
    shares = counts.reshape(states, 256) + 0.1
    shares /= shares.sum(axis=1, keepdims=True)
    return float(-np.log2(shares.reshape(-1)[contexts(held_out, order + 1)]).mean())


def contexts(text: NDArray[np.uint8], length: int) -> NDArray[np.int64]:
    """Every run of ``length`` bytes as one number."""
    every = np.lib.stride_tricks.sliding_window_view(text, length).astype(np.int64)
    return every @ (256 ** np.arange(length)[::-1])
