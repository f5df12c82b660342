"""What an engine's command lines are, in both directions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from moesim.config.errors import InputError, Problem
from moesim.experiment.engine_commands.drafts import told_together
from moesim.experiment.engine_commands.front import unread_in_front
from moesim.experiment.engine_commands.heredocs import keys_of
from moesim.experiment.engine_commands.points import ReadCommand, swept
from moesim.experiment.engine_commands.words import (
    DRAFTS,
    INSTANCES,
    Effect,
    Given,
    Line,
    Option,
    one_line,
    opposite,
    read_options,
    words_of,
)
from moesim.experiment.loading.names import needed
from moesim.experiment.loading.rules import may_miss
from moesim.experiment.loading.rules.asked import in_place
from moesim.experiment.schema.experiment import Experiment
from moesim.memory.footprint.shares import Share
from moesim.model import ModelSpec

Folders = tuple[Path, ...]
WARNING, NOTE = "warning: ", "note: "
SHORT_CONTEXT = 2048
"""Tokens; fewer are those of a trace that is cut short, not what anybody serves."""


@dataclass(frozen=True)
class EngineCommand:
    """The line that runs an experiment in ``engine``, its words quoted for a shell.

    ``text`` is None where the engine cannot run it. ``notes`` say what is in the way, what the line
    leaves to the engine's defaults, and what of the experiment it does not say.
    """

    engine: str
    text: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Configuration:
    """A resolved experiment that is to be said as a command line, and the context of a request."""

    experiment: Experiment
    asked_context: int | None = None

    @cached_property
    def model(self) -> ModelSpec:
        """The experiment's model."""
        model: ModelSpec = needed("model", self.experiment.model, self.experiment.folders)
        return model

    @cached_property
    def on_cpu(self) -> list[bool]:
        """By MoE layer, whether its experts are on the CPU."""
        return self.experiment.experts.on_cpu.of(self.model)

    @property
    def _given_context(self) -> int | None:
        asked = self.asked_context
        return self.experiment.workload.context if asked is None else asked

    @cached_property
    def context_tokens(self) -> int:
        """As asked for, or as the experiment says, or the longest of the run's requests."""
        if self._given_context is not None:
            return self._given_context
        if self.experiment.workload.batching.serves:
            return self._longest_served
        from moesim.experiment.loading.traces import trace_of
        from moesim.workload.requests import Requests

        one, trace = self.experiment, trace_of(self.experiment)
        rows = Requests.of(trace, one.workload.phase, one.workload.requests).rows
        return int(trace.position[rows].max()) + 1

    @property
    def _longest_served(self) -> int:
        """What a slot holds, or the server takes, or prompt and answer of the longest request."""
        scheduler = getattr(self.experiment.workload.batching, "scheduler", None)
        for limit in ("slot_context", "max_model_len"):
            if (most := getattr(scheduler, limit, None)) is not None:
                return int(most)
        from moesim.experiment.building.of_card import block_size_of
        from moesim.experiment.loading.requests import load_of
        from moesim.experiment.loading.traces import trace_of
        from moesim.workload.serving.requests.requests import served_requests

        one = self.experiment
        served = served_requests(load_of(one), trace_of(one), block_size_of(one))
        return int(served.asked.tokens.max()) + 1

    @cached_property
    def context_note(self) -> str:
        """Where the context is from, if it was not asked for."""
        if self._given_context is not None:
            return ""
        serves = self.experiment.workload.batching.serves
        of = "requests" if serves else "run's trace"
        what = f"{self.context_tokens} tokens a request, the longest of the {of}"
        if serves or self.context_tokens >= SHORT_CONTEXT:
            return f"{NOTE}context: {what}; ask for another with --context"
        return f"{WARNING}context: {what}: too few to use; ask for yours, as --context 16k"

    @property
    def in_place(self) -> bool:
        """Whether experts are read into the one memory of CPU and GPU."""
        return in_place(self.experiment, self.model)

    @property
    def from_drive(self) -> bool:
        """Whether experts that memory does not hold are read from a drive."""
        return self.in_place or self.experiment.experts.host.capacity.kind != "all"

    @cached_property
    def slots(self) -> int | None:
        """Slots of a layer beside those on the CPU; None where it holds all of its experts."""
        experiment = self.experiment
        capacity = experiment.experts.capacity
        if not may_miss(experiment, self.model):
            return None
        if capacity.kind == "slots":
            return int(capacity.amount)
        from moesim.experiment.building.build import build  # loads compiled code

        case = build(experiment).case
        on_cpu = experiment.experts.on_cpu.of(case.model)  # with layers that the host runs
        slots = case.slots[:, [not host for host in on_cpu]]
        local = max(len(case.local_experts(gpu)) for gpu in range(case.gpus))
        return None if not slots.size or slots.min() >= local else int(slots.min())

    @cached_property
    def stages(self) -> tuple[Share, ...]:
        """The layers of each GPU; none where they are not split over GPUs."""
        if self.experiment.parallelism.pipeline == 1:
            return ()
        from moesim.experiment.building.build import build

        return build(self.experiment).case.stages


@dataclass
class Reading:
    """What has been read of a line so far."""

    line: Line
    experiment: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    context_tokens: int | None = None
    served: bool = False
    """Whether it is read as a server whose scheduler decides, not as batches that are full."""
    front: Sequence[str] = ()
    """The words before the options: variables, programs."""
    files: Mapping[str, str] = field(default_factory=dict)
    """The files that the text of the line writes, by their names."""

    def put(self, path: str, value: Any) -> None:
        """Set the key at the dotted ``path``; None sets nothing."""
        if value is None:
            return
        place, *steps = path.split(".")
        into = self.experiment
        for step in steps:
            into, place = into.setdefault(place, {}), step
        into[place] = value

    def warn(self, what: object, why: str) -> None:
        """Something that changes time or memory and is not modelled, or was not understood."""
        self.notes.append(f"{WARNING}{what}: {why}")

    def note(self, what: object, why: str) -> None:
        """Something that was assumed."""
        self.notes.append(f"{NOTE}{what}: {why}")


