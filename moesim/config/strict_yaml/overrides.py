"""``--set PATH=VALUE``."""

from __future__ import annotations

from moesim.config.arguments import check_type
from moesim.config.document import Mark, Steps
from moesim.config.errors import InputError, Problem
from moesim.config.strict_yaml.yaml import parse_value

OPTION = "--set"


def parse_override(text: str) -> tuple[Steps, object, Mark]:
    """The path, the value (YAML) and the mark of one option's ``text``; an InputError names the
    option.
    """
    check_type("overrides", text, str, "text; write 'PATH=VALUE', as in 'seed=1'")
    mark = Mark(f"{OPTION} {text}")
    path, equals, value = text.partition("=")
    if not equals:
        raise InputError([Problem(str(mark), "", "has no '='; write --set PATH=VALUE")])
    steps = parse_path(path)
    if "" in steps:
        what = "the path is empty; write --set PATH=VALUE with a path as in experts.capacity"
        raise InputError([Problem(str(mark), "", what)])
    return steps, parse_value(value, str(mark)), mark


def parse_path(path: str) -> Steps:
    """The keys of a dotted ``path``; what follows ``sweep.`` is one key, the path of an axis."""
    steps = [step.strip() for step in path.strip().split(".")]
    if steps[0] == "sweep" and len(steps) > 1:
        steps = [steps[0], ".".join(steps[1:])]
    return tuple(int(step) if step.isdecimal() and step.isascii() else step for step in steps)
