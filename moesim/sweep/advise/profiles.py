"""Changed machines, and software, as profiles that name a base."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from moesim.config.files.files import write_whole
from moesim.config.files.paths import look_up
from moesim.config.strict_yaml.yaml import with_end_mark
from moesim.experiment.schema.experiment import Experiment
from moesim.hardware import HardwareProfile, machine_named
from moesim.hardware.choice import choice_in, is_choice, text_of
from moesim.hardware.described.software import OF_KERNELS
from moesim.hardware.described.sourced import sources_used
from moesim.hardware.load import (
    PARTS,
    fits_beside,
    hardware_names,
    load_hardware,
    load_software,
)
from moesim.sweep.advise.upgrades import CHANGED, Upgrade

KERNELS = (
    "framework", "moe_backend", "auto_moe_backend", "start_cycles", "copies_from",
    "copies_from_rows", "thread_wait_ns", *OF_KERNELS,
)  # fmt: skip
"""What of a software profile says which kernels run, and on which processor."""
KEPT = (*KERNELS, "mapped")
"""What is no cost of software: its kernels, and how its weights come from a drive."""
DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""The same text, which libyaml writes faster where it is there: fits are thousands of numbers."""


def write_upgrade(
    folder: Path, experiment: Experiment, hardware: HardwareProfile, upgrade: Upgrade
) -> str:
    """Write ``hardware`` with ``upgrade`` to ``folder`` and return the path, or the choice of that
    file and the near-memory device of ``experiment``, which no file of a machine has.

    The file has the parts that differ, whole, and the machine of ``experiment`` as its base.
    """
    assert upgrade.change is not None, "software changes no machine"
    path = folder / f"{upgrade.key}.yaml"
    text = upgrade_text(
        hardware, upgrade.change(hardware), upgrade.title, _base(experiment, folder)
    )
    write_whole(path, text)
    named = experiment.hardware
    device = choice_in(named).data.get("near_memory") if is_choice(named) else None
    if device is None:
        return str(path)
    device = _changed_device(device, hardware, upgrade.change(hardware))
    return text_of({"base": str(path), "near_memory": device})


def _changed_device(device: Any, before: HardwareProfile, after: HardwareProfile) -> Any:
    """The near-memory ``device`` of a choice, with the numbers that differ ``after`` an upgrade."""
    was, now = (
        {}
        if one.near_memory is None
        else one.near_memory.model_dump(mode="json", exclude_none=True)
        for one in (before, after)
    )
    numbers = {key: _values(value) for key, value in now.items() if value != was[key]}
    if not numbers:
        return device
    return (dict(device) if isinstance(device, dict) else {"base": device}) | numbers


def _values(part: Any) -> Any:
    """The values of a ``part`` of a profile, without their sources."""
    return part["value"] if "value" in part else {key: _values(one) for key, one in part.items()}


def write_software(folder: Path, experiment: Experiment, upgrade: Upgrade) -> str:
    """The software of ``upgrade`` with the kernels of ``experiment``'s: their fits are prices of
    GPUs, and no cost of software. Its name, or the path of its profile, written to ``folder``.
    """
    assert upgrade.software is not None, "it changes software"
    named = load_software(experiment.software, experiment.folders)
    before = named.on_card(load_hardware(experiment.hardware, experiment.folders).datasheet)
    after = load_software(upgrade.software)
    key = "kernels"
    own = {name: getattr(before, name) for name in KEPT}
    kept = {
        name.removesuffix("_ns"): {"value": _written(name, value), "source": key}
        for name, value in own.items()
        if value != getattr(after, name)
    }
    if before.start_cycles is not None or before.host_kernels is not None:
        counts = before.kernels.model_dump(exclude_defaults=True)
        kept["kernels"] = {
            part: {"value": count, "source": key}
            for part, count in counts.items()
            if isinstance(count, int)
        }
    if not kept:
        return upgrade.software
    data = {
        "title": f"{before.title}, {upgrade.title}",
        "sources": {key: f"upgrade: {upgrade.title}, with the kernels of {before.name}"},
        "base": upgrade.software,
        **kept,
    }
    path = folder / f"{upgrade.key}.yaml"
    write_whole(path, with_end_mark(yaml.safe_dump(data, sort_keys=False, width=120)))
    return str(path)


def _written(name: str, value: Any) -> Any:
    """``value`` as a profile has it: a time and a share, which other fractions are, have units."""
    if name.endswith("_ns"):
        return f"{value:.12g} ns"
    if name == "head_reads" or not isinstance(value, float):
        return value
    return f"{100 * value:.12g} %"


def upgrade_text(
    before: HardwareProfile, after: HardwareProfile, title: str, base: str | None
) -> str:
    """The file of ``after``: the parts that differ from ``before``, the profile ``base``, and the
    fits, where a file of these parts has not those of its base; without one, all.
    """
    parts = [part for part in PARTS if getattr(before, part) != getattr(after, part)]
    if base is None or fits_beside(before, after) != after.calibrated:
        whole = PARTS if base is None else ("calibrated",)
        given = {part for part in whole if getattr(after, part) is not None}
        parts = [part for part in PARTS if part in given.union(parts)]
    key = "upgrade"
    while key in before.sources:
        key += "-again"
    used = {s for part in parts for _, s in sources_used(getattr(after, part)) if s != CHANGED}
    sources = {name: before.sources[name] for name in sorted(used)}
    sources[key] = f"upgrade: {title}, of {before.title}"
    content = {part: getattr(after, part).model_dump(mode="json") for part in parts}
    head = {"title": f"{before.title}, {title}", "sources": sources, "base": base}
    own = {"unified": True} if after.unified and base is None else {}
    data = _renamed(_known({**head, **own, **content}), key)
    text = yaml.dump(data, Dumper=DUMPER, sort_keys=False, width=120, allow_unicode=True)
    return with_end_mark(text)


def _base(experiment: Experiment, folder: Path) -> str | None:
    """The machine's name, or the way from ``folder`` to its file; None where it has none."""
    if (known := machine_named(experiment.hardware)) in hardware_names():
        return known
    if is_choice(experiment.hardware):
        return None
    found = look_up(experiment.hardware, experiment.folders)
    return None if found is None else os.path.relpath(found, folder)


def _known(value: Any) -> Any:
    """``value`` without the keys of nothing."""
    if isinstance(value, dict):
        return {key: _known(entry) for key, entry in value.items() if entry is not None}
    return [_known(entry) for entry in value] if isinstance(value, list) else value


def _renamed(value: Any, key: str) -> Any:
    """``value`` whose changed numbers name the source ``key``."""
    if isinstance(value, dict):
        same = {name: _renamed(entry, key) for name, entry in value.items()}
        return same | {"source": key} if value.get("source") == CHANGED else same
    return [_renamed(entry, key) for entry in value] if isinstance(value, list) else value
