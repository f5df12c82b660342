"""Model families: the keys of a config.json that decide sizes, and the model they describe."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from moesim.config.registry import Registry
from moesim.model.formats import PLAIN
from moesim.model.quantization import QuantizationConfig
from moesim.model.spec import ModelSpec
from moesim.model.weights import Weights

Extent = Annotated[int, Field(gt=0, le=2**31)]
"""A size in elements."""
LayerCount = Annotated[int, Field(gt=0, le=4096)]
ExpertCount = Annotated[int, Field(gt=0, lt=65535)]
"""Experts a layer; ids are 16-bit in traces, and 65535 stands for no expert."""
DtypeName = Literal["float32", "float16", "bfloat16"]


class Family(BaseModel, ABC):
    """One family, registered under ``kind``, its ``model_type``; its fields are the keys it reads.

    ``aliases`` are further model types and ``architectures`` the class names that mean this family.
    Keys it does not know are ignored, as a public config.json has many. Without a dtype weights are
    bfloat16.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    kind: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    architectures: ClassVar[tuple[str, ...]] = ()

    weight_dtype: DtypeName | None = Field(
        None, validation_alias=AliasChoices("torch_dtype", "dtype")
    )
    quantization_config: QuantizationConfig | None = None
    max_position_embeddings: Extent | None = None

    @property
    def weights(self) -> Weights:
        """The number formats of this model."""
        return Weights(PLAIN[self.weight_dtype or "bfloat16"], self.quantization_config)

    @abstractmethod
    def build(self, name: str) -> ModelSpec:
        """The model, called ``name``."""

    @classmethod
    def names_of_needed_keys(cls) -> list[list[str]]:
        """All names of each needed key: a config.json has one of them."""
        found = []
        for name, field in cls.model_fields.items():
            alias = field.validation_alias
            names = alias.choices if isinstance(alias, AliasChoices) else [alias or name]
            if field.is_required():
                found.append([str(each) for each in names])
        return found


registry: Registry[Family] = Registry(
    "moesim.model.families",
    Family,  # type: ignore[type-abstract]
    "moesim.model_families",
)


def family_for(model_type: str | None, architectures: list[str]) -> type[Family] | None:
    """The family by ``model_type``, else by ``architectures``; None if both are unknown."""
    families = registry.components.values()
    for family in families:
        if model_type is not None and model_type in (family.kind, *family.aliases):
            return family
    return next(
        (family for family in families if set(family.architectures) & set(architectures)), None
    )
