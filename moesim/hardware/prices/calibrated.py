"""Numbers fitted to measurements, with what they rest on and how wrong they were."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Generic, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from moesim.config.amounts.dimensions import BANDWIDTH, COMPUTE_RATE, DURATION, PERCENT
from moesim.config.params import Params
from moesim.config.units import Bandwidth, Bytes, ComputeRate, Duration, Percent, within
from moesim.hardware.prices.left_out import Count, HeldOut
from moesim.hardware.prices.ratio_table import SHAPES, RatioTable

Layout = Literal["packed", "swapped", "swapped-narrow"]
"""How attention kernels lay out heads and queries: ``operations/attention/tiles.py``."""
Family = Literal["triton", "triton-older", "trtllm", "cutlass", "marlin"]
"""Of expert kernels, by their tiles: ``operations/experts/tiles.py``."""
Value = TypeVar("Value")
Positive = Annotated[float, Field(ge=1e-6, le=1e6)]
Rate = Annotated[Bandwidth, within("1 kB/s", "100 PB/s", BANDWIDTH)]
Peak = Annotated[ComputeRate, within("1 MFLOP/s", "1000 PFLOP/s", COMPUTE_RATE)]
Time = Annotated[Duration, within("0 us", "1 s", DURATION)]
Share = Annotated[Percent, within("0.1 %", "100 %", PERCENT)]


def _row(given: Any) -> Any:
    """The numbers of a text as in '1 2 4', which is read faster than a list of them."""
    if not isinstance(given, str):
        return given
    try:
        return tuple(int(word) if word.isdecimal() else float(word) for word in given.split())
    except ValueError:
        what = f"'{given[:40]}' is not a row of numbers; write it as in '1 2 4'"
        raise ValueError(what) from None


Counts = Annotated[tuple[Count, ...], Field(strict=False, min_length=1), BeforeValidator(_row)]
Factors = Annotated[tuple[Positive, ...], Field(strict=False, min_length=1), BeforeValidator(_row)]
Range = Annotated[tuple[Count, Count], Field(strict=False)]
Ranges = dict[str, Range]
"""The least and the largest of what a fit saw, by column; a price beyond is marked as outside."""


class Estimate(Params, Generic[Value]):
    """A fitted value and its 95 % interval, both ends in the value's unit."""

    value: Value
    interval: Annotated[tuple[Value, Value], Field(strict=False)]

    @model_validator(mode="after")
    def _ascends(self) -> Self:
        ends: tuple[Any, Any] = self.interval
        if ends[0] > ends[1]:
            raise ValueError("'interval' does not ascend")
        return self


class Fit(Params):
    """What every fit says of itself. ``source`` is a key of the file's ``sources``."""

    dtype: str | None = None
    kernel: str | None = Field(None, description="The table's kernel_source.")
    device: str | None = None
    framework: str | None = None
    version: str | None = None
    block_scaled: bool | None = Field(
        None, description="Whether blocks of weights and of activations have scales, where told."
    )
    source: str
    points: Count
    shapes: Count
    held_out: HeldOut | None = Field(
        None, description="Of the formula alone; None where there are too few shapes."
    )
    known_ops: ClassVar[tuple[str, ...]] = ()
    needed: ClassVar[tuple[str, ...]] = ()
    """The columns that ``measured`` cannot leave out."""

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if self.known_ops and getattr(self, "op", None) not in self.known_ops:
            raise ValueError(f"'op' is one of {', '.join(self.known_ops)}")
        measured: Ranges = getattr(self, "measured", {})
        for name in self.needed:
            if name not in measured:
                raise ValueError(f"'measured' has no '{name}'")
        for name, (least, largest) in measured.items():
            if least > largest:
                raise ValueError(f"'measured' of '{name}' does not ascend")
        return self

    @property
    def unseen(self) -> HeldOut | None:
        """Errors of prices of shapes that were not measured: of the table where there is one."""
        table: RatioTable | None = getattr(self, "table", None)
        return self.held_out if table is None else table.errors.get(SHAPES)

    @property
    def outside(self) -> HeldOut | None:
        """Errors of the prices that shapes beyond those measured rest on."""
        return self.unseen

    @property
    def label(self) -> str:
        """Framework, version and kernel, for messages."""
        parts = (self.framework, self.version, self.kernel, self.dtype)
        return " ".join(part for part in parts if part)


