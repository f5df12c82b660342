"""What a file's keys say that it is: one that was given in another's place is told in one line."""

from __future__ import annotations

from typing import Any, NamedTuple

from moesim.config.errors import InputError, Problem


class FileKind(NamedTuple):
    """A kind of file: keys that all of its have, keys of which each has one (where there are
    any), and what takes it.
    """

    name: str
    has: frozenset[str]
    one_of: frozenset[str]
    use: str


def _kind(name: str, has: str, use: str, one_of: str = "") -> FileKind:
    return FileKind(name, frozenset(has.split()), frozenset(one_of.split()), use)


EXPERIMENT = "an experiment"
HARDWARE = "a hardware profile"
SOFTWARE = "a software profile"
TRACE = "the parameters of a trace"
MODEL = "a model's config.json"
SYSTEM = "the record of a system"
PARTS = {
    "gpu": "the profile of a GPU",
    "host": "the profile of a host",
    "link": "the profile of a link",
    "storage": "the profile of a drive",
    "near_memory": "the profile of memory that computes",
}
_IN_HARDWARE = "an experiment names it in 'hardware: {{gpu: ..., host: ..., link: ...}}', as {}"
_KINDS = (
    _kind(EXPERIMENT, "model hardware", "'moesim run' and 'moesim check' take it"),
    _kind(SYSTEM, "paper concepts mechanism", "'moesim reproduce' takes it"),
    _kind(TRACE, "moe_layer_ids top_k", "'moesim trace synthesize' takes it, or 'trace:'"),
    _kind(PARTS["gpu"], "memory_bandwidth multiprocessors", _IN_HARDWARE.format("'gpu'")),
    _kind(PARTS["host"], "memory_bandwidth numa_nodes", _IN_HARDWARE.format("'host'")),
    _kind(PARTS["link"], "pcie copies", _IN_HARDWARE.format("'link'")),
    _kind(PARTS["storage"], "bandwidth in_flight", _IN_HARDWARE.format("'storage'")),
    _kind(PARTS["near_memory"], "bandwidth rate", _IN_HARDWARE.format("'near_memory'")),
    _kind(
        HARDWARE,
        "title sources",
        "an experiment names it: 'hardware: FILE'",
        "datasheet calibrated topology network",
    ),
    _kind(
        SOFTWARE,
        "title sources",
        "an experiment names it: 'software: FILE'",
        "launch kernels calls_empty host_per_layer host_per_copy copied pinned frontend",
    ),
    _kind(MODEL, "model_type", "'moesim model show' takes it, or 'model:'"),
    _kind("the summary of a run", "status output_throughput", "'moesim report' takes its folder"),
    _kind("the provenance of a run", "inputs packages", "'moesim report' takes its folder"),
)


def kind_of_file(data: Any) -> FileKind | None:
    """The kind of file that holds ``data``; None where its keys do not tell."""
    keys = set(data) if isinstance(data, dict) else set()
    for kind in _KINDS:
        if keys >= kind.has and (not kind.one_of or keys & kind.one_of):
            return kind
    return None


def check_kind(data: Any, expected: str, source: str) -> None:
    """An InputError where ``data``, of the file ``source``, are of another kind."""
    found = kind_of_file(data)
    if found is not None and found.name != expected:
        what = f"is {found.name}, and {expected} is expected here; {found.use}"
        raise InputError([Problem(source, "", what)])
