"""One experiment document judged as a whole: its values, the things it names, its rules."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from moesim.config.checking.validation import examine
from moesim.config.document import Document
from moesim.config.errors import InputError, Problem
from moesim.config.strict_yaml.overrides import parse_path
from moesim.experiment.loading.default_trace import default_trace
from moesim.experiment.loading.names import loaded, name_problems
from moesim.experiment.loading.rules import conflicts
from moesim.experiment.schema.experiment import NO_TRACE, Experiment


@dataclass(frozen=True)
class Finding:
    """A problem, and the dotted paths whose values cause it."""

    problem: Problem
    causes: tuple[str, ...]


def assess(
    document: Document, folders: tuple[Path, ...]
) -> tuple[Experiment | None, list[Finding]]:
    """The experiment in ``document`` (None where it could not be made) and everything wrong with
    it.
    """
    experiment, problems = examine(document, Experiment)
    wrong = {problem.path for problem in problems}  # no name at all
    problems += [one for one in name_problems(document, folders) if one.path not in wrong]
    findings = [Finding(problem, (problem.path,)) for problem in problems]
    if experiment is None:
        return None, findings
    experiment = experiment.looked_up_in(folders)
    model = loaded("model", experiment.model, folders)
    if experiment.trace == NO_TRACE and model is not None and model.moe_layers:
        try:
            workload = experiment.workload
            name = default_trace(model, workload.phase, workload.at_once).name
            experiment = experiment.with_default_trace(name)
        except InputError as error:
            problem = document.problem(("trace",), error.problems[0].what)
            findings.append(Finding(problem, ("trace", "model")))
    for conflict in conflicts(experiment, model):
        problem = document.problem(parse_path(conflict.keys[0]), conflict.what)
        findings.append(Finding(problem, conflict.keys))
    return experiment, findings
