"""More work is never cheaper, on every card with every model; what falls is named with its size.

Products and decodes follow measured times, which fall by up to a tenth, and between them the
formula's steps (``TABLED``). The other exceptions are of grouped expert kernels. ``MEASURED``: the
tables' own times fall there (a tuned tile file from 320 tokens on, slow clocks, the first one or
two tokens), and a price follows a measured shape. ``RULE``: the kernel's own tile rule, by the
tokens of a launch: vLLM's kernels read the weights again for each row tile up to 128 tokens an
expert (with one read for 16 row tiles below that, measured uneven launches would be priced up to
1.8 times too cheap), and its older ones take tiles of 16 rows up to as many tokens as experts.
"""

from __future__ import annotations

import pytest

from moesim.hardware import load_hardware
from moesim.hardware.load import hardware_names
from moesim.model import load_model
from moesim.testing.prices import MOST, falls, never_fall

ONE, MORE, ALL, TOKENS = (
    f"experts: {what}" for what in ("rows of one", "more of them", "rows of all", "tokens")
)
SERIAL = ", serial"
KNOWN = {
    "a100-sxm-80gb": {
        ONE: 0.55,
        ONE + SERIAL: 0.56,
        MORE: 0.46,
        MORE + SERIAL: 0.46,  # RULE
        ALL: 0.05,
        TOKENS: 0.06,  # MEASURED
    },
    "b200-sxm": {ONE: 0.34, MORE: 0.13, ALL: 0.07, TOKENS: 0.09},  # MEASURED
    "b300-sxm": {ONE: 0.34, MORE: 0.13, ALL: 0.07, TOKENS: 0.08},  # MEASURED
    "gb200": {ONE: 0.44, MORE: 0.24, ALL: 0.07, TOKENS: 0.07},  # MEASURED
    "gb300": {ONE: 0.32, MORE: 0.10, ALL: 0.06, TOKENS: 0.08},  # MEASURED
    "h100-sxm": {
        ONE: 0.47,
        ONE + SERIAL: 0.48,
        MORE: 0.43,
        MORE + SERIAL: 0.44,  # RULE
        ALL: 0.15,
        TOKENS: 0.15,  # MEASURED
    },
    "h200-sxm": {
        ONE: 0.25,
        ONE + SERIAL: 0.26,
        MORE: 0.11,
        MORE + SERIAL: 0.16,  # RULE
        ALL: 0.25,
        TOKENS: 0.28,  # MEASURED
    },
    "l40s": {
        ONE: 0.50,
        ONE + SERIAL: 0.50,
        MORE: 0.24,
        MORE + SERIAL: 0.26,  # RULE
        ALL: 0.23,
        TOKENS: 0.23,
        ALL + SERIAL: 0.22,
        TOKENS + SERIAL: 0.23,  # RULE
    },
    "rtx-pro-6000": {
        ONE: 0.47,  # RULE
        ONE + SERIAL: 0.17,
        MORE: 0.32,
        MORE + SERIAL: 0.11,
        ALL: 0.21,
        TOKENS: 0.21,  # MEASURED
    },
}
TABLED = {
    "attention: requests that decode": 0.13,
    "attention: tokens of a prompt": 0.14,
    "dense: tokens": 0.14,
    "head: tokens": 0.16,
    "shared: tokens": 0.10,
}
"""Of every card with tables of products and of decodes."""
SAME_CARD = {
    "dgx-a100": "a100-sxm-80gb",
    "dgx-b200": "b200-sxm",
    "dgx-h100": "h100-sxm",
    "dgx-h200": "h200-sxm",
}
MODELS = (
    "deepseek-v3", "gpt-oss-20b", "gpt-oss-120b", "mixtral-8x7b", "nllb-moe-54b", "olmoe-1b-7b",
    "qwen3-30b-a3b", "qwen3-235b-a22b",
)  # fmt: skip


@pytest.mark.parametrize("name", hardware_names())
def test_more_work_is_never_cheaper(name: str) -> None:
    profile = load_hardware(name)
    for model in MODELS:
        known = KNOWN.get(SAME_CARD.get(name, name))
        never_fall(profile, load_model(model), known and known | TABLED)


def test_a_profile_whose_prices_fall_is_named() -> None:
    profile, model = load_hardware("l40s"), load_model("mixtral-8x7b")
    assert all(fall > MOST for fall in falls(profile, model).values())
    with pytest.raises(AssertionError, match="l40s, mixtral-8x7b: experts: rows of one: a price"):
        never_fall(profile, model)
