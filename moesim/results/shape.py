"""The shape of a result's files as far as moesim relies on it: a folder may come from anyone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from moesim.config.checking.validation import validate
from moesim.config.document import Document, Mark

Number = float | None
Numbers = dict[str, Number]


class Shape(BaseModel):
    """Keys that are not named here may be there, and hold anything."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class Interval(Shape):
    """A number with its interval."""

    value: Number
    low: Number
    high: Number


class Intervals(Shape):
    """The summary's ``intervals``."""

    confidence: float
    block: str
    blocks: int
    steps_per_block: float
    warm_up_steps: int
    warm_up_share: float
    reason: str | None
    __pydantic_extra__: dict[str, Interval]


class LatencyIntervals(Shape):
    """The summary's ``latency_intervals``."""

    confidence: float
    warm_up_requests: int
    batches: int
    reason: str | None
    __pydantic_extra__: dict[str, Interval]


class PriceError(Shape):
    """The summary's ``price_error``."""

    of: str
    __pydantic_extra__: Numbers


class PriceFactor(Shape):
    """A row of the summary's ``price_interval``."""

    of: str
    share: float
    low: Number
    high: Number
    rests_on: str | None = None
    fits: list[str] = []


class PriceInterval(Shape):
    """The summary's ``price_interval``."""

    confidence: float
    unknown_share: float
    reason: str | None = None
    factors: list[PriceFactor]
    __pydantic_extra__: dict[str, Interval]


class StageRow(Shape):
    """A row of the summary's ``stages``."""

    first_layer: int
    last_layer: int
    peak_memory_bytes: int
    slots_per_layer: int | None


class RoutingRow(Shape):
    """A MoE layer in the summary's ``routing_by_layer``."""

    experts: int
    mean_choices: float
    gate_weight_lost: float | None


class Summary(Shape):
    """``summary.json``, and a point's summary in a sweep's log; what is not named is a number."""

    status: Literal["ok", "out_of_memory", "failed"]
    name: str | None = None
    reason: str | None = None
    engine: str | None = None
    engine_reason: str | None = None
    execution: str | None = None
    storage_path: str | None = None
    time_share: Numbers | None = None
    price_share: Numbers | None = None
    memory_bytes: Numbers | None = None
    routing_share: Numbers | None = None
    energy_j: Numbers | None = None
    gpu_energy_j: Numbers | None = None
    carbon_g: Numbers | None = None
    cost_usd: Numbers | None = None
    checks: Numbers | None = None
    price_error: PriceError | None = None
    price_interval: PriceInterval | None = None
    after_warm_up: dict[str, Number | Numbers] | None = None
    intervals: Intervals | None = None
    latency_intervals: LatencyIntervals | None = None
    slo_attainment: Numbers | None = None
    saturated: bool | None = None
    layers_on_cpu_auto: bool | None = None
    after_first_end_share: Number | None = None
    steps_by_role: Numbers | None = None
    busy_by_role: Numbers | None = None
    hit_ratio_by_role: Numbers | None = None
    misses_by_role: Numbers | None = None
    bytes_h2d_by_role: Numbers | None = None
    slots_by_layer: list[list[int]] | None = None
    stages: list[StageRow] | None = None
    model_notes: list[str] | None = None
    host_notes: list[str] | None = None
    energy_notes: list[str] | None = None
    cost_notes: list[str] | None = None
    speculation_notes: list[str] | None = None
    routing_notes: list[str] | None = None
    placement_notes: list[str] | None = None
    routing_by_layer: list[RoutingRow] | None = None
    choice_shares: Numbers | None = None
    gate_weight_shares: Numbers | None = None
    gate_weight_shares_by_layer: list[Numbers] | None = None
    slots_by_variant: Numbers | None = None
    quality: Numbers | None = None
    quality_notes: list[str] | None = None
    __pydantic_extra__: Numbers


class InputFile(Shape):
    """A file that a run read."""

    path: str = Field(pattern=r"^[^\x00]*$")
    sha256: str


class Provenance(Shape):
    """``provenance.json``."""

    format: int
    inputs: dict[str, InputFile] = Field(default_factory=dict)
    tables: dict[str, str] = Field(default_factory=dict)


class Configuration(Shape):
    """``experiment.yaml``; that it is a whole experiment is seen when it runs again."""

    figures: list[str | dict[str, Any]] | None = None
    placement: dict[str, Any] | None = None


Place = Annotated[int, Field(ge=0, le=1 << 62)]


class Line(Shape):
    """A line of a sweep's log."""

    number: Place
    summary: dict[str, Any]
    pack: str | None = Field(None, pattern=r"^[0-9a-z]+\.pack$")
    start: Place = 0
    length: Place = 0
    reused: bool = False
    details: str = ""


class SweepFile(Shape):
    """``sweep.json``."""

    experiment: dict[str, Any] = Field(default_factory=dict)
    points: Annotated[list[dict[str, Any]], Field(min_length=1)]


class AdviceRow(Shape):
    """A choice of an advice, by itself or with an upgrade."""

    miss: str
    policy: str
    prefetch: str
    capacity: str
    set: dict[str, str]
    offline: bool
    slots_per_layer: int | None
    throughput_tokens_per_s: Number


class UpgradeRow(AdviceRow):
    """A choice with an upgrade."""

    upgrade: str
    ratio: Number


class AdviceFile(Shape):
    """``advice.json``, as far as figures show it."""

    model: str
    hardware: str
    requests: int
    recorded_requests: int
    local_experts: int
    best: AdviceRow
    choices: list[AdviceRow]
    upgrades: list[UpgradeRow]


def check_shape(value: Mapping[str, Any], shape: type[Shape], source: str) -> None:
    """An InputError, with the keys in ``source``, where ``value`` is not of that ``shape``."""
    try:
        shape.model_validate(value)
    except ValidationError:
        validate(Document(value, Mark(source)), shape)
        raise
