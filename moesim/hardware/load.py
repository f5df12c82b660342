"""The door for profiles: shipped ones by name, a user's YAML file by path."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, Field

from moesim.config.checking.validation import validate
from moesim.config.document import Document, dotted
from moesim.config.errors import InputError, Problem, in_order, nearest
from moesim.config.files.file_kinds import HARDWARE, SOFTWARE, check_kind
from moesim.config.files.paths import look_up, shipped_folder
from moesim.config.files.shipped import made_once, stems
from moesim.config.names import known_name
from moesim.config.params import Params
from moesim.config.strict_yaml.yaml import read_marked_document
from moesim.hardware.bounds import breaches
from moesim.hardware.choice import choice_in, is_choice, text_of
from moesim.hardware.described.datasheet import Datasheet
from moesim.hardware.described.host import Host, Topology
from moesim.hardware.described.names import known_part, near_gpus
from moesim.hardware.described.network import Network
from moesim.hardware.described.software import EndMark, SoftwareFile, SoftwareProfile
from moesim.hardware.described.sourced import sources_used
from moesim.hardware.described.versions import near_software, software_named
from moesim.hardware.engine_fits import with_engine
from moesim.hardware.layers import merged, part_file, part_names
from moesim.hardware.machine import compose, fits_left, lacks_host
from moesim.hardware.prices.calibrated import Calibrated
from moesim.hardware.profile import HardwareProfile

PROFILES = "hardware_profiles"
PARTS = ("datasheet", "host", "topology", "network", "calibrated")
NUMBERS = ("datasheet", "host")
"""Parts of which a file may give some numbers, over those of its base."""
TOLD = ("unified", "assumed_host")
"""What else a file has of its base."""
Profile = TypeVar("Profile", HardwareProfile, SoftwareProfile)


class HardwareFile(Params):
    """A hardware profile's file; parts, and numbers of datasheet and host, that are left out come
    from the profile ``base``.
    """

    end_mark: EndMark | None = None
    title: str = Field(min_length=1)
    sources: dict[str, str] = Field(description="What each source's key stands for.")
    base: str | None = Field(
        None, description="The profile, or GPU in its usual host, that has what is left out here."
    )
    datasheet: Datasheet | None = None
    host: Host | None = None
    topology: Topology | None = Field(
        None, description="What GPUs share; or the name of the profile whose wiring this is."
    )
    network: Network | None = Field(
        None, description="What joins nodes; or the name of the profile whose network it is."
    )
    calibrated: Calibrated | None = None
    unified: bool = Field(False, description="Whether CPU and GPU share one memory.")


def hardware_names() -> list[str]:
    """The names of the shipped hardware profiles, sorted."""
    return stems(shipped_folder() / PROFILES, ".yaml")


def card_names() -> list[str]:
    """The whole machines that stand for one GPU each, sorted."""
    return [name for name in hardware_names() if _is_card(name)]


def gpu_names() -> list[str]:
    """The names of the shipped GPUs, sorted."""
    return sorted({*part_names("gpu"), *card_names()})


def machine_named(name: str) -> str | None:
    """The whole machine or GPU that ``name`` means, as people and tools write it; None where it is
    none, or may be several.
    """
    return None if is_choice(name) else known_part(name, _machines())


BESIDE = {"host": "host", "link": "link", "near_memory": "near-memory device", "storage": "drive"}
"""The parts of a machine beside its GPU, as words."""


def near_machine(name: str) -> str:
    """What to write for a ``name`` of no machine, for the end of a sentence."""
    for kind, word in BESIDE.items():
        if name in part_names(kind):
            written = f"{{gpu: rtx-4090, {kind}: {name}}}"
            return f"it is a {word}, which stands beside a GPU: write hardware: {written}"
    have = "'moesim list hardware' and 'moesim list gpus' have all"
    return f"{have}; {near_gpus(name, _machines())}"


def _machines() -> set[str]:
    return {*hardware_names(), *part_names("gpu")}


@lru_cache(maxsize=1)
def unified_names() -> tuple[str, ...]:
    """The shipped GPUs that share one memory with a CPU: each a whole machine."""
    files = (shipped_folder() / PROFILES / "gpus").glob("*.yaml")
    own = (path.stem for path in files if "\nhost:" in path.read_text(encoding="utf-8"))
    return tuple(sorted(own))


def software_names() -> list[str]:
    """The names of the shipped software profiles, sorted."""
    return stems(shipped_folder() / PROFILES / "software", ".yaml")


def load_hardware(name_or_path: str, folders: Sequence[Path] = ()) -> HardwareProfile:
    """The shipped hardware profile of that name, or the one in the YAML file at that path.

    A relative path is looked up in ``folders`` (default: the working directory, then the shipped
    data). A machine chosen by its parts is named by the text of ``choice.text_of``.
    InputError: all mistakes of the file, each with line and column.
    """
    name, places = str(name_or_path), tuple(folders)
    if (parts := _parts_of(name)) is None:
        return _load_hardware(name, places, ())
    make = partial(_composed, text := text_of(parts), places)
    return make() if _names_files(parts) else made_once((HardwareProfile, text), make)


def _composed(text: str, places: tuple[Path, ...]) -> HardwareProfile:
    """The machine of the parts that ``text`` names."""
    profile = compose(text, places, partial(load_hardware, folders=places), card_names())
    _raise(Problem("", dotted(steps), what) for steps, what in breaches(profile))
    return profile


def _names_files(parts: Mapping[str, Any]) -> bool:
    """Whether ``parts`` may be the user's files, whatever is shipped."""
    named = [one.get("base") if isinstance(one, Mapping) else one for one in parts.values()]
    base = parts.get("base")
    own = base is not None and known_name(str(base), hardware_names()) is None
    return own or any(str(one).endswith((".yaml", ".yml")) for one in named)


