"""A machine put together from a GPU, a host and a link, each a shipped file, a user's, or numbers
written in the experiment.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from moesim.config.document import Document, Mark, Steps
from moesim.config.errors import InputError, Problem, nearest
from moesim.hardware.choice import Choice, choice_in, words
from moesim.hardware.described.datasheet import (
    Copies,
    Datasheet,
    GpuNumbers,
    HostMemoryCopies,
    Peers,
)
from moesim.hardware.described.host import Host
from moesim.hardware.described.names import known_part
from moesim.hardware.described.near_memory import NearMemory
from moesim.hardware.described.sheets import Gpu, Link, Reach
from moesim.hardware.described.sourced import Sourced
from moesim.hardware.described.storage import Storage
from moesim.hardware.layers import (
    GIVEN,
    KINDS,
    Chosen,
    Layer,
    from_file,
    inline,
    of_whole,
    part_names,
    plural,
    priors,
)
from moesim.hardware.prices.calibrated import Calibrated
from moesim.hardware.profile import HardwareProfile

NOT_FITTED = ("memory", "context_reserve", "power", "waiting_power")
"""Numbers of a GPU that no fit of its kernels rests on."""
BESIDE = ("near_memory", "storage")
"""Parts that a machine has where they are named alone."""
Whole = Callable[[str], HardwareProfile]
"""The whole machine of a name; InputError where there is none."""


def fits_left(
    fits: Calibrated | None, changed: Collection[str], *, host: bool
) -> Calibrated | None:
    """``fits`` less those of the GPU's numbers that are ``changed``, and of another ``host``."""
    if fits is None or set(changed) - set(NOT_FITTED):
        return None
    if not host:
        return fits
    kernels = tuple(fit for fit in fits.kernels if fit.op != "cpu_expert")
    return fits.model_copy(update={"kernels": kernels})


def compose(
    text: str, folders: Sequence[Path], whole: Whole, cards: Sequence[str]
) -> HardwareProfile:
    """The machine that ``text`` stands for; ``cards``: whole machines whose GPU has a name.

    InputError: what is wrong in files with line and column, what is wrong in ``text`` with the
    path in it.
    """
    document = choice_in(text)
    data: dict[str, Any] = document.data
    if problems := list(_wrong_keys(data)):
        raise InputError(problems)
    base = _whole(whole, data["base"], "base") if data.get("base") is not None else None
    if base is not None and base.unified:
        data, base = _of_unified(data), None
    find = partial(_chosen, base=base, folders=folders, whole=whole, cards=cards)
    without = lacks_host(data.get("host"))
    try:
        gpu = find("gpu", data.get("gpu"))
    except InputError as error:
        others = {**data, "host": None} if without else data
        raise InputError([*error.problems, *_wrong_others(others, find)]) from None
    assumed = None
    if without:
        base = base or gpu.whole
        assumed = base.assumed_host if base else _usual_host(gpu)
    if assumed is not None:
        data = {**data, "host": {"base": assumed, **(data.get("host") or {})}}
    return _Machine(words(text), gpu, base, data, assumed).profile(partial(find, base=base))


def lacks_host(host: Any) -> bool:
    """Whether ``host`` is nothing, or numbers that are too few for one and over none."""
    if host is None:
        return True
    needed = (name for name, field in Host.model_fields.items() if field.is_required())
    return isinstance(host, Mapping) and "base" not in host and not host.keys() >= set(needed)


def _usual_host(gpu: Chosen) -> str | None:
    card = gpu.part(Gpu)
    return None if card.host else card.usual_host


def _wrong_others(data: Mapping[str, Any], find: Callable[[str, Any], Chosen]) -> list[Problem]:
    """What is wrong with the other parts that ``data`` has."""
    problems: list[Problem] = []
    for kind in ("host", "link", *BESIDE):
        if data.get(kind) is not None:
            try:
                find(kind, data[kind]).part(KINDS[kind])
            except InputError as error:
                problems += error.problems
    return problems


