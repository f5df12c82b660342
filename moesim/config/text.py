"""Places in a text, and bytes as text."""

from __future__ import annotations

import codecs

from moesim.config.document import Mark
from moesim.config.errors import InputError

UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def mark_at(text: str, index: int, source: str, first_line: int = 1) -> Mark:
    """The line and column of ``text[index]``; the text begins at ``first_line`` of ``source``."""
    before = text[:index]
    return Mark(source, before.count("\n") + first_line, index - (before.rfind("\n") + 1) + 1)


def decoded(content: bytes, source: str, first_line: int = 1) -> str:
    """``content`` as text without a byte order mark; an InputError where it is neither UTF-8 nor
    UTF-16 with such a mark, as PowerShell writes what a command prints.
    """
    try:
        return content.decode("utf-16" if content.startswith(UTF_16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8", "replace")
        mark = mark_at(before, len(before), source, first_line)
        what = f"the byte 0x{content[error.start]:02X} is not UTF-8 text; save the file as UTF-8"
        raise InputError([mark.problem((), what)]) from None
