"""What every operation of a model costs on a machine, in integer nanoseconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from moesim.config.errors import InputError
from moesim.config.registry import Registry, answering
from moesim.hardware.charge import Charge, Setting, Stage
from moesim.hardware.described.datasheet import Direction
from moesim.hardware.operation import Operation, TileTable
from moesim.hardware.prices.arrays import Floats, Ints
from moesim.hardware.roofline import Roofline

if TYPE_CHECKING:
    from moesim.hardware.profile import HardwareProfile
from moesim.model.spec import LayerSpec, ModelSpec

registry: Registry[Operation] = Registry(
    "moesim.hardware.operations", Operation, "moesim.costs", r"(?:\w+\.)?(?!fit(?:_|$))(\w+)"
)
"""All but how they are fitted, which a run never loads."""

KEY = "costs"
"""What ``moesim list`` calls them."""

_OF_CHOICES = ("gate", "dispatch_combine")
"""Categories of what a layer without choices does not do."""
LONGEST_NS = 1 << 42
"""An hour and a bit, which is no operation's time: so sums of prices stay within int64."""
Prices = Literal["auto", "fit", "datasheet"]


def operations_of(hardware: HardwareProfile, model: ModelSpec, **choices: Any) -> dict[str, Any]:
    """Every operation of ``model``, by its kind; ``choices`` as an ``Operation`` takes them."""
    return {kind: one(hardware, model, **choices) for kind, one in registry.components.items()}


def charges_in(
    setting: Setting, layer: LayerSpec, *, head: bool = False
) -> list[tuple[str, Charge]]:
    """The operations of a ``layer``, or of the end of a pass behind it, and their places."""
    found = list[tuple[str, Charge]]()
    for kind, operation in registry.components.items():
        with answering(KEY, operation):
            found += [
                (kind, charge)
                for charge in operation.charges
                if (charge.stage is Stage.HEAD) is head
                and charge.on_host is (layer.on_host and not head)
                and charge.when(setting, layer)
                and (layer.moe is None or layer.moe.chooses or charge.category not in _OF_CHOICES)
            ]
    return sorted(found, key=lambda one: not one[1].first)


