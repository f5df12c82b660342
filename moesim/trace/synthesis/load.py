"""Parameter files: strict YAML, with all mistakes told at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from moesim.config.checking.validation import validate
from moesim.config.checking.words import spelled_out
from moesim.config.document import Document
from moesim.config.errors import InputError, Problem, in_order
from moesim.config.files.file_kinds import TRACE, check_kind
from moesim.config.files.paths import find
from moesim.config.strict_yaml.yaml import is_parquet, read_document
from moesim.trace.synthesis.checks import findings
from moesim.trace.synthesis.parameters import SyntheticTrace


def load_parameters(path: Path | str, folders: Sequence[Path] = ()) -> SyntheticTrace:
    """The parameters in the YAML file at ``path``, looked up in ``folders`` (default: the working
    directory, then the shipped data). InputError: all mistakes, each with line and column.
    """
    found = find(path, folders)
    if is_parquet(found):
        what = "is a Parquet file; parameters are YAML, as 'moesim trace fit' makes them of a trace"
        raise InputError([Problem(str(path), "", what)])
    document: Document = read_document(found)
    check_kind(document.data, TRACE, str(found))
    parameters = validate(spelled_out(document, SyntheticTrace), SyntheticTrace)
    problems = [document.problem(place, what) for place, what in findings(parameters)]
    if problems:
        raise InputError(in_order(problems))
    return parameters
