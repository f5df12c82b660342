"""An expert that the host computes."""

from __future__ import annotations

import re
from functools import cache
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.described.host import ExpertShare, Host
from moesim.hardware.described.names import fitted_names
from moesim.hardware.described.reached import experts_reach
from moesim.hardware.layers import load_part, part_names
from moesim.hardware.operation import Operation, known_fits
from moesim.hardware.operations.kernels.host_work import core_rate, read_and_computed
from moesim.hardware.operations.kernels.work import KERNELS, kernel_fit_for, kernel_part
from moesim.hardware.prices.arrays import Ints
from moesim.hardware.prices.calibrated import Fit
from moesim.hardware.prices.parts import Part, fitted_source
from moesim.hardware.prices.provenance import Source
from moesim.hardware.profile import HardwareProfile
from moesim.model.spec import FfnSpec, LayerSpec

FITTED = "fitted to one run"
FITTED_TO = re.compile(rf"{FITTED}: ([\d.e+-]+) tokens/s")
"""What the source of a share begins with that 'moesim calibrate host' found."""
REACHED = experts_reach()
"""Shares of the DRAM peak that real runs reach which compute experts on the CPU: 90 % of them."""

PRODUCTS_OFF = (0.88, 1.35)
"""How many times as long as their price 72 runs of Qwen3-30B-A3B's layers took on a host whose
reads were measured, 5th and 95th percentile (evidence, pack ``two_cores``): prompts, answers, six
formats.
"""
FEW_CORES = 16
"""Of hosts whose experts are taken to reach what their threads read: assumed, desktops have no
more.
"""
FITTED_OFF = (0.63, 1.51)
"""How many times as long experts took in other runs of a host that was fitted to one: nine of ten
of 194 pairs whose other run is of ``offload_sweeps`` and spends 40 % of its time or more there
(``fitted_hosts``, ``judged``); 18 are fitted to one of ``offload_reports`` (else 0.62 to 1.49).
"""
OF_READS = 0.32
"""The least share of what readers were given that experts reached on larger hosts: 32 to 80 % of
four (a Xeon 6980P, two EPYC, a Threadripper PRO; docs/evidence_offloading.md).
"""


def host_notes(profile: HardwareProfile, trace: str, top_k: int) -> list[str]:
    """What an experts' share of the DRAM peak that nobody measured leaves open, and what would
    narrow it; of one that was fitted to a run, to which, and with which trace where that is not the
    ``trace`` of ``top_k`` experts a token that is run.
    """
    share = profile.host.expert_share
    if kernel_fit_for(profile, CpuExpert.kind) is not None:
        return []
    source = profile.sources.get(share.source, "")
    if source.startswith(FITTED) and isinstance(share, ExpertShare):
        told = f"experts on the CPU reach {share.value:.0%} of the DRAM peak, {source}"
        return [told + _other_trace(share, trace, top_k)]
    if not source.startswith("prior"):
        return []
    least, most = (share.value / end for end in reversed(REACHED))
    reach = (
        f"experts on the CPU reach {share.value:.0%} of the DRAM peak, which is a prior: real runs"
    )
    span = (
        f"reached {REACHED[0]:.0%} to {REACHED[1]:.0%}, so they may take {least:.1f} to {most:.1f}"
    )
    remedy = "times as long; the tokens/s of one run of this host would narrow it"
    told = f"{reach} {span} {remedy} ('moesim calibrate host'){_alike(profile.host)}"
    return [told]


def node_notes(host: Host) -> list[str]:
    """That the experts of one GPU have the memory and cores of one NUMA node, where the host has
    others and nothing says what these add.
    """
    nodes, own = host.numa_nodes.value, host.memory_bandwidth.value / 1e9
    if nodes == 1 or host.remote_node_fraction is not None:
        return []
    what = f"experts lie on one of its {nodes} NUMA nodes, and have its cores and {own:g} GB/s of"
    remedy = (
        "DRAM peak alone; where the engine splits them over all, say what the others add, as in"
    )
    return [f"{what} {remedy} hardware: {{host: {{..., remote_node_fraction: 80 %}}}}"]


def assumed_host_notes(profile: HardwareProfile) -> list[str]:
    """The host that is taken where none was named, for runs that need one."""
    if (host := profile.assumed_host) is None:
        return []
    return [f"{host} is assumed, as none is named; hardware.host names yours ('moesim list hosts')"]


