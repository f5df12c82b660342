"""Variables of a shell that a pasted text sets and names: ``MODEL=openai/gpt-oss-120b``."""

from __future__ import annotations

import re

_SETS = re.compile(
    r"^[ \t]*(?:\$ )?(?:export[ \t]+)?(?P<name>[A-Za-z_]\w*)="
    r"(?P<value>\"[^\"`\n]*\"|'[^'\n]*'|[^\s;&|\"'`()]*)[ \t\r]*(?:;|&&|(?=\n)|\Z)[ \t]*",
    re.MULTILINE,
)
"""A command that sets one variable, to what stands there."""
_OF_PROGRAMS = re.compile(
    r"(?:CUDA|HIP|ROCR|GGML|LLAMA|VLLM|SGL(?:ANG)?|TRTLLM|TLLM|NCCL|NVIDIA|OMP|KMP|KT)_\w+"
)
"""Names that programs look at, too."""


def with_values(text: str) -> str:
    """``text`` with the values of its variables in place of their names (``$X``, ``${X}``), and
    without what sets them.
    """
    place = 0
    while (found := _SETS.search(text, place)) is not None:
        name, value = found["name"], found["value"].strip("\"'")
        before, behind = text[: found.start()], text[found.end() :]
        behind, count = re.subn(rf"\$(?:\{{{name}\}}|{name}\b)", lambda _: value, behind)  # noqa: B023
        kept = "" if count and not _OF_PROGRAMS.fullmatch(name) and "$" not in value else found[0]
        place = found.start() + len(kept)
        text = before + kept + behind
    return text
