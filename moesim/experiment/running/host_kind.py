"""What kind of machine a host is: hosts of one kind are off together where nobody measured them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from moesim.hardware import HardwareProfile, load_hardware
from moesim.hardware.choice import choice_in, is_choice
from moesim.hardware.described.host import Host
from moesim.hardware.layers import load_part

CHANNELS = re.compile(r"\b(\d+|two|four|six|eight|twelve) channels of DDR([45])")
"""How the sources of DRAM's peaks say what it is."""
WORDS = {"two": 2, "four": 4, "six": 6, "eight": 8, "twelve": 12}
RATES = {4: (1600, 5000), 5: (3200, 9600)}
"""Million transfers a second of eight bytes that modules of each generation are sold with, those
that are overclocked included (from memory).
"""


def host_kind(hardware: HardwareProfile, named: str, folders: Sequence[Path], name: str) -> str:
    """The channels and the generation of the DRAM of ``hardware``, which ``named`` stands for;
    ``name`` of its host where these are not known, with its numbers where another number of cores
    is given, or a bandwidth that no such memory has.
    """
    host = hardware.host
    if (found := _channels(hardware)) is None:
        return name
    channels, generation = found
    least, most = (channels * 8e6 * rate for rate in RATES[generation])
    own = not least <= host.memory_bandwidth.value <= most
    if own or _other_cores(host, named, folders):
        rate = host.memory_bandwidth.value / 1e9
        return f"{name} with {rate:g} GB/s and {host.cores.value} cores"
    return f"hosts with {channels} channels of DDR{generation}"


def _channels(hardware: HardwareProfile) -> tuple[int, int] | None:
    """By the source of the DRAM's peak, else of what that was given over: the last is the host's,
    others are those of a whole machine in whose place it is.
    """
    texts = [*hardware.sources.values(), hardware.sources.get(_peak_source(hardware), "")]
    found = [match for text in texts if (match := CHANNELS.search(text))]
    if not found:
        return None
    count, generation = found[-1].groups()
    return WORDS.get(count) or int(count), int(generation)


def _peak_source(hardware: HardwareProfile) -> str:
    return hardware.host.memory_bandwidth.source


def _other_cores(host: Host, named: str, folders: Sequence[Path]) -> bool:
    """Whether the experiment gives another number of cores, or of NUMA nodes, than its base has."""
    data: Mapping[str, Any] = choice_in(named).data if is_choice(named) else {}
    part = data.get("host")
    if not isinstance(part, Mapping) or not {"cores", "numa_nodes"} & {*part}:
        return False
    if (base := part.get("base")) is not None:
        below = load_part("host", str(base), folders)
    elif data.get("base") is not None:
        below = load_hardware(str(data["base"]), folders).host
    else:
        return True
    assert isinstance(below, Host), "the base of a host"
    return (below.cores.value, below.numa_nodes.value) != (host.cores.value, host.numa_nodes.value)