def share_is_prior(profile: HardwareProfile) -> bool:
    """Whether nobody measured what experts on the CPU of this host reach."""
    return _source_of_share(profile).startswith("prior")


def share_is_fitted(profile: HardwareProfile) -> bool:
    """Whether what experts on the CPU of this host reach was found from one run of it."""
    return _source_of_share(profile).startswith(FITTED)


def fitted_speed(profile: HardwareProfile) -> float | None:
    """Tokens/s of the run that it was found from; None where it was not, or nobody says."""
    found = FITTED_TO.match(_source_of_share(profile))
    return None if found is None else float(found[1])


def share_is_measured(profile: HardwareProfile) -> bool:
    """Whether what this host's threads read was measured, and no run that computes experts."""
    return _source_of_share(profile).startswith("measured")


def _source_of_share(profile: HardwareProfile) -> str:
    """Empty where experts have a fit of their own."""
    if kernel_fit_for(profile, CpuExpert.kind) is not None:
        return ""
    return profile.sources.get(profile.host.expert_share.source, "")


def _alike(host: Host) -> str:
    """The shipped hosts with such a memory that were fitted to a run."""
    memory = (host.memory_bandwidth.value, host.numa_nodes.value)
    found = [f"'{name}' ({share:.0%})" for name, of, share in _fitted_hosts() if of == memory]
    if not found:
        return ""
    return f"; with such a memory, fitted to one published run each: host {' or '.join(found)}"


@cache
def _fitted_hosts() -> tuple[tuple[str, tuple[float, int], float], ...]:
    """Of each its name, its memory, and the share that it reaches."""
    hosts = [(name, load_part("host", name)) for name in fitted_names(part_names("host"))]
    return tuple(
        (name, (one.memory_bandwidth.value, one.numa_nodes.value), one.expert_share.value)
        for name, one in hosts
        if isinstance(one, Host)
    )


def _other_trace(share: ExpertShare, trace: str, top_k: int) -> str:
    """What the share was fitted with, where that is not what is run."""
    fitted = (share.trace, share.experts_per_token)
    if share.trace is None or fitted == (trace, top_k):
        return ""
    told = f"with trace '{share.trace}' ({share.experts_per_token} experts a token)"
    return f"; it was fitted {told}, and this run has '{trace}' ({top_k}), so it is another run"


class CpuExpert(Operation):
    """Reading the weights and computing the rows (``read_and_computed``), on the share of a NUMA
    node that one GPU has; a profile's fit of ``cpu_expert`` where it has one.
    """

    kind: ClassVar[str] = "cpu_expert"
    category: ClassVar[str] = "waiting_for_cpu"
    machine_part: ClassVar[str] = "host"

    @property
    def fits(self) -> tuple[Fit, ...]:
        """See ``Operation``."""
        return known_fits((kernel_fit_for(self.hardware, self.kind),))

    def parts(self, layer: LayerSpec, rows: ArrayLike) -> list[Part]:
        """See ``CostModel.cpu_expert_ns``."""
        expert, count = _expert(layer), np.asarray(rows, np.float64)
        elements = expert.matrix_elements
        if (fit := kernel_fit_for(self.hardware, self.kind)) is None:
            operations = 2.0 * elements * count
            of_core = core_rate(self.hardware, expert.dtype, count)
            return [
                read_and_computed(
                    self.hardware.host,
                    self.gpus_per_node,
                    np.float64(expert.bytes),
                    operations,
                    of_core,
                ),
            ]
        shape = {
            "tokens": count,
            "hidden": np.float64(expert.hidden_size),
            "inter": np.float64(expert.intermediate_size),
            "gated": np.float64(expert.gated),
            "element_bytes": np.float64(expert.bytes / elements),
        }
        work = KERNELS[self.kind](shape)  # type: ignore[arg-type]
        return [kernel_part(fit, work, self.gpus_per_node)]

    def sources(self, layer: LayerSpec, rows: ArrayLike) -> Source | Ints:
        """See ``Operation``."""
        if (fit := kernel_fit_for(self.hardware, self.kind)) is None:
            return Source.DATASHEET
        expert = _expert(layer)
        columns = {"hidden": expert.hidden_size, "inter": expert.intermediate_size}
        return fitted_source(fit.measured, columns | {"tokens": np.asarray(rows)})


def _expert(layer: LayerSpec) -> FfnSpec:
    assert layer.moe is not None, "a dense layer has no routed experts"
    return layer.moe.expert