class Shape(Params):
    """The shape of an expert network as a table has it."""

    hidden: Count
    inter: Count
    experts: Count
    top_k: Count
    gated: bool = True


class Ratios(Shape):
    """Measured over fitted time of one shape by ``tokens``, ascending."""

    tokens: Counts
    ratio: Factors

    @model_validator(mode="after")
    def _match(self) -> Ratios:
        if len(self.tokens) != len(self.ratio):
            raise ValueError("'tokens' and 'ratio' differ in length")
        if list(self.tokens) != sorted(set(self.tokens)):
            raise ValueError("'tokens' do not ascend")
        return self


def static_input(kernel: str | None) -> bool:
    """Whether a kernel takes inputs whose scale was set before, and no others: vLLM's of
    checkpoints that ModelOpt made, by their names.
    """
    return "modelopt" in (kernel or "").lower()


class ExpertFit(Fit):
    """The grouped expert kernel's numbers: see ``operations/experts/kernel.py``."""

    needed: ClassVar[tuple[str, ...]] = ("experts",)
    family: Family
    measured: Ranges
    start: Estimate[Time]
    bandwidth: Estimate[Rate] = Field(description="Of weights.")
    compute: Estimate[Peak] = Field(description="Of whole tiles.")
    overlap: Estimate[Positive]
    activation_bandwidth: Estimate[Rate]
    l2: Estimate[Bytes] = Field(description="The cache that matrices share.")
    wide: Estimate[Share] = Field(description="Of the bandwidth, at the wide column tile.")
    tail: Estimate[Positive]
    slow: Estimate[Positive]
    l2_bandwidth: Estimate[Rate] | None = Field(None, description="None: without bound.")
    ratios: Annotated[tuple[Ratios, ...], Field(strict=False)] = ()

    @property
    def static_input(self) -> bool:
        """See ``static_input``."""
        return static_input(self.kernel)

    @property
    def serial(self) -> bool:
        """Whether only launches of one expert alone were measured: experts run one by one."""
        return self.measured["experts"][1] == 1


class ProductFit(Fit):
    """A dense product's numbers: see ``operations/products/kernel.py``."""

    measured: Ranges
    start: Estimate[Time]
    bandwidth: Estimate[Rate] = Field(description="Of weights.")
    compute: Estimate[Peak] = Field(description="Of whole waves of tiles.")
    overlap: Estimate[Positive]
    activation_bandwidth: Estimate[Rate]
    block: Estimate[Time] | None = Field(
        None, description="A block of threads that quantises inputs, where times have that inside."
    )
    table: RatioTable | None = None


class KernelFit(Fit):
    """A small kernel's numbers: see ``operations/kernels/work.py``, which says what ops do."""

    known_ops: ClassVar[tuple[str, ...]] = ("cpu_expert", "gate", "launch", "permute")
    op: str
    measured: Ranges
    start: Estimate[Time]
    bandwidth: Estimate[Rate] | None = None
    compute: Estimate[Peak] | None = None
    overlap: Estimate[Positive] | None = None


class SizeRatios(Params):
    """Measured over fitted time of ``gpus`` GPUs at once by ``bytes``, ascending."""

    gpus: Count = 1
    bytes: Counts
    ratio: Factors

    @model_validator(mode="after")
    def _match(self) -> SizeRatios:
        if len(self.bytes) != len(self.ratio):
            raise ValueError("'bytes' and 'ratio' differ in length")
        if list(self.bytes) != sorted(set(self.bytes)):
            raise ValueError("'bytes' do not ascend")
        return self