def _parts_of(name: str) -> dict[str, Any] | None:
    """The parts of a machine that ``name`` stands for; None for a whole one."""
    if (known := machine_named(name)) in part_names("gpu"):
        return {"gpu": known}
    if not is_choice(name):
        return None
    parts: dict[str, Any] = choice_in(name).data
    return parts


def hardware_file(name_or_path: str, folders: Sequence[Path] = ()) -> Path:
    """The file that ``load_hardware`` reads first, of a machine of parts its GPU's; errors as
    there.
    """
    if (parts := _parts_of(str(name_or_path))) is not None:
        gpu = parts.get("gpu") or {}
        named = gpu.get("base") if isinstance(gpu, dict) else gpu
        name = str(named or parts.get("base"))
        name = machine_named(name) or name
        return part_file("gpu", name) or hardware_file(name, folders)
    shipped = shipped_folder() / PROFILES
    return _path("hardware", str(name_or_path), shipped, hardware_names(), folders)


def load_software(name_or_path: str, folders: Sequence[Path] = ()) -> SoftwareProfile:
    """The shipped software profile of that name, or the one in the YAML file at that path.

    Paths and errors as for ``load_hardware``.
    """
    path = _software_file(str(name_or_path), folders)

    def profile() -> SoftwareProfile:
        document = _software(path, tuple(folders), ())
        return validate(document, SoftwareFile).profile(path.stem)

    return _once(SoftwareProfile, path, profile)


def as_run_by(profile: str, software: str | None) -> HardwareProfile:
    """The machine ``profile`` as the ``software`` of that name uses it; as it is without one."""
    hardware = load_hardware(profile)
    return with_engine(hardware, load_software(software)) if software else hardware


def _once(of: type[Profile], path: Path, make: Callable[[], Profile]) -> Profile:
    """What ``make`` makes ``of`` the profile at ``path``; of a shipped one, on such alone, once."""
    shipped = shipped_folder() / PROFILES
    return made_once((of, path), make) if path.is_relative_to(shipped) else make()