def _of_unified(data: Mapping[str, Any]) -> dict[str, Any]:
    """``data`` whose base is a GPU that has a CPU in it, as that GPU."""
    own = {key: value for key, value in data.items() if key != "base"}
    given = own.get("gpu")
    if given is None or isinstance(given, Mapping):
        own["gpu"] = {"base": data["base"], **(given or {})}
    return own


@dataclass
class _Machine:
    """What is known of a machine once its GPU is."""

    name: str
    gpu: Chosen
    base: HardwareProfile | None
    data: Mapping[str, Any]
    assumed_host: str | None

    def profile(self, find: Callable[[str, Any], Chosen]) -> HardwareProfile:
        """The profile; ``find`` finds the other parts."""
        card: Gpu | Datasheet
        card = self.gpu.part(Datasheet) if self.gpu.whole else self.gpu.part(Gpu)
        if isinstance(card, Gpu) and card.host is not None:
            return self._unified(card, card.host, find)
        if problems := _wrong_others(self.data, find):
            raise InputError(problems)
        chosen = find("host", self.data.get("host"))
        host, drive = self._with_storage(chosen.part(Host), find)
        link, sources = None, self.gpu.sources | chosen.sources | drive
        if self.data.get("link") is not None or isinstance(card, Gpu):
            own = card.link if isinstance(card, Gpu) else None
            chosen = find("link", self.data.get("link") or own)
            link, sources = chosen.part(Link), sources | chosen.sources
        near, device = self._near_memory(find)
        wiring = self.base is not None and self.gpu.whole is self.base
        return HardwareProfile(
            name=self.name,
            title=self.name,
            sources=sources | device,
            datasheet=self._datasheet(card, link, host),
            host=host,
            topology=self.base.topology if wiring and self.base else None,
            network=self.base.network if wiring and self.base else None,
            calibrated=self._fits(),
            near_memory=near,
            assumed_host=self.assumed_host,
        )

    def _with_storage(
        self, host: Host, find: Callable[[str, Any], Chosen]
    ) -> tuple[Host, dict[str, str]]:
        """``host`` with the drive that is named, and its sources."""
        if self.data.get("storage") is None:
            return host, {}
        drive = find("storage", self.data["storage"])
        return host.model_copy(update={"storage": drive.part(Storage)}), drive.sources

    def _near_memory(
        self, find: Callable[[str, Any], Chosen]
    ) -> tuple[NearMemory | None, dict[str, str]]:
        """The device that is named, else the base's, and the sources of one that is named."""
        if self.data.get("near_memory") is None:
            return (self.base.near_memory if self.base else None), {}
        device = find("near_memory", self.data["near_memory"])
        return device.part(NearMemory), device.sources

    def _datasheet(self, card: Gpu | Datasheet, link: Link | None, host: Host) -> Datasheet:
        if link is None:
            assert isinstance(card, Datasheet)
            if self.data.get("peers") not in (None, card.peers.kind):
                raise InputError([_problem("peers", self._no_peers())])
            return card.model_copy(update={"copies": _staged(card.copies, host)})
        self._check_link(card, link)
        numbers = {name: getattr(card, name) for name in GpuNumbers.model_fields}
        peers = self._peers(card, link)
        return Datasheet(
            **numbers,
            pcie=link.pcie,
            copies=_staged(link.copies, host),
            peers=peers,
            link_energy=link.link_energy,
        )

    def _peers(self, card: Gpu | Datasheet, link: Link) -> Peers:
        wanted = self.data.get("peers")
        if isinstance(card, Datasheet):
            if wanted not in (None, card.peers.kind):
                raise InputError([_problem("peers", self._no_peers())])
            if card.peers.kind == "nvlink":
                return card.peers
            return card.peers.model_copy(update={"bandwidth": _slower(link.copies)})
        if wanted == "nvlink" and card.nvlink is None:
            raise InputError([_problem("peers", self._no_peers())])
        if card.nvlink is not None and (wanted == "nvlink" or not (wanted or card.bridge)):
            return _peers("nvlink", card.nvlink, card.over_nvlink)
        return _peers("pcie", _slower(link.copies), card.over_pcie)

    def _no_peers(self) -> str:
        wanted = self.data.get("peers")
        if wanted == "pcie":
            return f"'{self.gpu.name}' is joined by NVLink on its board; leave 'peers' out"
        return f"'{self.gpu.name}' has no NVLink; write pcie, or a GPU that has it"

    def _check_link(self, card: Gpu | Datasheet, link: Link) -> None:
        name, most = self.data.get("link"), None
        if card.link is not None:
            most = from_file("link", card.link, (), ("link",), ()).part(Link)
        limits = (most.pcie if most else getattr(card, "pcie", link.pcie)).value
        fits = link.pcie.value <= limits
        if most is not None and fits:
            fits = (most.generation is None) == (link.generation is None)
            for key in ("generation", "lanes"):
                mine, its = getattr(link, key), getattr(most, key)
                fits &= mine is None or its is None or mine.value <= its.value
        if not fits:
            told = f"'{card.link}'" if most else f"{limits / 1e9:g} GB/s"
            what = f"'{self.gpu.name}' does not take {_told(name)}: its link is {told} at most"
            raise InputError([_problem("link", f"{what}; write that, or leave 'link' out")])

    def _unified(self, card: Gpu, own: Host, find: Callable[[str, Any], Chosen]) -> HardwareProfile:
        """One memory: nothing is copied, so its copies are as fast as it and start at once."""
        chosen = self._own_host(own)
        host, drive = self._with_storage(chosen.part(Host), find)
        for key in ("link", "peers", "near_memory"):
            if self.data.get(key) is not None:
                what = f"'{self.gpu.name}' shares one memory with its CPU, so no link copies"
                raise InputError([_problem(key, f"{what}; leave '{key}' out")])
        rate = card.memory_bandwidth
        here = {"source": rate.source}
        copy = {"latency": {"value": "0 us", **here}, "bandwidth": rate.model_dump(mode="json")}
        ways = {"pinned": copy, "pageable": copy}
        copies = Copies.model_validate({"h2d": ways, "d2h": ways})
        numbers = {name: getattr(card, name) for name in GpuNumbers.model_fields}
        return HardwareProfile(
            name=self.name,
            title=self.name,
            sources=self.gpu.sources | chosen.sources | drive,
            datasheet=Datasheet(
                **numbers, pcie=rate, copies=copies, peers=_peers("pcie", rate, card.over_pcie)
            ),
            host=host,
            unified=True,
        )

    def _own_host(self, own: Host) -> Chosen:
        layers = [Layer(Document(own.model_dump(mode="json", exclude_none=True), Mark("")))]
        given = self.data.get("host")
        if isinstance(given, Mapping) and "base" not in given:
            layers.append(inline("host", given))
        elif given is not None:
            what = f"'{self.gpu.name}' shares one memory with its CPU and takes no other host"
            raise InputError([_problem("host", f"{what}; leave 'host' out")])
        return Chosen("host", self.gpu.name, layers)

    def _fits(self) -> Calibrated | None:
        """What was fitted to the GPU, less what was fitted to parts that are replaced here."""
        fits = self.gpu.whole.calibrated if self.gpu.whole else None
        fits = fits_left(fits, self.gpu.given, host=self.data.get("host") is not None)
        if fits is None:
            return None
        replaced: dict[str, Any] = {}
        if self.data.get("link") is not None:
            joined = self.gpu.whole is not None and self.gpu.whole.datasheet.peers.kind == "nvlink"
            replaced = {"copies": ()} | ({} if joined else {"collectives": ()})
        return fits.model_copy(update=replaced)


