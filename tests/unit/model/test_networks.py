"""Dense models whose networks are one expert a layer."""

from __future__ import annotations

import pytest

import moesim
from moesim.config.errors import InputError
from moesim.model import load_model
from moesim.model.chosen import text_of

DENSE = "llama-3.1-8b"


def test_they_are_the_same_networks() -> None:
    dense, found = load_model(DENSE), load_model(f"ffn-experts:{DENSE}")
    assert (found.parameters, found.bytes) == (dense.parameters, dense.bytes)
    assert found.active_parameters == dense.active_parameters
    assert len(found.moe_layers) == len(dense.layers)
    assert {layer.moe.expert for layer in found.moe_layers if layer.moe} == {dense.layers[0].dense}
    assert not any(layer.moe.chooses for layer in found.moe_layers if layer.moe)


@pytest.mark.parametrize(
    ("value", "name", "dense"),
    [
        ({"base": DENSE, "ffn": "experts"}, f"ffn-experts:{DENSE}", DENSE),
        ({"base": DENSE, "format": "int4", "ffn": "experts"}, None, f"{DENSE}@int4"),
        (
            {"base": DENSE, "format": {"experts": "int4"}, "ffn": "experts"},
            None,
            f"{DENSE}@dense=int4",
        ),
        ({"base": DENSE, "format": "mxfp4", "ffn": "experts"}, None, f"{DENSE}@dense=mxfp4"),
    ],
)
def test_experts_name_the_format_of_networks(
    value: dict[str, str], name: str | None, dense: str
) -> None:
    text = text_of(value)
    assert name in (None, text)
    assert load_model(text).bytes == load_model(dense).bytes


def test_what_has_experts_or_another_word_is_refused() -> None:
    with pytest.raises(InputError, match="gpt-oss-20b has experts of its own; leave 'ffn' out"):
        load_model("ffn-experts:gpt-oss-20b")
    with pytest.raises(ValueError, match="ffn: dense is not known; write ffn: experts"):
        text_of({"base": DENSE, "ffn": "dense"})


def test_a_run_needs_no_trace() -> None:
    """Two buffers stream every network in each step."""
    source = {
        "model": {"base": DENSE, "ffn": "experts"},
        "hardware": "rtx-3060-12gb",
        "workload": {"requests": 1},
        "experts": {"capacity": "50 %", "policy": {"kind": "stream", "buffers": 2}},
    }
    found = moesim.run(source, limit_steps=4).summary
    networks = sum(layer.expert_bytes for layer in load_model(f"ffn-experts:{DENSE}").moe_layers)
    assert found["bytes_h2d"] == 4 * networks
    with pytest.raises(InputError, match=r"has no MoE layer.*\{base: llama-3.1-8b, ffn: experts\}"):
        moesim.run({**source, "model": DENSE})
