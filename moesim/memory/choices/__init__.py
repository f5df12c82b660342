"""Which variant of an expert a forward pass wants: one file a rule."""

from __future__ import annotations

from moesim.config.registry import Registry
from moesim.memory.choices.base import VariantChoice

registry: Registry[VariantChoice] = Registry(
    "moesim.memory.choices", VariantChoice, "moesim.variant_choices"
)