class TransferFit(Fit):
    """What copies and collectives have in common: see ``transfer_curve``."""

    needed: ClassVar[tuple[str, ...]] = ("bytes",)
    op: str
    measured: Ranges
    start: Estimate[Time]
    bandwidth: Estimate[Rate]
    fill: Estimate[Time] = Field(description="What large transfers take beyond the start.")
    half: Estimate[Bytes] = Field(description="At which half of the fill is paid.")
    ratios: Annotated[tuple[SizeRatios, ...], Field(strict=False)] = ()
    between: HeldOut | None = Field(
        None, description="Of every other size, priced between the ratios of the others."
    )

    @property
    def unseen(self) -> HeldOut | None:
        """Between measured sizes, where there are any."""
        return self.between or self.held_out

    @property
    def outside(self) -> HeldOut | None:
        """Of the formula, which carries on alone."""
        return self.held_out


class CopyFit(TransferFit):
    """Copies of one kind of host memory, by one GPU or by ``measured.gpus`` at once."""

    known_ops: ClassVar[tuple[str, ...]] = ("copy_h2d", "copy_d2h", "copy_p2p")
    pinned: bool = True

    @property
    def label(self) -> str:
        """The kind of host memory, then as for every fit."""
        return " ".join(("pinned" if self.pinned else "pageable", super().label)).strip()


class CollectiveFit(TransferFit):
    """A collective; ``bandwidth`` is the bus bandwidth of two GPUs."""

    known_ops: ClassVar[tuple[str, ...]] = ("all_reduce", "all_to_all")
    needed: ClassVar[tuple[str, ...]] = ("bytes", "gpus")
    step: Estimate[Time] = Field(description="Of each GPU beyond the second.")
    scaling: Estimate[Positive] = Field(description="Of the bandwidth, a doubling of the GPUs.")


class AttentionFit(Fit):
    """The numbers of ``attention_prefill`` or ``attention_decode``: see
    ``operations/attention/kernel.py``.

    Whole prompts have no split.
    """

    known_ops: ClassVar[tuple[str, ...]] = ("attention_prefill", "attention_decode")
    needed: ClassVar[tuple[str, ...]] = ("head_dim",)
    op: str
    layout: Layout
    measured: Ranges
    start: Estimate[Time]
    bandwidth: Estimate[Rate]
    l2: Estimate[Bytes] = Field(description="The cache that a call's operands may stay in.")
    l2_speed: Estimate[Positive] = Field(description="Of the L2, over the bandwidth.")
    compute: Estimate[Peak]
    softmax: Estimate[Positive] = Field(description="Operations of one exponential.")
    item: Estimate[Time] = Field(description="Of one tile of queries, beyond its keys.")
    single: Estimate[Positive] = Field(
        description="What one multiprocessor can read, over its share of the bandwidth."
    )
    overlap: Estimate[Positive]
    combine: Estimate[Time] | None = Field(None, description="Of a split.")
    merge: Estimate[Time] | None = Field(None, description="Of each part of a split.")
    reorder: Estimate[Time] | None = Field(None, description="Of swapping heads and queries.")
    table: RatioTable | None = None


class OtherFit(Fit):
    """The numbers of a package's own fitter ``kind``, by names that say their units."""

    kind: str
    op: str
    measured: Ranges = Field(default_factory=dict)
    numbers: dict[str, Estimate[float]]


class Calibrated(Params):
    """The fits of one card; an operation without one rests on the datasheet."""

    experts: Annotated[tuple[ExpertFit, ...], Field(strict=False)] = ()
    products: Annotated[tuple[ProductFit, ...], Field(strict=False)] = ()
    attention: Annotated[tuple[AttentionFit, ...], Field(strict=False)] = ()
    kernels: Annotated[tuple[KernelFit, ...], Field(strict=False)] = ()
    copies: Annotated[tuple[CopyFit, ...], Field(strict=False)] = ()
    collectives: Annotated[tuple[CollectiveFit, ...], Field(strict=False)] = ()
    others: Annotated[tuple[OtherFit, ...], Field(strict=False)] = ()

    @property
    def formulas(self) -> Calibrated:
        """Without the tables of products and attention."""
        bare = {
            kind: tuple(fit.model_copy(update={"table": None}) for fit in getattr(self, kind))
            for kind in ("products", "attention")
        }
        return self.model_copy(update=bare)

    def of(self, kind: str) -> tuple[OtherFit, ...]:
        """The fits by the fitter ``kind`` of a package."""
        return tuple(fit for fit in self.others if fit.kind == kind)
