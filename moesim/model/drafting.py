"""What makes drafts of further tokens: a model's own MTP layer, or a smaller model."""

from __future__ import annotations

from dataclasses import dataclass, replace

from moesim.model.spec import ModelSpec

KERNELS_OF_LAYER, KERNELS_OF_HEAD = 8, 3
"""Norms, projections, attention and the products of a network; lookup, norm and product."""


@dataclass(frozen=True)
class Drafter:
    """What makes drafts, so many ``times`` one after the other in a pass. Each time a GPU reads
    ``fixed_bytes`` and as many of its ``experts`` as tokens choose, ``top_k`` each, of which so
    many ``ranks`` have an equal share, in ``kernels``. It holds ``held_bytes`` for it.
    """

    times: int
    fixed_bytes: int
    expert_bytes: int
    experts: int
    top_k: int
    held_bytes: int
    kernels: int
    ranks: int = 1

    def of_each(self, group: int, slices: int, ranks: int) -> Drafter:
        """What one GPU has of it, where as many as a ``group`` share all but its experts, so many
        ``slices`` each expert, and ``ranks`` of such the experts.
        """
        size, experts = -(-self.expert_bytes // slices), -(-self.experts // ranks)
        dense = self.held_bytes - self.experts * self.expert_bytes
        return replace(
            self,
            fixed_bytes=-(-self.fixed_bytes // group),
            expert_bytes=size,
            experts=experts,
            held_bytes=-(-dense // group) + experts * size,
            ranks=ranks,
        )

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
