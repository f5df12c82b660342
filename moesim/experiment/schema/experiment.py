"""The Experiment: everything that a run depends on, assembled from whatever is registered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, field_validator

from moesim.config.checking.shape import WrittenAs
from moesim.config.files.paths import lookup_folders
from moesim.config.oneof import OneOf, component
from moesim.config.params import Params
from moesim.config.units import Percent
from moesim.experiment.schema.experts import Experts
from moesim.experiment.schema.parallelism import Parallelism
from moesim.experiment.schema.serving import Memory, Serving
from moesim.experiment.schema.workload import Workload
from moesim.gating import registry as gatings
from moesim.gating.base import Gating
from moesim.hardware.choice import PARTS, Choice
from moesim.hardware.choice import text_of as machine_text
from moesim.hardware.described.price_list import PriceList
from moesim.hardware.energy import Energy
from moesim.model.chosen import text_of
from moesim.model.named import Named, named
from moesim.placement import registry as planners
from moesim.placement.base import Planner
from moesim.trace.transforms import registry as transforms
from moesim.trace.transforms.base import Transform

NO_TRACE = "auto"


class Quality(Params):
    """How good answers are, as the user measured it."""

    table: str = Field(
        min_length=1,
        description="A CSV file with the columns lowered_share (the share of gate weight in a worse"
        " format, 0 to 1, ascending) and perplexity, or another number under its own name.",
    )


def _name_or_base(schema: dict[str, Any]) -> None:
    """``model``: a name, or a base with a format."""
    name = {key: schema.pop(key) for key in ("type", "minLength")}
    keys = {"base": {"type": "string"}, "format": {"type": ["string", "object"]}}
    both = {"type": "object", "properties": keys, "required": list(keys)}
    schema["anyOf"] = [name, both]


def _name_or_parts(schema: dict[str, Any]) -> None:
    """``hardware``: a name, or parts, each a name or numbers."""
    name = {key: schema.pop(key) for key in ("type", "minLength")}
    keys: dict[str, Any] = {"base": {"type": "string"}, "peers": {"enum": ["nvlink", "pcie"]}}
    keys |= {part: {"type": ["string", "object"]} for part in PARTS}
    schema["anyOf"] = [name, {"type": "object", "properties": keys, "additionalProperties": False}]


class Experiment(Params):
    """One question to moesim: a trace, a model, a machine and the choices to be judged."""

    name: str = Field(
        default="experiment",
        min_length=1,
        description="The run's name; else the file's. Results go to a folder of that name.",
    )
    model: str = Field(
        min_length=1,
        description="A shipped model ('moesim list models'), the path of a config.json or of a "
        "GGUF file, or one with other formats: {base: qwen3-30b-a3b, format: q4_k_m}.",
        json_schema_extra=_name_or_base,
    )
    hardware: Annotated[str, WrittenAs(Choice)] = Field(
        min_length=1,
        description="A shipped profile ('moesim list hardware'), a GPU in its usual host ('moesim "
        "list gpus'), the path of a profile, or a GPU, a host and a link: {gpu: rtx-3090, host: "
        "ddr4-3200-2ch-64gb, link: pcie4-x16}.",
        json_schema_extra=_name_or_parts,
    )
    trace: str = Field(
        default=NO_TRACE,
        min_length=1,
        description="A shipped trace ('moesim list traces'), the path of one (Parquet) or of the"
        " parameters of a synthetic one (YAML), or "
        "'stand-in:NAME', drawn for the model and scaled from a shipped one; by default the shipped"
        " one of the model, else a stand-in from the nearest.",
    )
    software: str = Field(
        default="ideal",
        min_length=1,
        description="A software profile by name (ideal, hf-eager) or by path: what the framework "
        "adds to the hardware's times.",
    )
    host_layers: int = Field(
        default=0,
        ge=0,
        description="The first so many layers run on the CPU as wholes, with their attention, KV "
        "cache and experts, as those that llama.cpp's -ngl leaves there.",
    )
    offload_layers: int = Field(
        default=0,
        ge=0,
        description="The weights of the first so many layers are in host memory, and each is "
        "copied to the GPU as a whole before it runs, in every pass (Accelerate's CPU offload).",
    )
    execution: Literal["auto", "eager", "piecewise", "splits", "graph"] = Field(
        default="auto",
        description="Kernel launches: as the software makes them (auto), one by one, captured but "
        "for the MoE part, captured between layers that wait for their counts, or all captured.",
    )
    decide: Literal["host", "device"] = Field(
        default="host",
        description="Where splits, misses and calls of single experts are decided; the host waits "
        "for the counts.",
    )
    routing: list[Annotated[Transform, OneOf(transforms)]] = Field(
        default=[],
        description="Rules by which tokens make other choices than the trace recorded, one after "
        "the other: fewer experts a token, or a model without some experts (docs/routing.md).",
    )
    workload: Workload = Field(
        default_factory=Workload, description="Which forward passes the requests make."
    )
    parallelism: Parallelism = Field(
        default=Parallelism(), description="The GPUs, and how the work is spread over them."
    )
    gating: Annotated[Gating, OneOf(gatings)] = component(
        gatings, "dynamic", "How routed tokens become rows of each expert."
    )
    placement: Annotated[Planner, OneOf(planners)] = component(
        planners, "contiguous", "Which GPU holds which expert."
    )
    experts: Experts = Field(
        default_factory=Experts, description="Room, eviction, loading and kernels of experts."
    )
    memory: Memory | None = Field(
        default=None,
        description="A GPU's memory where requests are served; by default vLLM's rules, '{}' "
        "(docs/serving.md).",
    )
    serving: Serving | None = Field(
        default=None,
        description="What is promised to clients whose requests are served, as in {slo: {ttft: "
        "500 ms}}: request_goodput and slo_attainment follow; and replicas that share them, as in "
        "{replicas: 4, router: {kind: least_outstanding}}, or instances that prefill and that "
        "decode, {disaggregation: {prefill: 1, decode: 1}} (docs/serving.md).",
    )
    energy: Energy | None = Field(
        default=None,
        description="Joules a token, and grams of CO2: what the machine's parts draw, where it is "
        "not what its files say; '{}' takes these (docs/energy.md).",
    )
    quality: Quality | None = Field(
        default=None,
        description="What a lower format does to answers, by a table of your own; 'moesim plot' "
        "then draws speed against it (docs/variants.md).",
    )
    cost: PriceList | None = Field(
        default=None, description="Dollars a million tokens, by these prices (docs/energy.md)."
    )
    seed: int = Field(default=0, ge=0, description="Seed of all random streams.")
    engine: Literal["auto", "des", "replay"] = Field(
        default="auto", description="The engine: the fastest that is exact (auto), or by name."
    )
    records: Literal["summary", "step", "layer", "expert"] = Field(
        default="layer", description="The finest records that are kept."
    )
    warm_up: Percent = Field(
        default=0.1, description="Share of the steps, from the start, left out of 'after_warm_up'."
    )
    sweep: dict[str, Annotated[list[Any], Field(min_length=1)]] | None = Field(
        default=None,
        description="Axes: a dotted path (or several, joined by commas, that change together) and "
        "the list of its values. 'moesim sweep' runs all combinations, 'moesim run' the base.",
    )
    figures: list[Any] = Field(
        default=[],
        description="Figures that 'moesim plot' draws ('moesim list figures'): names, or kinds with"
        " their parameters, as in {kind: metric_over_axis, metric: mean_tpot_ms, over: capacity}.",
        json_schema_extra={
            "items": {"anyOf": [{"type": "string"}, {"type": "object", "required": ["kind"]}]}
        },
    )

    _folders: tuple[Path, ...] = PrivateAttr(default=())

    @field_validator("model", "hardware", "software", mode="before")
    @classmethod
    def _name_of_digits(cls, name: Any) -> Any:
        """A name that YAML reads as a number, as in 'hardware: 4090'."""
        return str(name) if type(name) is int else name

    @field_validator("model", mode="before")
    @classmethod
    def _with_format(cls, model: Any) -> Any:
        """A base and its format as one name."""
        return text_of(model) if isinstance(model, Mapping) else model

    @field_validator("hardware", mode="before")
    @classmethod
    def _of_parts(cls, hardware: Any) -> Any:
        """A machine chosen by its parts as one name."""
        return machine_text(hardware) if isinstance(hardware, Mapping) else hardware

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if "/" in name or "\\" in name or not name.strip("."):
            raise ValueError("names a folder of results, so it holds no '/' and is not '.' or '..'")
        if not name.isprintable():
            raise ValueError("names a folder of results, so it holds no control character")
        return name

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where relative paths are looked up: the file's folder, the working one, the shipped
        data.
        """
        return self._folders or lookup_folders()

    @property
    def named(self) -> Named:
        """The model in moesim's own words, where a repository or Ollama's library has the name."""
        return named(self.model, self.folders)

    def looked_up_in(self, folders: tuple[Path, ...]) -> Experiment:
        """The experiment with its relative paths looked up in ``folders``."""
        copy = self.model_copy()
        copy._folders = folders  # noqa: SLF001 (its own class)
        return copy

    def with_default_trace(self, name: str) -> Experiment:
        """The experiment with a ``trace`` that its file does not name."""
        copy = self.model_copy(update={"trace": name})
        copy.model_fields_set.discard("trace")
        return copy