def _chosen(
    kind: str,
    value: Any,
    *,
    base: HardwareProfile | None,
    folders: Sequence[Path],
    whole: Whole,
    cards: Sequence[str],
) -> Chosen:
    """The part ``kind`` that ``value`` is: a name, numbers over a base, or nothing."""
    names = cards if kind == "gpu" else ()
    if isinstance(value, Mapping):
        place: Steps = (kind, "base")
        named = value.get("base")
        numbers = {key: entry for key, entry in value.items() if key != "base"}
    else:
        named, numbers, place = value, {}, (kind,)
    if named is not None:
        name = known_part(str(named), {*names, *part_names(kind)}) or str(named)
        if name in names:
            chosen = of_whole(kind, _whole(whole, name, kind))
        else:
            chosen = from_file(kind, name, folders, place, names)
    elif base is not None and kind not in ("link", *BESIDE):
        chosen = of_whole(kind, base)
    elif isinstance(value, Mapping) and numbers:
        chosen = Chosen(kind, GIVEN, [priors()] if kind == "gpu" else [])
    else:
        said = "is missing" if value is None else "is empty"
        what = f"{said}; write one ('moesim list {plural(kind)}')"
        if kind not in ("link", *BESIDE):
            what += ", or a whole machine as 'base'"
        raise InputError([_problem(kind, what)])
    if numbers:
        model = Datasheet if kind == "gpu" and chosen.whole else KINDS[kind]
        chosen.layers.append(inline(kind, numbers, model))
    return chosen


