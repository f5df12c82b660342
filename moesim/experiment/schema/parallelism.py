"""How many GPUs there are, and what each has."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from moesim.config.params import Params


class Parallelism(Params):
    """How many GPUs share the work, and how."""

    expert: int = Field(
        default=1, ge=1, description="GPUs that share the experts, those of all nodes together."
    )
    pipeline: int = Field(
        default=1,
        ge=1,
        description="GPUs that hold consecutive layers each, and work one after the other.",
    )
    nodes: int | None = Field(
        default=None,
        ge=1,
        description="Nodes that the GPUs are spread over evenly; else as few as hold them.",
    )
    dense: Literal["data", "tensor"] = Field(
        default="data",
        description="Attention, dense networks and shared experts: whole on every GPU, each for "
        "its own requests (data), or split over the GPUs of a node (tensor).",
    )
    experts: Literal["expert", "tensor"] = Field(
        default="expert",
        description="Experts: whole, each on one of the GPUs (expert), or sliced, a part of each on"
        " every GPU of one node (tensor).",
    )
    slice: int | None = Field(
        default=None,
        ge=1,
        description="Neighbouring GPUs that each have a part of the same experts, as where an"
        " engine's expert parallelism is over fewer GPUs than its tensor parallelism: between one"
        " (experts: expert) and all (experts: tensor).",
    )
    exchange: Literal["all_to_all", "deduplicated", "all_reduce", "all_gather"] | None = Field(
        default=None,
        description="How tokens and whole experts of several GPUs meet: rows are dispatched and "
        "combined, one for each expert of a token (all_to_all) or one for each GPU that has some of"
        " them (deduplicated, with dynamic gating: DeepEP's kernels for prompts, TensorRT-LLM's, "
        "from memory; to another node one, which goes on from there); or every GPU has all tokens "
        "and an all-reduce adds up what their experts make of them (all_reduce), as engines do "
        "under dense: tensor on one node; that is the default there, with dynamic gating. Under "
        "dense: data every GPU may gather all tokens, and a reduce-scatter adds up (all_gather).",
    )
    dispatch_dtype: Literal["fp8", "fp8_block", "mxfp8", "nvfp4", "int8"] | None = Field(
        default=None,
        description="Number format of the hidden vectors that are dispatched, or gathered by all: "
        "with a scale a token (fp8, int8), for 128 values (fp8_block, as DeepEP has it), 32 (mxfp8)"
        " or 16 (nvfp4); left out, the model's own, in which they come back.",
    )

    @property
    def slices(self) -> int:
        """GPUs that share the same experts, each with a part of them; 1: experts are whole."""
        sliced = self.expert if self.experts == "tensor" else 1
        return sliced if self.slice is None else self.slice
