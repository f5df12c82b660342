"""Whether weights are in the formats that the software's files have."""

from __future__ import annotations

from moesim.engine.case import Case
from moesim.model.gguf.usual import plain_note


def format_notes(case: Case) -> list[str]:
    """That the weights of software which maps GGUF files are in formats that few such files have;
    nothing where they are not.
    """
    plain = plain_note(case.model) if case.software.mapped else None
    return [] if plain is None else [f"weights are {plain}"]