class CostModel:
    """Prices without state. Arguments are numbers or arrays of n; results are int64[n].

    ``prices``: ``auto`` uses the profile's calibrated part where it has one, ``fit`` its formulas
    without the times measured, ``datasheet`` neither.
    ``serial``: experts run one by one, each in kernels of its own; ``batched``: in one batched
    product with equal rows. ``gpus_per_node``: GPUs that
    share what a NUMA node gives to experts of the host. ``nodes``: machines that the GPUs of a
    collective are spread over, neighbours on the same one; more than one need the profile's
    ``network``. No tokens cost nothing. Kernels are rounded to the nearest nanosecond, copies and
    collectives up.
    """

    def __init__(
        self,
        hardware: HardwareProfile,
        model: ModelSpec,
        prices: Prices = "auto",
        *,
        serial: bool = False,
        batched: bool = False,
        gpus_per_node: int = 1,
        nodes: int = 1,
    ) -> None:
        self.hardware, self.model = hardware, model
        self._choices: dict[str, Any] = {
            "serial": serial, "batched": batched, "gpus_per_node": gpus_per_node, "nodes": nodes
        }  # fmt: skip
        card = hardware
        if prices != "auto" and (fits := hardware.calibrated) is not None:
            used = fits.formulas if prices == "fit" else None
            card = hardware.model_copy(update={"calibrated": used})
        self.gpu = Roofline(card)
        self.operations: dict[str, Any] = operations_of(
            card, model, **self._choices, measured=prices != "fit"
        )

    def by(self, prices: Prices) -> CostModel:
        """The same of a whole profile by other ``prices``."""
        return CostModel(self.hardware, self.model, prices, **self._choices)

    def provenance(self, kind: str, price_ns: ArrayLike, *shape: Any) -> Floats:
        """Nanoseconds by source float64[5] (``provenance.Source``) of prices of the operation
        ``kind``.

        ``price_ns`` and ``shape``: what that operation's method gave and was given.
        """
        price, operation = np.asarray(price_ns, np.float64), self.operations[kind]
        with answering(KEY, operation):
            return np.asarray(operation.provenance(price, *shape), np.float64)

    def attention_ns(
        self,
        layer: LayerSpec,
        tokens: ArrayLike,
        context_tokens: ArrayLike,
        kv_tokens: ArrayLike,
        *served: ArrayLike,
    ) -> Ints:
        """A layer's attention block: norms, projections, scores; of cross attention the queries and
        the output.

        ``tokens`` new tokens; ``context_tokens`` the sum over them of the keys that each attends
        to; ``kv_tokens`` cached tokens, each read once. ``served``: the part of these three whose
        scores are a kernel of their own, as tokens decode beside prompts, and how many of the
        tokens are padding, which has no scores; then, if it is told, the most keys that a token
        which decodes attends to.
        """
        return self.price("attention", layer, tokens, context_tokens, kv_tokens, *served)

    @property
    def waits_for_longest(self) -> bool:
        """Whether attention of answers depends on the longest of their contexts."""
        return bool(getattr(self.operations["attention"], "waits_for_longest", False))

    def cross_attention_ns(
        self,
        layer: LayerSpec,
        context_tokens: ArrayLike,
        kv_tokens: ArrayLike,
        projected_tokens: ArrayLike,
    ) -> Ints:
        """What a decoder layer does with sources, 0 without cross attention.

        ``context_tokens`` the sum over new tokens of the source tokens that each attends to;
        ``kv_tokens`` source tokens, each read once; ``projected_tokens`` those whose keys and
        values are made.
        """
        return self.price("cross_attention", layer, context_tokens, kv_tokens, projected_tokens)

    def dense_ns(self, layer: LayerSpec, tokens: ArrayLike) -> Ints:
        """The feed-forward network of a dense layer, 0 for a MoE layer."""
        return self.price("dense", layer, tokens)

    def gate_ns(self, layer: LayerSpec, tokens: ArrayLike) -> Ints:
        """The router's product, softmax and top-k, 0 for a dense layer."""
        return self.price("gate", layer, tokens)

    def permute_ns(self, layer: LayerSpec, rows: ArrayLike) -> Ints:
        """Permuting (or unpermuting) ``rows`` of the hidden size."""
        return self.price("permute", layer, rows)

    def shared_ns(self, layer: LayerSpec, tokens: ArrayLike) -> Ints:
        """The shared expert, 0 where the layer has none."""
        return self.price("shared", layer, tokens)

    def experts_ns(
        self, layer: LayerSpec, rows: ArrayLike, starts: ArrayLike, *tokens: Ints
    ) -> Ints:
        """Launches of routed experts, one kernel launch each.

        ``rows`` int[m] of each expert; launch i holds ``rows[starts[i]:starts[i + 1]]``, the last
        one the rest; ``starts`` int[n] ascends. An expert without rows is invoked but reads
        nothing; a launch without experts costs nothing. An expert alone is a launch of one.
        ``tokens`` int64[n] whose choices make the rows of each launch, which a kernel's tile
        follows; where they are not told, each takes ``top_k``.
        """
        return self.price("experts", layer, rows, starts, *tokens)

    def expert_tiles(self, layer: LayerSpec, number: Ints) -> TileTable | None:
        """The tiles of launches by their rows, or average rows, ``number`` int64[n]; None where
        neither decides them.

        Launches with the same number of rows, of experts (each with rows), of tiles and of groups
        beyond an expert's first have one price, which rests on the same.
        """
        tiles = getattr(self.operations["experts"], "tiles", None)
        found: TileTable | None = tiles(layer, number) if tiles is not None else None
        return found

    def cpu_expert_ns(self, layer: LayerSpec, rows: ArrayLike) -> Ints:
        """A routed expert with ``rows`` rows that the host computes."""
        return self.price("cpu_expert", layer, rows)

    def head_ns(self, tokens: ArrayLike) -> Ints:
        """The embedding lookup, final norm and output product of ``tokens``."""
        return self.price("head", tokens)

    def masks_ns(
        self, layer: LayerSpec, tokens: ArrayLike, experts: ArrayLike, capacity: ArrayLike
    ) -> Ints:
        """Static gating: building tokens x experts x capacity masks, and the dispatch product."""
        return self.price("masks", layer, tokens, experts, capacity)

    def encode_ns(
        self,
        layer: LayerSpec,
        tokens: ArrayLike,
        experts: ArrayLike,
        capacity: ArrayLike,
        rows: ArrayLike,
    ) -> Ints:
        """Tutel: ``rows`` of ``tokens`` to their places among experts x capacity. Decoding is a
        reordering of the rows.
        """
        return self.price("encode", layer, tokens, experts, capacity, rows)

    def copy_ns(self, size: int, direction: Direction, pinned: bool = True, copies: int = 1) -> int:
        """``size`` bytes between host and GPU in ``copies`` equal copies, one after another.

        copies x latency + bytes / bandwidth, rounded up once; nothing to copy takes no time.
        """
        return int(self.price("copy", size, direction, pinned, copies)[()])

    def all_to_all_ns(self, matrix: ArrayLike) -> Ints:
        """An all-to-all; ``matrix`` int64[n, G, G] bytes from GPU to GPU.

        Latency + the largest over GPUs of bytes out and bytes in, over the GPU's bandwidth, rounded
        up; what stays on a GPU is free, and so is one GPU. On several nodes the network works
        beside the links within them (``operations/collectives/all_to_all.py``).
        """
        return self.price("all_to_all", matrix)

    @property
    def by_busiest_gpu(self) -> bool:
        """Whether all-to-alls with the same largest bytes of a GPU, out or in, have one price."""
        return bool(getattr(self.operations["all_to_all"], "by_busiest", False))

    def all_reduce_ns(self, gpus: int, size: ArrayLike) -> Ints:
        """An all-reduce of ``size`` bytes int64[n] over ``gpus`` of one node, rounded up; nothing
        to add up takes no time, and so does one GPU.
        """
        return self.price("all_reduce", gpus, size)

    def price(self, kind: str, *shape: Any) -> Ints:
        """Whole nanoseconds int64[n] of the operation ``kind``, a package's own too; ``shape`` as
        its ``parts`` take it.
        """
        operation = self.operations[kind]
        with answering(KEY, operation):
            price = operation.price(*shape)
        return self.whole(kind, price)

    def whole(self, kind: str, price_ns: ArrayLike) -> Ints:
        """Prices of the operation ``kind`` as whole nanoseconds, rounded up or to the nearest."""
        price = np.asarray(price_ns)
        return _whole(kind, np.ceil(price) if self.operations[kind].rounds_up else price + 0.5)


def _whole(kind: str, price_ns: ArrayLike) -> Ints:
    """Prices of ``kind`` without their fractions, int64; an InputError where one is beyond
    ``LONGEST_NS``, or below zero.
    """
    prices = np.asarray(price_ns)
    if prices.size and not prices.max() <= LONGEST_NS:
        what = f"'{kind}' takes {float(prices.max()) / 1e9:.3g} s by the hardware profile"
        raise InputError(f"{what}: no operation takes an hour; is the unit of a rate right?")
    if prices.size and prices.min() < 0:
        raise InputError(f"'{kind}' takes {float(prices.min()) / 1e9:.3g} s: less than none")
    return prices.astype(np.int64)
