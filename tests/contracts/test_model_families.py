"""Every registered model family, on the configurations of the shipped cards."""

from __future__ import annotations

import json
from typing import Any

import pytest

from moesim.model import model_names
from moesim.model.families.moe_decoder import MoeDecoder
from moesim.model.family import family_for
from moesim.model.loader import CARDS
from moesim.testing.model_families import describes_a_model

CONFIGS = {
    name: json.loads((CARDS / f"{name}.json").read_text(encoding="utf-8")) for name in model_names()
}
FAMILIES = {
    name: family
    for name, config in CONFIGS.items()
    if (family := family_for(config.get("model_type"), config.get("architectures") or []))
}
"""Of the cards that a family describes; the others are read by what their keys mean."""


@pytest.mark.parametrize("name", FAMILIES)
def test_contract(name: str) -> None:
    describes_a_model(FAMILIES[name], CONFIGS[name])


def test_a_needed_key_of_several_names_is_called_by_the_first() -> None:
    family = family_for("olmoe", [])
    assert family is not None
    keys = [names[0] for names in family.names_of_needed_keys()]
    assert "num_experts" in keys
    assert all(key.isidentifier() for key in keys)


class Lenient(MoeDecoder):
    """Says that it needs a key that may be left out."""

    @classmethod
    def names_of_needed_keys(cls) -> list[list[str]]:
        return [["dtype"]]


def test_one_that_breaks_the_rules_is_named() -> None:
    config: dict[str, Any] = {
        "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100,
        "intermediate_size": 96, "num_experts": 8, "num_experts_per_tok": 2, "dtype": "float16",
    }  # fmt: skip
    describes_a_model(MoeDecoder, config)
    with pytest.raises(AssertionError, match="Lenient: 'dtype' is needed and may be left out"):
        describes_a_model(Lenient, config)
