"""What the host spends in a layer, and how far a GPU's time is attributed."""

from __future__ import annotations

from collections.abc import Callable

from .reference_words import (
    CATEGORIES,
    DRAFTING,
    INPUTS,
    LAYER_COPIES,
    LOGITS,
    PREDICTION,
    REBALANCING,
    STORAGE,
    UNPACKING,
    Config,
)


def nearest(value: float) -> int:
    return int(value + 0.5)


class Host:
    """What the host spends in a layer, which stands ``apart`` where something waits for its counts
    or not all experts are there, some are ``missing``; nothing in graph execution.
    """

    def __init__(self, config: Config, apart: bool = True, missing: bool = True) -> None:
        software, kernels = config.software, config.software.kernels
        launch = software.launch_ns
        splits = config.execution == "splits"
        graph = config.execution == "graph" or (splits and not apart)
        piecewise = config.execution == "piecewise" or splits
        # piecewise captures all but the MoE part: one launch for the attention of a layer,
        # one for the head, none for combine.
        attention, combine, head = (
            (1, 0, 1) if piecewise else (kernels.attention, kernels.combine, kernels.head)
        )
        on = 0 if graph else 1
        self.attention = on * nearest(attention * launch + software.host_per_layer_ns)
        self.sequence = self.attention  # of passes over whole sequences
        if kernels.sequence is not None and not piecewise:
            self.sequence = on * nearest(kernels.sequence * launch + software.host_per_layer_ns)
        gate = kernels.gate_by_gating.get(config.gating, kernels.gate)
        if config.gating == "dynamic":
            gate += kernels.reorder
        # one graph holds all from the experts of the layer before to these
        self.gate = 0 if splits else on * nearest(gate * launch)
        self.activation = on * nearest(kernels.expert * launch)
        self.launch = on * nearest(kernels.grouped * launch)
        self.combine = on * nearest(combine * launch)
        self.head = 0 if config.execution == "graph" else nearest(head * launch)
        self.copy = nearest(software.host_per_copy_ns * software.copies_per_expert)
        self.copy *= config.execution != "graph" and not config.in_place
        self.synchronisations = on * software.synchronisations
        if software.cpu_synchronisations is not None and config.miss in ("cpu", "background"):
            self.synchronisations = on * software.cpu_synchronisations
        if software.resident_synchronisations is not None and not missing:
            self.synchronisations = on * software.resident_synchronisations
        self.serial = config.kernels == "serial"

    def experts(self, activations: int, launches: int) -> int:
        return self.activation * activations if self.serial else self.launch * launches


class Gpu:
    """One GPU's compute time, host time, and how far its time is attributed."""

    def __init__(self) -> None:
        self.t = 0  # its compute
        self.host = 0  # its host has launched everything so far
        self.cursor = 0  # attributed up to here
        self.copy_in = 0  # its copy engine is free
        self.ahead = 0  # prefetches that were issued with the layer that runs
        # those that begin before an instant have begun
        self.run_copies: Callable[[int], None] = lambda _: None
        known = (
            *CATEGORIES,
            STORAGE,
            LAYER_COPIES,
            PREDICTION,
            REBALANCING,
            UNPACKING,
            LOGITS,
            INPUTS,
            DRAFTING,
        )
        self.charged = dict.fromkeys(known, 0)

    def charge(self, category: str, until: int) -> None:
        self.charged[category] += max(0, until - self.cursor)
        self.cursor = max(self.cursor, until)
