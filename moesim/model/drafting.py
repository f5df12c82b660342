"""What makes drafts of further tokens: a model's own MTP layer, or a smaller model."""

from __future__ import annotations

from dataclasses import dataclass, replace

from moesim.model.spec import ModelSpec

KERNELS_OF_LAYER, KERNELS_OF_HEAD = 8, 3
"""Norms, projections, attention and the products of a network; lookup, norm and product."""


@dataclass(frozen=True)
class Drafter:
    """What makes drafts, so many ``times`` one after the other in a pass. Each time it reads
    ``fixed_bytes`` and as many of its ``experts`` as tokens choose, ``top_k`` each, in ``kernels``.
    A GPU holds ``held_bytes`` for it.
    """

    times: int
    fixed_bytes: int
    expert_bytes: int
    experts: int
    top_k: int
    held_bytes: int
    kernels: int

    @classmethod
    def of_mtp(cls, model: ModelSpec, times: int) -> Drafter:
        """The first of the MTP layers that ``model`` has, with the head that it shares."""
        held, moe = model.mtp_bytes // model.mtp_layers, model.moe_layers[-1].moe
        assert moe is not None
        size = moe.expert.bytes
        return cls(
            times,
            fixed_bytes=held - moe.experts * size + model.head_matrix_bytes(),
            expert_bytes=size,
            experts=moe.experts,
            top_k=moe.top_k,
            held_bytes=held,
            kernels=KERNELS_OF_LAYER + KERNELS_OF_HEAD,
        )

    @classmethod
    def of_model(cls, model: ModelSpec, times: int) -> Drafter:
        """A dense model: all of it, but for a table of which it reads single rows."""
        table = model.embedding_bytes if model.head_parameters else 0
        return cls(
            times,
            fixed_bytes=model.bytes - table,
            expert_bytes=0,
            experts=0,
            top_k=0,
            held_bytes=model.bytes,
            kernels=KERNELS_OF_LAYER * len(model.layers) + KERNELS_OF_HEAD,
        )


def with_drafter(model: ModelSpec, drafter: Drafter) -> ModelSpec:
    """``model`` on GPUs that hold the weights of ``drafter`` beside it."""
    return replace(model, other_bytes=model.other_bytes + drafter.held_bytes)
