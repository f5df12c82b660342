"""A choice with an upgrade, as an experiment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from moesim.experiment.schema.experiment import Experiment
from moesim.hardware import load_hardware
from moesim.sweep.advise.choices import ON_HOST, Choice, with_settings
from moesim.sweep.advise.profiles import write_software, write_upgrade
from moesim.sweep.advise.room import room_of
from moesim.sweep.advise.upgrades import Upgrade


def upgraded_point(
    base: Experiment, choice: Choice, upgrade: Upgrade, out: Path
) -> tuple[dict[str, str], Experiment]:
    """What is set, and the experiment, of ``choice`` with ``upgrade``."""
    resized = upgrade.resized and not choice.layers
    settings = choice.settings | ({"experts.capacity": "auto"} if resized else {})
    experiment = with_settings(base, settings)
    if upgrade.software is not None:
        update = {"software": write_software(out / "hardware", base, upgrade)}
    else:
        hardware = load_hardware(base.hardware, base.folders)
        update = {"hardware": write_upgrade(out / "hardware", base, hardware, upgrade)}
    same = {"hardware": base.hardware, "software": experiment.software}
    upgraded = experiment.model_copy(update=update)
    if upgrade.resized and choice.layers:
        fewer = _fewer_on_cpu(upgraded, choice)
        settings, upgraded = settings | fewer, with_settings(upgraded, fewer)
    return settings | same | update, upgraded


def _fewer_on_cpu(experiment: Experiment, choice: Choice) -> dict[str, str]:
    """What is set where a larger GPU leaves fewer layers on the CPU than ``choice`` has."""
    room = room_of(experiment, "auto")
    layers = room.on_host if choice.miss == ON_HOST else room.fewest_on_cpu
    return replace(choice, layers=layers or 0, miss=choice.miss if layers else "load").settings