class Engine(ABC):
    """An inference engine's options, and what they mean in an experiment.

    ``softwares``: the profiles that have its costs. ``options``: every one that is known,
    each with what it does to an experiment.
    """

    kind: ClassVar[str]
    program: ClassVar[str] = ""
    """What a line of it begins with."""
    softwares: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[Sequence[Option]]
    read_if_served: ClassVar[Collection[str]] = ()
    """Options that are keys where requests are served."""
    variables: ClassVar[Collection[str]] = ()
    """What may be set in front of the program and is read: names, or with a value."""
    flexible: ClassVar[bool] = False
    """Whether names may have ``_`` for ``-``, and numbers suffixes."""
    model_option: ClassVar[str] = ""
    """The option that names the model where no word alone does."""
    file_of_options: ClassVar[str] = ""
    """The option that names a YAML file of others, which count where the line does not say them."""

    @abstractmethod
    def begins(self, words: Sequence[str]) -> int | None:
        """Where options begin, behind a program of the engine; None where none is named."""

    def claims(self, words: Sequence[str]) -> bool:
        """Whether a line is this engine's, of several whose programs have the same name."""
        del words
        return True

    @abstractmethod
    def write(self, asked: Configuration) -> EngineCommand:
        """The line that runs ``asked``."""

    @abstractmethod
    def understand(self, reading: Reading, folders: Folders) -> None:
        """Put what the rows with ``Effect.READ`` mean into ``reading.experiment``."""

    def read(
        self,
        words: Sequence[str],
        first: int,
        folders: Folders,
        *,
        served: bool = False,
        files: Mapping[str, str] | None = None,
    ) -> ReadCommand:
        """The experiment that ``words`` mean, whose options begin at ``first``; ``served``: with
        the engine's scheduler; ``files``: what stands in those that were written before, by their
        names. InputError where they are broken, or the engine has no scheduler here.
        """
        if served and not self.read_if_served:
            what = f"{self.kind}: its options of served requests are not known here"
            raise InputError([Problem("--served", "", what)])
        line, front = self._line(words[first:], files or {}, folders), words[:first]
        readings = [
            Reading(one, served=served, front=front, files=files or {})
            for one in self.points(line, front)
        ]
        return swept([self._read(reading, folders) for reading in readings])

    def _line(self, words: Sequence[str], files: Mapping[str, str], folders: Folders) -> Line:
        """The options of ``words``, behind those of a file that they name, where it is here."""
        line = read_options(words, self.options, flexible=self.flexible)
        given = line.last(self.file_of_options)
        keys = None if given is None else keys_of(given.value, files, folders)
        if keys is None:
            return line
        more = read_options(words_of(keys, self.options), self.options, flexible=self.flexible)
        line.given = [one for one in line.given if one.option.name != self.file_of_options]
        left = {opposite(name) for one in line.given for name in one.option.names.split()}
        left |= {self.file_of_options, *([self.model_option] if line.positional else [])}
        more.given = [one for one in more.given if one.option.name not in left]
        return more.before(line)

    def points(self, line: Line, front: Sequence[str]) -> Sequence[Line]:
        """A line of each run that ``line`` asks for, behind the words ``front``."""
        del front
        return [line]

    def _read(self, reading: Reading, folders: Folders) -> ReadCommand:
        """What one run means."""
        line = reading.line
        self.understand(reading, folders)
        line.check()
        left_out = _left_out(line, self.read_if_served if reading.served else ())
        notes = [*reading.notes, *left_out, *_in_front(reading.front, self.variables)]
        said = tuple(map(one_line, notes))
        return ReadCommand(self.kind, reading.experiment, reading.context_tokens, said)


def _in_front(words: Sequence[str], read: Collection[str]) -> list[str]:
    """A note on what changes how the program runs, and is not ``read``."""
    more = unread_in_front(words, read)
    return [f"{WARNING}{' '.join(words)}: what is set in front is not read"] if more else []


def _left_out(line: Line, read: Collection[str]) -> list[str]:
    """A note for every option that is no key, and one for those that do nothing here, but for those
    that are ``read``.
    """
    given = [one for one in line.given if one.option.name not in read]
    of = {effect: [one for one in given if _effect(one) is effect] for effect in Effect}
    hidden = of[Effect.NOT_MODELLED]
    alone = [one for one in hidden if one.option.why not in (DRAFTS, INSTANCES)]
    notes = [f"{WARNING}{one}: not modelled: {one.option.why}" for one in alone]
    notes += [f"{WARNING}{text}" for text in told_together(hidden, line)]
    notes += [f"{WARNING}{text}: not understood, and left out" for text in line.strange]
    notes += [f"{WARNING}{text}: belongs to no option, and is left out" for text in line.positional]
    if idle := [str(one) for one in of[Effect.NONE]]:
        notes.append(f"{NOTE}nothing that moesim looks at: {', '.join(idle)}")
    return notes


def _effect(given: Given) -> Effect:
    row = given.option
    harmless = row.effect is Effect.NOT_MODELLED and given.value.lower() in row.harmless
    return Effect.NONE if harmless else row.effect
