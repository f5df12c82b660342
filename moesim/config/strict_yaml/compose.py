"""YAML nodes without anchors and tags, and the plain data in them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.scanner import Scanner

from moesim.config.document import Mark, Steps
from moesim.config.errors import Problem
from moesim.config.json_text import DEEPEST
from moesim.config.strict_yaml.numbers import Scalar, plain_scalar

Complaint = tuple[Any, str]
"""PyYAML's mark and what is wrong there."""


class TooDeepError(yaml.MarkedYAMLError):
    """More than ``DEEPEST`` lists and mappings in one another."""


class _Noting(yaml.composer.Composer):
    """PyYAML's composer, which notes anchors, aliases and tags in ``problems`` and goes on."""

    peek_event: Callable[[], Any]
    get_event: Callable[[], Any]

    def __init__(self) -> None:
        super().__init__()
        self.problems: list[Complaint] = []
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node; the value of an alias is empty."""
        event: Any = self.peek_event()
        place: Any = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            self._refuse(event, f"the alias '*{event.anchor}' is not read; write the value itself")
            self.get_event()
            return yaml.ScalarNode("", "", style="'", start_mark=place)
        if event.anchor is not None:
            self._refuse(event, f"the anchor '&{event.anchor}' is not read; remove it")
            event.anchor = None
        if event.tag is not None:
            self._refuse(event, f"the tag '{event.tag}' is not read; remove it")
            event.tag = None
        self._depth += 1
        if self._depth > DEEPEST and isinstance(event, yaml.CollectionStartEvent):
            raise TooDeepError(problem_mark=place)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def _refuse(self, event: Any, what: str) -> None:
        self.problems.append((event.start_mark, what))

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        """No tag: values are read by ``Plain``."""
        return ""

    def descend_resolver(self, node: Any, index: Any) -> None:
        """Nothing is resolved."""

    def ascend_resolver(self) -> None:
        """Nothing is resolved."""


class Composer(_Noting, Reader, Scanner, Parser):
    """Over PyYAML's own parser, whose errors have the better places and words."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        _Noting.__init__(self)


if yaml.__with_libyaml__:
    from yaml.cyaml import CParser  # type: ignore[attr-defined]

    class FastComposer(_Noting, CParser):
        """Over libyaml's parser, nine times faster on a calibrated profile."""

        def __init__(self, text: str) -> None:
            CParser.__init__(self, text)
            _Noting.__init__(self)

else:
    FastComposer = Composer  # type: ignore[misc, assignment]


def composed(text: str) -> tuple[yaml.Node | None, list[Complaint]]:
    """The node of the document ``text`` (None: it is empty), and what it may not have.

    What libyaml cannot read is read once more, for the words of PyYAML's error.
    """
    with suppress(yaml.YAMLError, UnicodeError):
        fast = FastComposer(text)
        node = fast.get_single_node()
        if not fast.problems:
            return node, []
    slow = Composer(text)
    return slow.get_single_node(), slow.problems


@dataclass
class Plain:
    """Turns nodes into plain data, and keeps where each value and key stands."""

    source: str
    complaints: list[Complaint]
    values: dict[Steps, Mark] = field(default_factory=dict)
    keys: dict[Steps, Mark] = field(default_factory=dict)
    found: list[Problem] = field(default_factory=list)

    @property
    def problems(self) -> list[Problem]:
        """All mistakes, the composer's too."""
        early = [self._mark(mark).problem((), what) for mark, what in self.complaints]
        return early + self.found

    def value(self, node: yaml.Node, path: Steps) -> Any:
        """The data of ``node``, which stands at ``path``."""
        self.values[path] = self._mark(node.start_mark)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(entry, (*path, i)) for i, entry in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Steps) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, path)
            if key is None:
                continue
            mark, place = self._mark(key_node.start_mark), (*path, key)
            if key in data:
                first = self.keys[place]
                what = f"the key occurs twice; first at line {first.line}, column {first.column}"
                self.found.append(mark.problem(place, what))
                continue
            self.keys[place] = mark
            data[key] = self.value(value_node, place)
            if data[key] is None and not value_node.value:
                self.values[place] = mark
        return data

    def _key(self, node: yaml.Node, path: Steps) -> str | None:
        if isinstance(node, yaml.ScalarNode) and node.value and (node.value != "<<" or node.style):
            return str(node.value)
        what = "a key must be one word or a quoted text"
        if isinstance(node, yaml.ScalarNode) and node.value:
            what = "the merge key '<<' is not read; write the keys themselves"
        self.found.append(self._mark(node.start_mark).problem(path, what))
        return None

    def _scalar(self, node: Any, path: Steps) -> Scalar:
        try:
            node.value.encode("utf-8")
            return str(node.value) if node.style else plain_scalar(node.value)
        except UnicodeEncodeError:
            what = "half of a surrogate pair is no character; write the character itself"
            self.found.append(self._mark(node.start_mark).problem(path, what))
            return None
        except ValueError as error:
            self.found.append(self._mark(node.start_mark).problem(path, str(error)))
            return None

    def _mark(self, mark: Any) -> Mark:
        return Mark(self.source, mark.line + 1, mark.column + 1)
