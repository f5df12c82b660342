"""A system's page: what its record says, and what its runs gave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from textwrap import fill

import pandas as pd

from moesim.report.systems.figures import FIGURE
from moesim.report.systems.tables import beyond_table, given_table, laws_table, markdown
from moesim.reproduce.systems.judge import tally
from moesim.reproduce.systems.record import System
from moesim.reproduce.systems.run import Found

WIDTH = 140


def page(found: Found, figures: str) -> str:
    """The page of ``found`` in Markdown; its figures lie in the folder ``figures``."""
    return "\n\n".join(part for part in _parts(found, figures) if part) + "\n"


def _parts(found: Found, figures: str) -> Iterator[str]:
    system = found.system
    yield f"# {system.title}"
    yield _filled(f"*{system.question.strip()}* ({system.paper})")
    yield _filled(found.verdict)
    yield f"```text\nmoesim reproduce {found.name} --out results/{found.name}\n```"
    yield "## Mechanism"
    yield _paragraphs(system.mechanism)
    yield _list("What is assumed", system.assumed)
    yield _list("What not to read off", system.not_to_read)
    yield "## Laws"
    yield markdown(laws_table(found))
    yield _list("Shown by tests", system.tested)
    if system.given:
        yield "## Published and simulated"
        yield markdown(_without_empty(given_table(found)))
    if system.beyond is not None:
        yield "## What the paper does not have"
        yield _filled(f"*{system.beyond.question.strip()}*")
        yield markdown(beyond_table(found, system.beyond))
        yield _paragraphs(system.beyond.answer)
    for number, one in enumerate(system.figures, 1):
        name = FIGURE.format(name=found.name, number=number)
        yield f"![{one.label} over {one.over}]({figures}/{name}.png)"
    yield "Written by `scripts/systems_pages.py` from the system's record in `experiments/systems`."


def _without_empty(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop(columns=[name for name in frame if not frame[name].str.strip().any()])


def _filled(text: str) -> str:
    return fill(" ".join(text.split()), WIDTH, break_long_words=False, break_on_hyphens=False)


def _paragraphs(text: str) -> str:
    return "\n\n".join(_filled(part) for part in text.strip().split("\n\n"))


def _list(title: str, lines: Sequence[str]) -> str:
    """``lines`` as a list under ``title``; nothing without any."""
    if not lines:
        return ""
    items = (f"- {' '.join(line.split())}" for line in lines)
    return "\n".join([f"{title}:", "", *items])


def overview(systems: Mapping[str, System], results: Mapping[str, Found]) -> str:
    """The table over all systems in Markdown: those without a result say what moesim lacks."""
    rows = [_overview(name, one, results.get(name)) for name, one in systems.items()]
    return markdown(pd.DataFrame(rows))


def _overview(name: str, system: System, found: Found | None) -> dict[str, str]:
    head = {"system": system.title, "concepts": ", ".join(system.concepts)}
    if found is None:
        missing = f"not yet: moesim lacks {system.missing}"
        return {**head, "laws": "-", "published": "-", "verdict": missing}
    head["system"] = f"[{system.title}]({name}.md)"
    count = tally(found)
    held = f"{count['laws'] - count['broken']} of {count['laws']}"
    judged = count["agrees"] + count["misses"]
    agree = f"{count['agrees']} of {judged}" if judged else "none judged"
    return {**head, "laws": held, "published": agree, "verdict": found.verdict}
