"""Fail where a file of the repository names a package registry's address or a path of one machine.

A lock, a test or a page that does works on one machine only. ``make check`` runs this.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

FORBIDDEN = re.compile(
    rb"pypi\.org|pythonhosted\.org|registry\.npmjs|deb\.debian\.org|--(?:extra-)?index-url\s+\S"
    rb"|(?<![\w.-])/(?:work|root|tmp|home/\w+)/|(?<![\w./])(?:\.\./)+shared\b"
)


PARTS = (
    b"pypi", b"pythonhosted", b"npmjs", b"deb.debian", b"index-url",
    b"/work", b"/root", b"/tmp", b"/home", b"./shared",
)  # fmt: skip
"""One of these stands in all that is forbidden: most files have none, and are not looked through
line by line.
"""


def offences(content: bytes) -> Iterator[tuple[int, str]]:
    """Line number and text of every forbidden name in ``content``."""
    if not any(part in content for part in PARTS):
        return
    for number, line in enumerate(content.splitlines(), start=1):
        for match in FORBIDDEN.finditer(line):
            yield number, match.group().decode()


def repository_files(root: Path) -> list[Path]:
    """The files that git tracks or would track under ``root``."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True).stdout
    return [root / name for name in listed.decode().split("\0") if name]


def main() -> int:
    """Print every offence as ``file:line: text``; 1 if there is any."""
    root = Path(__file__).resolve().parents[1]
    found = 0
    for path in repository_files(root):
        if path.is_file():
            for number, text in offences(path.read_bytes()):
                print(f"{path.relative_to(root)}:{number}: '{text}' holds on one machine only")
                found += 1
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
