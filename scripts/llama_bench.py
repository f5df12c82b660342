"""llama.cpp's own benchmarks (``benches`` of its source), as runs of a pack of evidence.

A page has two tables for each model: ``llama-batched-bench`` (so many prompts, then 32 tokens of
each) and ``llama-bench`` (one prompt, 32 tokens behind so many). Left out: the batched rows of one
request, which ``llama-bench`` has too, and of which the first waits for kernels to load; batched
prompts of 512 tokens, likewise; prompts behind others; the runs that a number is fitted to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd

PAGES = {
    "dgx-spark": ("gb10", "llama.cpp 11fb327bf (7941)"),
    "mac-m2-ultra": ("m2-ultra-192gb", "llama.cpp b828e18c7 (7948)"),
}
"""Folders of the benchmarks: the hardware, and the build that all their tables name."""
MODELS = {
    "gpt-oss-20b-GGUF": ("gpt-oss-20b", "gpt-oss-20b@mxfp4_moe"),
    "gpt-oss-120b-GGUF": ("gpt-oss-120b", "gpt-oss-120b@mxfp4_moe"),
    "Qwen3-Coder-30B-A3B-Instruct-Q8_0-GGUF": ("qwen3-30b-a3b", "qwen3-30b-a3b@q8_0"),
    "GLM-4.7-Flash-GGUF": ("glm-4.7-flash", "glm-4.7-flash@q8_0"),
}
"""Those with experts that moesim knows: the card, and the model of a run."""
TOKENS = 32
"""Of each answer: the mean context is half of them behind the prompt."""
PAIR = 2
"""Requests of the batched rows whose prompts are taken: others' take as long a token."""
COLD = 512
"""Tokens of prompts of which the first kernels wait to be loaded."""
FITTED = tuple(
    (page, section, 1, depth + TOKENS // 2)
    for page, section, depth in (
        ("mac-m2-ultra", "gpt-oss-20b-GGUF", 0),
        ("mac-m2-ultra", "gpt-oss-20b-GGUF", 32_768),
        ("dgx-spark", "Qwen3-Coder-30B-A3B-Instruct-Q8_0-GGUF", 32_768),
    )
)
"""Page, section, requests and context of the runs that Apple's ``bandwidth_fraction``, Metal's
``head_reads`` and CUDA's ``cache_bandwidth`` meet."""
ALONE = re.compile(r"(pp|tg)(\d+)(?: @ d(\d+))?$")


class Measured(NamedTuple):
    """Of the model in a section: ``tokens_per_s`` of ``batch`` answers behind ``context`` tokens,
    or of a prompt of as many where ``batch`` is 0.
    """

    section: str
    batch: int
    context: int
    tokens_per_s: float


def measured(page: Path) -> Iterator[Measured]:
    """The rows that are taken of ``page``."""
    return (one for one in _rows(page) if (page.stem, *one[:3]) not in FITTED)


def _rows(page: Path) -> Iterator[Measured]:
    section = ""
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ").strip().removeprefix("ggml-org/")
        if section in MODELS and line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("| \n").split("|")]
            yield from batched(section, cells) if cells[0].isdigit() else alone(section, cells)


def batched(section: str, cells: list[str]) -> Iterator[Measured]:
    """A row of ``llama-batched-bench``."""
    prompt, _, requests = map(int, cells[:3])
    prompts, answers = float(cells[5]), float(cells[7])
    if requests > 1:
        yield Measured(section, requests, prompt + TOKENS // 2, answers)
    if requests == PAIR and prompt > COLD:
        yield Measured(section, 0, prompt, prompts)


def alone(section: str, cells: list[str]) -> Iterator[Measured]:
    """A row of ``llama-bench``."""
    if (test := ALONE.match(cells[-2])) is None:
        return
    speed, depth = float(cells[-1].split()[0]), int(test[3] or 0)
    if test[1] == "tg":
        yield Measured(section, 1, depth + TOKENS // 2, speed)
    elif not depth:
        yield Measured(section, 0, int(test[2]), speed)


RUN = re.compile(
    r"(?P<model>.*)-(?P<machine>gb10|m2-ultra)-(?P<what>decode|prompt)-\d+(-x(?P<batch>\d+))?"
)
GROUPS = ("one request", "2 to 16 requests", "32 requests", "prompts")


def summary_table(table: pd.DataFrame) -> list[str]:
    """Markdown: by machine and model the errors of the time in percent of each of ``GROUPS``, the
    middle one and, of their sizes, the 90th percentile.
    """
    named = table["run"].str.extract(RUN)
    group = named["batch"].map({"1": GROUPS[0], "32": GROUPS[2]}).fillna(GROUPS[1])
    group = group.mask(named["what"] == "prompt", GROUPS[3])
    errors = table["error_percent"].groupby([named["machine"], named["model"], group])
    told = {key: f"{mine.median():+.0f} / {mine.abs().quantile(0.9):.0f} %" for key, mine in errors}
    lines = ["| machine | model | " + " | ".join(GROUPS) + " |", "|" + "---|" * (2 + len(GROUPS))]
    for machine, model in dict.fromkeys(key[:2] for key in told):
        cells = [told[machine, model, name] for name in GROUPS]
        lines.append(f"| {machine} | {model} | {' | '.join(cells)} |")
    return lines
