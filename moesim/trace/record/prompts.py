"""Prompts: a text file, one a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moesim.config.errors import InputError, Problem
from moesim.config.files.files import read_file
from moesim.config.text import decoded


def read_prompts(path: Path, limit: int | None = None) -> dict[int, str]:
    """The prompts by line number, from 1: a line each, as it stands; blank lines are left out.

    ``limit`` keeps the first ones. Raises InputError if the file is not readable or has none.
    """
    content = read_file(path, "text file with a prompt a line")
    lines = decoded(content, str(path)).split("\n")
    found = {number: line.rstrip("\r") for number, line in enumerate(lines, 1) if line.strip()}
    if not found:
        raise InputError([Problem(str(path), "", "has no prompts: write one a line")])
    return dict(list(found.items())[:limit])


def check_prompts(
    prompts: dict[int, list[int]], new_tokens: int, model: Any, path: Path | str
) -> Sequence[list[int]]:
    """The token ids of the prompts by line, checked against the model's vocabulary and positions.

    An InputError lists every line that does not fit.
    """
    config = model.config.get_text_config()
    vocabulary = config.vocab_size
    positions = getattr(config, "max_position_embeddings", None)
    problems = []
    for number, tokens in prompts.items():
        where = f"{path}:{number}"
        if not tokens:
            problems.append(Problem(where, "", "the tokenizer makes no token of it; remove it"))
        elif max(tokens) >= vocabulary:
            what = (
                f"has token {max(tokens)}, but the model's vocabulary ends at {vocabulary - 1};"
                " use the model's own tokenizer"
            )
            problems.append(Problem(where, "", what))
        elif positions is not None and len(tokens) + new_tokens > positions:
            what = (
                f"{len(tokens)} prompt tokens and {new_tokens} new ones are more than the model's"
                f" {positions} positions; shorten the prompt or lower --max-new-tokens"
            )
            problems.append(Problem(where, "", what))
    if problems:
        raise InputError(problems)
    return list(prompts.values())
