"""The links that host copies cross, and which of them are shared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Literal, get_args

from moesim.config.errors import InputError
from moesim.hardware.described.datasheet import Direction
from moesim.hardware.described.host import Host, Topology

DIRECTIONS: tuple[Direction, ...] = get_args(Direction)


@dataclass(frozen=True)
class Links:
    """The links of some GPUs' copies.

    ``h2d`` and ``d2h``: by GPU, the names of the links that its copy crosses, from the GPU to the
    host. ``capacity``: bytes a second by link; what a copy takes beyond its bytes over the GPU's
    own link is latency. A GPU's own link and a switch's uplink have a name for each direction
    (PCIe is full duplex); a NUMA node's memory serves both. ``host``: by GPU, the links that the
    experts cross which the host computes for it, where it does.
    """

    h2d: dict[int, tuple[str, ...]] = field(default_factory=dict)
    d2h: dict[int, tuple[str, ...]] = field(default_factory=dict)
    host: dict[int, tuple[str, ...]] = field(default_factory=dict)
    capacity: dict[str, int] = field(default_factory=dict)

    def on_nodes(self, nodes: int) -> Links:
        """As many equal nodes, each with links of its own; these GPUs are those of the first."""
        every, count = deepcopy(self), len(self.h2d)
        for node in range(1, nodes):
            for paths in ("h2d", "d2h", "host"):
                crossed: dict[int, tuple[str, ...]] = getattr(self, paths)
                getattr(every, paths).update(
                    (gpu + node * count, tuple(f"node {node} {link}" for link in links))
                    for gpu, links in crossed.items()
                )
            every.capacity.update(
                (f"node {node} {link}", rate) for link, rate in self.capacity.items()
            )
        return every

    def crossed(self, gpu: int, direction: Direction) -> tuple[str, ...]:
        """The links that a copy of ``gpu`` crosses."""
        paths: dict[int, tuple[str, ...]] = getattr(self, direction)
        return paths[gpu]

    def rate(self, gpu: int, direction: Direction) -> int:
        """Bytes a second of a copy that is alone: the least link's."""
        return min(self.capacity[link] for link in self.crossed(gpu, direction))

    def shared(self, direction: Direction | Literal["both"] = "both") -> frozenset[str]:
        """The links whose users' peak rates add up to more than their capacity.

        The users are the copies of ``direction``, one a GPU, and what the host reads for each; a
        user's peak is its own link.
        """
        demand = dict.fromkeys(self.capacity, 0)
        ways = DIRECTIONS if direction == "both" else (direction,)
        users = [self.crossed(gpu, way) for way in ways for gpu in self.h2d]
        for own, *rest in (*users, *self.host.values()):
            for link in rest:
                demand[link] += self.capacity[own]
        return frozenset(link for link, users in demand.items() if users > self.capacity[link])


def links_between(
    own_rate: Mapping[Direction, int],
    host: Host,
    topology: Topology | None,
    gpus: Sequence[int],
    *,
    host_reads: bool = False,
) -> Links:
    """The links of ``gpus``; without a topology each has its own root port and nothing else.

    ``own_rate``: bytes a second of a GPU's own link. ``host_reads``: the host computes experts, and
    what it reads and what copies read comes from the memory of the GPU's NUMA node (without a
    topology: GPUs spread evenly over nodes).
    """
    links = Links()
    for gpu in gpus:
        if topology is not None and gpu not in topology.gpus:
            raise InputError(f"GPU {gpu} is not one of the node's {len(topology.gpus)} GPUs")
        for direction in DIRECTIONS:
            crossed = {f"gpu {gpu} {direction}": own_rate[direction]}
            if topology is not None:
                crossed |= _beyond(host, topology, gpu, direction)
            elif host_reads:
                crossed |= _memory(host, gpus.index(gpu) * host.numa_nodes.value // len(gpus))
            getattr(links, direction)[gpu] = tuple(crossed)
            links.capacity.update(crossed)
        if host_reads:
            share = host.expert_bytes_per_second // -(-len(gpus) // host.numa_nodes.value)
            own = {f"gpu {gpu} host": share}
            links.host[gpu] = (*own, links.h2d[gpu][-1])
            links.capacity.update(own)
    return links


def _memory(host: Host, node: int) -> dict[str, int]:
    return {f"numa {node} memory": int(host.node_bytes_per_second * host.expert_nodes)}


def _beyond(host: Host, topology: Topology, gpu: int, direction: Direction) -> dict[str, int]:
    switch = topology.switch_of(gpu)
    memory = _memory(host, topology.numa_of(gpu))
    if switch is None:
        return memory
    uplink = int(topology.switches[switch].uplink.value)
    return {f"switch {switch} {direction}": uplink, **memory}
