"""Where each value of a resolved experiment came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from moesim.config.document import Document, Steps, dotted
from moesim.experiment.schema import Experiment

DEFAULT = "default"


def leaves(value: Any, path: Steps = ()) -> Iterator[tuple[Steps, Any]]:
    """The values below nested mappings, with their paths; a list or an empty mapping is one
    value.
    """
    if isinstance(value, Mapping) and value:
        for key, entry in value.items():
            yield from leaves(entry, (*path, key))
    else:
        yield path, value


def origins_of(experiment: Experiment, document: Document) -> dict[str, str]:
    """``file.yaml:12``, ``--set`` or ``default`` for the dotted path of every value."""
    return {
        dotted(path): document.value_mark(path).origin if document.has(path) else DEFAULT
        for path, _ in leaves(experiment.model_dump(mode="json"))
    }