def _software_file(name: str, folders: Sequence[Path]) -> Path:
    names, shipped = software_names(), shipped_folder() / PROFILES / "software"
    if known_name(name, names) is None and look_up(name, folders) is None:
        name = software_named(name, names) or name
    return _path("software", name, shipped, names, folders)


def _software(path: Path, folders: tuple[Path, ...], above: tuple[Path, ...]) -> Document:
    """The file at ``path``, checked, with all that it leaves out and its base has."""
    own = read_marked_document(path)
    check_kind(own.data, SOFTWARE, str(path))
    if path.resolve() in above:
        raise InputError([own.problem(("base",), f"'{path}' rests on itself; end the chain")])
    if not isinstance(base := own.get(("base",)), str):
        return _checked_software(own)
    beside = (path.parent, *folders) if folders else (path.parent, Path.cwd())
    try:
        below = _software_file(base, beside)
    except InputError as error:
        whats = (problem.what for problem in error.problems)
        raise InputError(own.problem(("base",), what) for what in whats) from None
    inherited: dict[str, Any] = _software(below, folders, (*above, path.resolve())).data
    _raise(_renamed_sources(own, own.get(("sources",), {}), inherited["sources"]))
    return _checked_software(replace(own, data=_over(inherited, own.data)))


def _over(below: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """``below`` with what ``own`` has; kernels, backends and sources are joined key by key."""
    joined = {
        key: merged(below[key], own[key])
        for key in ("kernels", "backends", "sources")
        if isinstance(below.get(key), Mapping) and isinstance(own.get(key), Mapping)
    }
    below = {key: value for key, value in below.items() if key != "since"}
    return {**below, **own, **joined}


def _checked_software(document: Document) -> Document:
    file = validate(document, SoftwareFile)
    _raise(_unknown_sources(document, file, file.sources))
    return document


def _load_hardware(
    name: str, folders: tuple[Path, ...], above: tuple[Path, ...]
) -> HardwareProfile:
    path = hardware_file(name, folders)
    if path.resolve() in above:
        what = f"'{path}' rests on itself; end the chain"
        raise InputError([read_marked_document(path).problem(("base",), what)])
    return _once(HardwareProfile, path, partial(_hardware, path, folders, (*above, path.resolve())))


def _hardware(path: Path, folders: tuple[Path, ...], above: tuple[Path, ...]) -> HardwareProfile:
    document = read_marked_document(path)
    check_kind(document.data, HARDWARE, str(path))
    inherited: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for key, parts in (("base", PARTS), ("topology", ("topology",)), ("network", ("network",))):
        if isinstance(other := document.get((key,)), str):
            found = _named(document, key, other, folders, above)
            inherited |= {part: getattr(found, part) for part in parts}
            inherited |= {one: getattr(found, one) for one in TOLD if key == "base"}
            sources |= found.sources
    for key in ("topology", "network"):
        if isinstance(document.get((key,)), str):
            document = document.without((key,))
    return _complete(document, path.stem, inherited, sources)


@lru_cache(maxsize=128)
def _is_card(name: str) -> bool:
    text = (shipped_folder() / PROFILES / f"{name}.yaml").read_text(encoding="utf-8")
    return "\ntopology:" not in text


def _named(
    document: Document, key: str, name: str, folders: tuple[Path, ...], above: tuple[Path, ...]
) -> HardwareProfile:
    beside = (above[-1].parent, *folders) if folders else (above[-1].parent, Path.cwd())
    try:
        if key == "base" and _parts_of(name) is not None:
            return load_hardware(name, beside)
        return _load_hardware(name, beside, above)
    except InputError as error:
        if any(problem.where for problem in error.problems):
            raise
        whats = (problem.what for problem in error.problems)
        raise InputError(document.problem((key,), what) for what in whats) from None


def _complete(
    document: Document, name: str, inherited: dict[str, Any], sources: dict[str, str]
) -> HardwareProfile:
    given = document
    for part in NUMBERS:
        document = _with_numbers_of(document, part, inherited.get(part))
    file = validate(document, HardwareFile)
    _raise(_unknown_sources(given, file, sources | file.sources))
    _raise(_renamed_sources(document, file.sources, sources))
    inherited |= {"calibrated": _fits_left(inherited, file)}
    own = {part: value for part in PARTS if (value := getattr(file, part)) is not None}
    parts = inherited | own
    for needed in ("datasheet", "host"):
        if parts.get(needed) is None:
            what = "is missing; write it, or name a profile that has it as 'base'"
            raise InputError([document.problem((needed,), what)])
    parts["unified"] = file.unified or inherited.get("unified", False)
    if not lacks_host(given.get(("host",))):
        parts["assumed_host"] = None
    profile = HardwareProfile(name=name, title=file.title, sources=sources | file.sources, **parts)
    _raise(document.problem(steps, what) for steps, what in breaches(profile))
    return profile


def _with_numbers_of(document: Document, part: str, below: Datasheet | Host | None) -> Document:
    """``document`` with the numbers of its ``part`` over those ``below``, where it has some."""
    own = document.get((part,))
    if below is None or not isinstance(own, Mapping):
        return document
    whole = merged(below.model_dump(mode="json", exclude_none=True), own)
    return replace(document, data={**document.data, part: whole})


def fits_beside(below: HardwareProfile, own: HardwareProfile) -> Calibrated | None:
    """The fits that a file with the numbers of ``own`` has of ``below``, its base."""
    return _fits_left({part: getattr(below, part) for part in PARTS}, own)


def _fits_left(
    inherited: Mapping[str, Any], file: HardwareFile | HardwareProfile
) -> Calibrated | None:
    """The fits of a file's base, less those of what the file replaces."""
    changed = {part: _changed(inherited.get(part), getattr(file, part)) for part in NUMBERS}
    fits: Calibrated | None = inherited.get("calibrated")
    return fits_left(fits, changed["datasheet"], host=bool(changed["host"]))


def _changed(below: BaseModel | None, own: BaseModel | None) -> set[str]:
    """The keys in which the two differ; none where one of them is not there."""
    if below is None or own is None:
        return set()
    return {key for key in type(own).model_fields if getattr(own, key) != getattr(below, key)}


def _unknown_sources(
    document: Document, file: BaseModel, known: dict[str, str]
) -> Iterator[Problem]:
    for steps, source in sources_used(file):
        if not known.get(source, "").strip():
            what = f"'{source}' is not among this file's 'sources'; {nearest(source, known)}"
            yield document.problem(steps, what)


def _renamed_sources(
    document: Document, own: Mapping[str, str], inherited: Mapping[str, str]
) -> Iterator[Problem]:
    for key, text in own.items():
        if inherited.get(key, text) != text:
            what = f"'{key}' stands for another source in the profile below; choose another key"
            yield document.problem(("sources", key), what)


def _raise(problems: Iterator[Problem]) -> None:
    if found := in_order(problems):
        raise InputError(found)


def _path(
    what: str, name: str, shipped: Path, names: Sequence[str], folders: Sequence[Path]
) -> Path:
    if (known := known_name(name, names)) is not None:
        return shipped / f"{known}.yaml"
    found = look_up(name, folders) if name else None
    if found is not None and not found.is_dir():
        return found
    meant = machine_named(name) if what == "hardware" else None
    if meant in names:
        return shipped / f"{meant}.yaml"
    if found is not None:
        raise InputError(f"{what} '{name}' is a folder; name the YAML file in it")
    near = near_machine(name) if what == "hardware" else near_software(name, list(names))
    raise InputError(
        f"{what} '{name}' is neither a shipped profile nor the path of a YAML file; {near}"
    )
