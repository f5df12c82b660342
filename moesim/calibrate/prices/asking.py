"""Whose operations the command line asks about: a machine's, a model's on it, an experiment's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from moesim.calibrate.prices.arguments import Asking
from moesim.calibrate.prices.of_run import of_experiment, of_machine
from moesim.calibrate.prices.price import METHODS, check_method
from moesim.config.errors import InputError
from moesim.config.files.file_kinds import EXPERIMENT, kind_of_file
from moesim.config.strict_yaml.yaml import compose_file
from moesim.experiment.building.build import build
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.schema.origins import placed
from moesim.hardware import hardware_file, load_hardware, load_software
from moesim.hardware.choice import gpu_and_host
from moesim.hardware.engine_fits import with_engine
from moesim.hardware.price_errors import Machine
from moesim.model import load_model

SUFFIXES = (".yaml", ".yml")


def asking_of(
    name: str,
    method: str,
    *,
    software: str | None = None,
    model: str | None = None,
    overrides: Sequence[str] = (),
) -> tuple[Asking, Path]:
    """Operations by the machine, or the experiment with ``overrides``, that ``name`` stands for,
    and its file.
    """
    check_method(method)
    if is_experiment(name):
        for option, value in (("--software", software), ("--model", model)):
            if value is not None:
                what = f"{option} '{value}': '{name}' is an experiment, which names its own"
                raise InputError(f"{what}; leave {option} out")
        return _of_experiment(Path(name), method, overrides), Path(name)
    if overrides:
        what = f"--set '{overrides[0]}': '{name}' is a profile, and experiments alone are set"
        raise InputError(f"{what}; leave it out")
    hardware, pinned = load_hardware(name), True
    if software:
        engine = load_software(software)
        hardware, pinned = with_engine(hardware, engine), engine.pinned
    gpu, host = gpu_and_host(name)
    machine = Machine(gpu, host or gpu, pinned)
    spec = None if model is None else load_model(model)
    return of_machine(hardware, METHODS[method], spec, machine), hardware_file(name)


def is_experiment(name: str) -> bool:
    """Whether ``name`` is the file of an experiment, and no machine's name or file."""
    path = Path(name)
    if path.suffix not in SUFFIXES or not path.is_file():
        return False
    kind = kind_of_file(compose_file(path).data)
    return kind is not None and kind.name == EXPERIMENT


def _of_experiment(path: Path, method: str, overrides: Sequence[str]) -> Asking:
    resolved = load_experiment(path, overrides, alone=True)
    with placed(resolved.origins, resolved.file):
        built = build(resolved.experiment)
        return of_experiment(resolved.experiment, built, METHODS[method])
