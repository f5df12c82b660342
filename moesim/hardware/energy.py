"""What the parts of a machine draw: by the keys of ``energy``, by their own files, or by priors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import Field

from moesim.config.params import Params
from moesim.config.units import Grams, GramsPerKwh, Hours, JoulesPerByte, Watts, WattsPerByte
from moesim.hardware.described.sourced import Sourced
from moesim.hardware.profile import HardwareProfile

WAITING_SHARE = 0.2
"""Of a GPU's board power while it waits with its clocks up; from memory: cards with a context open
draw 15 to 30 % of it. No datasheet prints it."""
IDLE_SHARE = 0.25
"""Of a CPU's power while it computes no experts, and of a drive's that is awake; from memory: 20 to
35 % of packages' TDP, 1 to 2 W of NVMe drives."""
DRAM_WATTS_PER_BYTE = 26 / 256e9
"""Of memory, used or not: 26 W for 256 GB (M2Cache, arXiv 2410.14740)."""
LINK_JOULES_PER_BYTE = 8 * 6e-12
"""Of a byte over PCIe, both ends; from memory: 5 to 7 pJ a bit of PCIe 4 and 5."""
PRIORS = {
    "gpu_waiting": f"prior, from memory: {WAITING_SHARE:.0%} of the board's power",
    "cpu_idle": f"prior, from memory: {IDLE_SHARE:.0%} of the CPU's power",
    "dram": "prior, 26 W for 256 GB (M2Cache, arXiv 2410.14740)",
    "storage_idle": f"prior, from memory: {IDLE_SHARE:.0%} of the drive's power",
    "link": "prior, from memory: 6 pJ a bit",
}
RESTING = {"gpu": "gpu_waiting", "cpu": "cpu_idle", "storage": "storage_idle"}
"""By part that works or rests the key of what it draws while it rests."""
GIVEN = "given in the experiment"
SHARED = "its memory is the GPU's, whose board power has it"


class Energy(Params):
    """What parts draw, where it should not be what the machine's files say, and what of it is to be
    known beyond joules.
    """

    gpu: Watts | None = Field(None, description="A GPU's whole board while it computes.")
    gpu_waiting: Watts | None = Field(None, description="The same while it waits or is idle.")
    cpu: Watts | None = Field(
        None, description="All CPU packages of a node while they compute experts."
    )
    cpu_idle: Watts | None = Field(None, description="The same while they do not.")
    dram: WattsPerByte | None = Field(
        None, description="Host memory that is installed, as in 0.1 W/GB."
    )
    storage: Watts | None = Field(None, description="A node's drive while it reads.")
    storage_idle: Watts | None = Field(None, description="The same while it does not.")
    link: JoulesPerByte | None = Field(
        None, description="A byte between host and GPU, as in 6 pJ/bit."
    )
    other: Watts | None = Field(
        None, description="What else a node draws: fans, mainboard, losses of its supply."
    )
    carbon: GramsPerKwh | None = Field(None, description="The grid, as in 400 g/kWh.")
    embodied: Grams | None = Field(
        None, description="CO2 of making all that the run uses, spread over 'life'."
    )
    life: Hours | None = Field(None, description="Hours in use, as in '4 years'.")


class Figure(NamedTuple):
    """A number and where it comes from."""

    value: float
    source: str


@dataclass(frozen=True)
class Powers:
    """What is known of a machine, in W, W/B and J/B; None: of this nothing is counted.

    ``gpu``, ``cpu`` and ``storage``: a part that works, and the same that does not; ``without``
    says why a part has no number.
    """

    gpu: tuple[Figure, Figure] | None
    cpu: tuple[Figure, Figure] | None
    dram: Figure | None
    storage: tuple[Figure, Figure] | None
    link: Figure | None
    other: Figure | None
    without: dict[str, str]
    memory_bytes: float
    """Of the host, which draws ``dram``."""

    def notes(self) -> list[str]:
        """Each number with its source, then what is left out."""
        return [*self._told(), *(f"left out: {part} ({why})" for part, why in self.without.items())]

    def _told(self) -> Iterator[str]:
        for part in RESTING:
            if (both := getattr(self, part)) is not None:
                busy, idle = both
                rest = f"{idle.value:.4g} W while it does not ({idle.source})"
                yield f"{part}: {busy.value:.4g} W while it works ({busy.source}), {rest}"
        if self.dram is not None:
            size, each = self.memory_bytes / 1e9, self.dram.value * 1e9
            of = f"of the host's {size:.4g} GB, {size * each:.3g} W"
            yield f"dram: {each:.3g} W/GB {of} ({self.dram.source})"
        if self.link is not None:
            yield f"link: {self.link.value * 1e12 / 8:.3g} pJ/bit ({self.link.source})"
        if self.other is not None:
            yield f"other: {self.other.value:.4g} W ({self.other.source})"


def powers_of(energy: Energy, hardware: HardwareProfile) -> Powers:
    """What ``hardware`` draws by ``energy``, by its own files, and by priors in this order."""
    card, host, drive = hardware.datasheet, hardware.host, hardware.host.storage
    found = _Found(energy, hardware.sources)
    gpu = found.both("gpu", card.power, card.waiting_power, WAITING_SHARE)
    cpu = found.both("cpu", host.power, host.idle_power, IDLE_SHARE)
    dram = found.one("dram", host.memory_power, DRAM_WATTS_PER_BYTE)
    storage = found.both(
        "storage",
        drive.power if drive else None,
        drive.idle_power if drive else None,
        IDLE_SHARE,
    )
    link = found.one("link", card.link_energy, LINK_JOULES_PER_BYTE)
    parts = {"gpu": gpu, "cpu": cpu, "storage": storage}
    without = {part: f"no power is known; write energy.{part}" for part in parts if not parts[part]}
    if drive is None and storage is None:
        del without["storage"]
    if hardware.unified:
        without |= {"dram": SHARED, "link": SHARED}
        without |= {} if cpu else {"cpu": "its chip is the GPU's, whose power has it"}
        dram = link = None
    other, memory = found.one("other", None, None), host.memory.value
    return Powers(gpu, cpu, dram, storage, link, other, without, memory)


class _Found(NamedTuple):
    """Looks up one number after the other."""

    energy: Energy
    sources: dict[str, str]

    def one(self, key: str, own: Sourced[float] | None, prior: float | None) -> Figure | None:
        """The number of ``key``."""
        given = getattr(self.energy, key)
        if given is not None:
            return Figure(given, GIVEN)
        if own is not None:
            return Figure(own.value, self.sources.get(own.source, own.source))
        return None if prior is None else Figure(prior, PRIORS[key])

    def both(
        self,
        key: str,
        own: Sourced[float] | None,
        resting: Sourced[float] | None,
        share: float,
    ) -> tuple[Figure, Figure] | None:
        """The numbers of a part that works and that does not, at least ``share`` of the first."""
        if (busy := self.one(key, own, None)) is None:
            return None
        idle = self.one(RESTING[key], resting, share * busy.value)
        assert idle is not None, "there is a prior"
        return busy, idle