def _whole(whole: Whole, name: Any, key: str) -> HardwareProfile:
    try:
        return whole(str(name))
    except InputError as error:
        problems = error.problems
        own = (problem if problem.where else _problem(key, problem.what) for problem in problems)
        raise InputError(own) from None


def _staged(copies: Copies, host: Host) -> Copies:
    """``copies``, those of pageable memory as fast as ``host`` stages them, pinned ones at most."""
    if (staging := host.staging) is None:
        return copies

    def of(kinds: HostMemoryCopies) -> HostMemoryCopies:
        bandwidth = min(staging, kinds.pinned.bandwidth, key=lambda rate: rate.value)
        pageable = kinds.pageable.model_copy(update={"bandwidth": bandwidth})
        return kinds.model_copy(update={"pageable": pageable})

    return copies.model_copy(update={"h2d": of(copies.h2d), "d2h": of(copies.d2h)})


def _slower(copies: Copies) -> Sourced[Any]:
    """What a byte reaches that goes to the host and back."""
    return min(
        (way.pinned.bandwidth for way in (copies.h2d, copies.d2h)), key=lambda rate: rate.value
    )


def _peers(kind: Any, bandwidth: Sourced[Any], reach: Reach) -> Peers:
    fraction = reach.all_to_all_fraction
    return Peers(
        kind=kind, latency=reach.latency, bandwidth=bandwidth, all_to_all_fraction=fraction
    )


def _wrong_keys(data: Any) -> Iterator[Problem]:
    for key, value in data.items():
        if key not in Choice.model_fields:
            what = f"is not a known key; {nearest(str(key), Choice.model_fields)}"
            yield _problem(str(key), what)
        elif key == "peers" and value not in (None, "nvlink", "pcie"):
            yield _problem(key, f"{_told(value)} is not known; allowed: nvlink, pcie")
        elif key == "base" and not isinstance(value, str | int):
            yield _problem(key, "the name of a whole machine is expected")
        elif key == "gpu" and isinstance(value, list | tuple):
            what = "all GPUs of a run are of one kind, so that one name, or keys with numbers"
            yield _problem(key, f"a list: {what}, is expected; 'parallelism' says how many")
        elif not isinstance(value, str | int | Mapping | None) or isinstance(value, bool):
            yield _problem(key, f"{_told(value)}: a name, or keys with numbers, is expected")


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"'{value.get('base', 'this link')}'"
    return f"'{value}'"


def _problem(key: str, what: str) -> Problem:
    return Mark("").problem((key,), what)
