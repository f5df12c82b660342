"""What the host launches, and what it waits for, layer by layer (docs/semantics.md)."""

from __future__ import annotations

from typing import NamedTuple

from moesim.config.registry import kind_of
from moesim.engine.case import Case
from moesim.engine.pricing.terms import launched_ns
from moesim.hardware.described.kernel_counts import KernelCounts
from moesim.model.spec import LayerSpec

NO_LAUNCHES = KernelCounts()


class HostTimes(NamedTuple):
    """What the host launches for the parts of a layer, in ns each: ``attention``, be it of a pass
    over whole sequences, with all that stands before the experts beyond the software's kernels, the
    network of a dense layer, the gate, the shared expert, a launch of experts, and what follows
    them. ``waits``: how often it waits for the counts.
    """

    attention: int
    sequence: int
    dense: int
    gate: int
    shared: int
    experts: int
    combine: int
    waits: int


def host_times(case: Case) -> list[HostTimes]:
    """By model layer."""
    moe = iter(zip(case.decided_layers.tolist(), case.divided_layers.tolist(), strict=True))
    known: dict[tuple[int, bool, bool], HostTimes] = {}
    found, (kinds, numbers) = [], case.model.kinds
    for number in numbers:
        layer = kinds[number]
        key = (number, *(next(moe) if layer.moe else (False, False)))
        if key not in known:
            known[key] = _of_layer(case, layer, *key[1:])
        found.append(known[key])
    return found


def host_head_ns(case: Case) -> int:
    """What the host launches at the end of a pass."""
    counts = {"eager": case.software.kernels.head, "graph": 0}.get(case.execution, 1)
    beyond = launched_ns(case, case.model.layers[-1], head=True)
    return whole(counts * case.software.launch_ns) + beyond


def wait_ns(case: Case, gpu: int) -> int:
    """What a wait for the counts takes: their copy, and the synchronisation."""
    amount, software = 4 * len(case.local_experts(gpu)), case.software
    copy_ns = case.prices.copy_ns(amount, "d2h", software.pins_states)
    return copy_ns + whole(software.synchronisation_ns)


def launches_of_all(case: Case, moe_layer: int, gpu: int) -> int | None:
    """How many kernels the host launches in each pass where it calls every local expert; None where
    it does not.
    """
    calls_all = case.software.calls_empty and case.kernels == "serial"
    return len(case.local_experts(gpu)) if calls_all and case.resident(gpu)[moe_layer] else None


def whole(value: float) -> int:
    """``value`` to the nearest integer, halves up."""
    return int(value + 0.5)


def _of_layer(case: Case, layer: LayerSpec, decided: bool, divided: bool) -> HostTimes:
    """Of a layer; ``decided``: something waits for its counts, ``divided``: a GPU holds a part of
    its experts. Nothing is launched for a layer that the host runs.
    """
    if layer.on_host:
        return HostTimes(0, 0, 0, 0, 0, 0, 0, 0)
    software, apart = case.software, decided or divided
    captured = case.execution == "graph" or (case.execution == "splits" and not apart)
    counts = NO_LAUNCHES if captured else _launches(case, layer)
    each = 0.0 if captured else software.host_per_layer_ns
    beyond = launched_ns(case, layer)

    def launches(count: int, beside: float = 0) -> int:
        return whole(count * software.launch_ns + beside)

    chooses = layer.moe is not None and layer.moe.chooses
    if layer.moe and not chooses:
        one = {"gate": 0, "combine": 0, "expert": counts.dense, "grouped": counts.dense}
        counts = counts.model_copy(update=one)
    sequence = counts.attention if counts.sequence is None else counts.sequence
    return HostTimes(
        attention=launches(counts.attention, each) + beyond,
        sequence=launches(sequence, each) + beyond,
        dense=launches(counts.dense),
        gate=launches(counts.gate),
        shared=launches(counts.shared),
        experts=launches(counts.expert if case.kernels == "serial" else counts.grouped),
        combine=launches(counts.combine),
        waits=0 if captured or not chooses else _waits(case, decided, divided),
    )


def _launches(case: Case, layer: LayerSpec) -> KernelCounts:
    """Kernels of a ``layer`` that is not captured as a whole."""
    counts = case.software.kernels.of_layer(layer)
    gate = counts.of_gate(kind_of(type(case.gating)))
    gate += counts.reorder if case.gating.uneven else 0
    if case.execution == "eager":
        return counts.model_copy(update={"gate": gate})
    beside = {"attention": 1, "sequence": None, "dense": 0, "combine": 0}
    if case.execution == "splits":  # one graph from the experts of the layer before to these
        return counts.model_copy(update=beside | {"gate": 0, "shared": 0})
    return counts.model_copy(update=beside | {"gate": gate})


def _waits(case: Case, decided: bool, divided: bool) -> int:
    """How often the host waits for the counts of a layer that is not captured."""
    software, waits = case.software, 0
    if decided and case.decide == "host":
        waits = software.count_reads if case.permutes_beside else 1
    anyway, miss = software.synchronisations, case.miss
    if software.resident_synchronisations is not None and not divided:
        anyway = software.resident_synchronisations
    elif software.cpu_synchronisations is not None and miss.uses_host:
        anyway = anyway if miss.loads and not miss.copies_behind else software.cpu_synchronisations
    return max(waits, anyway)
