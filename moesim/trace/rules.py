"""Transforms as a user writes them: YAML on the command line, or a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field

from moesim.config.checking.validation import validate
from moesim.config.checking.words import spelled_out
from moesim.config.document import Document
from moesim.config.errors import InputError, Problem
from moesim.config.oneof import OneOf
from moesim.config.params import Params
from moesim.config.strict_yaml.yaml import parse_document, read_document
from moesim.trace.transforms import registry
from moesim.trace.transforms.base import Transform

OPTION = "--routing"


class Rules(Params):
    """The part of a file that says which transforms there are."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)
    routing: list[Annotated[Transform, OneOf(registry)]] = Field(min_length=1)


def read_rules(text: str) -> list[Transform]:
    """The transforms of ``text``: ``{kind: top_k, k: 2}``, a list of such, or the path of a YAML
    file (an experiment, for one) with the key ``routing``. InputError for anything else.
    """
    start = text.lstrip()[:1]
    if start in {"[", "{"}:
        rules = text if start == "[" else f"[{text}]"
        return _validated(parse_document(f"routing: {rules}", OPTION))
    if not Path(text).is_file():
        what = f"'{text:.60}' is no file and no rule; write {{kind: top_k, k: 2}}, or a file's path"
        raise InputError([Problem(OPTION, "", what)])
    return _validated(read_document(text))


def _validated(document: Document) -> list[Transform]:
    return list(validate(spelled_out(document, Rules), Rules).routing)
