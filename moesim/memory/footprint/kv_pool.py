"""Room for keys and values of requests that are served: blocks, set aside before the run."""

from __future__ import annotations

from dataclasses import dataclass

from moesim.memory.footprint.kv_groups import KvGroup, KvPlan
from moesim.model.spec import LayerSpec, ModelSpec


@dataclass(frozen=True)
class KvPool:
    """On every GPU ``blocks`` of ``block_size`` tokens in all layers that keep every token, and
    what the others take of ``at_once`` requests: windows, and constant states. A pass has at most
    ``tokens`` of a rank, and of ``seats`` requests, for whose activations there is room too. Layers
    with a sliding window keep every token where they have ``no_windows``. Where layers are in
    groups by a ``plan``, a block is one of any group, which all take them from this pool.
    """

    blocks: int
    block_size: int
    seats: int
    tokens: int
    at_once: int
    no_windows: bool = False
    plan: KvPlan | None = None

    def bytes_of(self, model: ModelSpec) -> int:
        """Bytes on a GPU that holds ``model``."""
        return self.blocks * self.block_bytes(model) + self.at_once * self.seat_bytes(model)

    def block_bytes(self, model: ModelSpec) -> int:
        """Of a block: of that group which takes most."""
        if self.plan is not None:
            there = {layer.index for layer in model.cached_layers if layer.gpu_kv_bytes_per_token}
            most = max(len(there & {*group.layers}) for group in self.plan.groups)
            return most * self.plan.page_bytes
        whole = [layer for layer in model.cached_layers if self._keeps_all(layer)]
        return self.block_size * sum(layer.gpu_kv_bytes_per_token for layer in whole)

    def seat_bytes(self, model: ModelSpec) -> int:
        """Of a request in the other layers."""
        if self.plan is not None:
            return 0
        return sum(self._tokens(one) * one.gpu_kv_bytes_per_token for one in model.cached_layers)

    def blocks_of(self, tokens: int) -> int:
        """Of a request of so many ``tokens`` while it decodes."""
        groups = (KvGroup(None, ()),) if self.plan is None else self.plan.groups
        return sum(self._in_group(group, tokens) for group in groups)

    def _in_group(self, group: KvGroup, tokens: int) -> int:
        """A state is copied to a block of its own where a new one begins."""
        size = self.block_size * group.times
        most = {"tokens": self._window(group.window, size), "state": 2, "spare": 1}[group.keeps]
        needs = -(-tokens // size)
        return needs if most is None else min(needs, most)

    def _keeps_all(self, layer: LayerSpec) -> bool:
        """Whether ``layer`` keeps every token; a constant state is none."""
        no_window = self.no_windows and not layer.attention.state_bytes
        return no_window or layer.attention.window is None

    def _tokens(self, layer: LayerSpec) -> int:
        """Tokens of a request that ``layer`` holds beside blocks: a state's, or a window's."""
        window = layer.attention.window
        if window is None or self._keeps_all(layer):
            return 0
        blocks = self._window(window, self.block_size) or 0
        return window if layer.attention.state_bytes else blocks * self.block_size

    @staticmethod
    def _window(window: int | None, size: int) -> int | None:
        """Whole blocks of a ``window``, and one more for where it begins inside one; None: any."""
        return None if window is None else -(-window // size) + 1
