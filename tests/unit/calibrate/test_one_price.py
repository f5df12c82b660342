"""``moesim price`` and a run: the same nanoseconds for every operation of every shipped profile."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest

from moesim.calibrate.prices.explain import explained
from moesim.calibrate.prices.operations import OPERATIONS
from moesim.calibrate.prices.price import price_table
from moesim.config.errors import InputError
from moesim.hardware import CostModel, HardwareProfile, hardware_names, load_hardware
from moesim.hardware.load import as_run_by
from moesim.hardware.measurements.validate import LINE
from moesim.hardware.operations.attention.scores import Cache
from moesim.hardware.prices.parts import together
from moesim.model import load_model
from moesim.model.drafting import Drafter, Joining
from moesim.model.spec import LayerSpec, ModelSpec

TOKENS = np.array([1, 2, 7, 16, 33, 64, 100, 513, 4096])
SIZES = np.array([8, 1000, 65_536, 3 * 2**20, 8 * 2**20, 2**31])
QWEN, MIXTRAL, NLLB = (load_model(n) for n in ("qwen3-30b-a3b", "mixtral-8x7b", "nllb-moe-54b"))
METHODS = ("auto", "fit", "datasheet")
RUN_BY = [
    ("rtx-4090", "llama.cpp"),
    ("rtx-3060-12gb", "ik_llama.cpp"),
    ("h100-sxm", "vllm-marlin"),
    ("h200-sxm", "sglang"),
]
"""Machines, and the software whose kernels they run."""


@pytest.fixture(scope="module", params=[*((name, None) for name in hardware_names()), *RUN_BY])
def machines(request: pytest.FixtureRequest) -> list[Machine]:
    profile = as_run_by(*request.param)
    return [Machine(profile, method) for method in METHODS[: 3 if profile.calibrated else 1]]


@dataclass
class Machine:
    """A profile, and what of it is used."""

    profile: HardwareProfile
    method: Any

    def run(self, model: ModelSpec, **choices: bool) -> CostModel:
        return CostModel(self.profile, model, self.method, **choices)

    def priced(self, op: str | list[str], **columns: Any) -> list[int]:
        """What ``moesim price`` says of a table."""
        table = pd.DataFrame({"op": op, "dtype": "bf16"} | columns)
        table[LINE] = np.arange(1, len(table) + 1)
        return [int(price) for price in price_table(self.profile, table, self.method).price_ns]


def experts(layer: LayerSpec) -> dict[str, Any]:
    moe = layer.moe
    assert moe is not None
    expert = moe.expert
    shape = {"hidden": expert.hidden_size, "inter": expert.intermediate_size}
    return shape | {"experts": moe.experts, "top_k": moe.top_k, "gated": expert.gated}


def alone(layer: LayerSpec) -> LayerSpec:
    """The layer with one expert, which every token takes."""
    assert layer.moe is not None
    return replace(layer, moe=replace(layer.moe, experts=1, top_k=1))


def close(found: Any, expected: Any, within: int = 0) -> None:
    difference = np.abs(np.asarray(found) - np.asarray(expected))
    assert difference.max() <= within, (found, expected)


@pytest.mark.parametrize("model", [QWEN, MIXTRAL], ids=lambda model: model.name)
@pytest.mark.parametrize("batched", [False, True], ids=["grouped", "batched"])
def test_experts(machines: list[Machine], model: ModelSpec, batched: bool) -> None:
    """Rows as they fall, and padded to 128 as for block-sparse kernels; those of a batched product
    are equal. A fitted kernel reorders rows, which a run prices apart.
    """
    layer = model.moe_layers[0]
    assert layer.moe is not None
    top_k = layer.moe.top_k
    lists = [[4] * top_k, [3, 1] * top_k, [1] * 2 * top_k, [128] * top_k, [128, 256] * top_k]
    lists = [[rows] * top_k for rows in (1, 24, 300)] if batched else lists
    tokens = [sum(rows) // top_k for rows in lists]
    shape = (layer, np.concatenate(lists), np.cumsum([0, *map(len, lists)])[:-1])
    for machine in machines:
        found = machine.priced("moe", tokens=tokens, rows=lists, **experts(layer))
        costs = machine.run(model, batched=batched)
        operation = costs.operations["experts"]
        whole = together(operation.launch(*shape))
        close(found, costs.whole("experts", whole))
        fitted = machine.profile.calibrated and machine.profile.calibrated.experts
        reorderings = 2 * costs.gpu.start_ns if fitted and machine.method != "datasheet" else 0
        np.testing.assert_allclose(whole - operation.price(*shape), reorderings, atol=1e-6)
        within = 1 if reorderings else 0
        close(found, costs.experts_ns(*shape) + reorderings, within)


def test_experts_evenly_spread_and_one_by_one(machines: list[Machine]) -> None:
    for machine in machines:
        layer, tokens = QWEN.moe_layers[0], TOKENS[3:] // 16 * 16
        found = machine.priced("moe", tokens=tokens, **experts(layer))
        shape = (layer, np.repeat(tokens * 8 // 128, 128), np.arange(len(tokens)) * 128)
        costs = machine.run(QWEN)
        close(found, costs.whole("experts", together(costs.operations["experts"].launch(*shape))))
        single = alone(layer)
        serial = machine.run(QWEN, serial=True).experts_ns(single, TOKENS, np.arange(len(TOKENS)))
        close(machine.priced("moe", tokens=TOKENS, **experts(single)), serial)


def test_dense_products(machines: list[Machine]) -> None:
    """Keys and values of a source are one product, in the format of the model."""
    for machine in machines:
        layer = next(layer for layer in NLLB.layers if layer.cross_attention)
        block = layer.cross_attention
        assert block is not None
        width = block.kv_heads * (block.query_key_head_size + block.value_head_size)
        dtype = {2: "bf16", 4: "fp32"}[round(block.bytes / block.parameters)]
        block = replace(block, bytes=block.parameters * round(block.bytes / block.parameters))
        run = machine.run(NLLB).cross_attention_ns(
            replace(layer, cross_attention=block), 0 * TOKENS, 0 * TOKENS, TOKENS
        )
        close(machine.priced("gemm", dtype=dtype, m=TOKENS, n=width, k=NLLB.hidden_size), run)


def test_attention(machines: list[Machine]) -> None:
    for machine in machines:
        block = MIXTRAL.layers[0].attention
        shape = {"heads": block.heads, "kv_heads": block.kv_heads}
        shape |= {"head_dim": block.value_head_size, "l2_warm": False}
        costs, batch = machine.run(MIXTRAL), 5
        scores, cold = costs.operations["attention"].scores, Cache("bf16", 2)
        decode = together(scores(block, cold, TOKENS, TOKENS * 700, TOKENS * 700))
        found = machine.priced("attention_decode", batch=TOKENS, context=700, **shape)
        close(found, costs.whole("attention", decode))
        many = TOKENS[1:]
        keys = batch * many * (many + 1) // 2
        prompts = together(scores(block, cold, batch * many, keys, batch * many))
        found = machine.priced("attention_prefill", batch=batch, context=many, **shape)
        close(found, costs.whole("attention", prompts))


def test_the_scores_are_those_of_the_block(machines: list[Machine]) -> None:
    """Of a block without weights all but the scores are starts and moves of the hidden state."""
    for machine in machines:
        empty = replace(QWEN.layers[0], attention=replace(QWEN.layers[0].attention, parameters=0))
        costs = machine.run(QWEN, serial=False)
        shape = (TOKENS, TOKENS * 700, TOKENS * 700)
        whole = costs.operations["attention"].parts(empty, *shape)
        scores = costs.operations["attention"].scores(empty.attention, Cache("bf16", 2), *shape)
        (inside,) = (part for part in whole if part.name == "scores")
        assert (inside.time_ns == scores[0].time_ns).all()
        starts = scores[1].time_ns
        assert np.isin(starts, (0.0, costs.gpu.start_ns)).all()


def test_gate_reordering_and_launch(machines: list[Machine]) -> None:
    for machine in machines:
        layer, costs = QWEN.moe_layers[0], machine.run(QWEN)
        shape = {"hidden": QWEN.hidden_size, "tokens": TOKENS}
        close(machine.priced("gate", **shape, experts=128), costs.gate_ns(layer, TOKENS))
        close(machine.priced("permute", **shape, top_k=8), costs.permute_ns(layer, 8 * TOKENS))
        close(machine.priced("launch", source=["here"]), costs.price("decide"))


def test_copies(machines: list[Machine]) -> None:
    directions: tuple[Literal["h2d", "d2h"], ...] = ("h2d", "d2h")
    kinds = [(way, pinned) for way in directions for pinned in (True, False)]
    asked = [(way, pinned, int(size)) for way, pinned in kinds for size in SIZES]
    ways, pinned, sizes = zip(*asked, strict=True)
    for machine in machines:
        costs = machine.run(QWEN)
        expected = [costs.copy_ns(size, way, kind) for way, kind, size in asked]
        ops = [f"copy_{way}" for way in ways]
        close(machine.priced(ops, bytes=sizes, pinned=pinned), expected)


def test_collectives(machines: list[Machine]) -> None:
    counts, held = (1, 2, 4, 8), SIZES // 8 * 8
    gpus, sizes = np.repeat(counts, len(SIZES)), np.tile(held, len(counts))
    for machine in machines:
        costs = machine.run(QWEN)
        expected = [costs.all_reduce_ns(count, held) for count in counts]
        close(machine.priced("all_reduce", bytes=sizes, gpus=gpus), np.concatenate(expected))
        even = [np.full((count, count), 1) * (held // count)[:, None, None] for count in counts]
        expected = [costs.all_to_all_ns(sent) for sent in even]
        close(machine.priced("all_to_all", bytes=sizes, gpus=gpus), np.concatenate(expected))


@pytest.mark.parametrize("model", [QWEN, MIXTRAL], ids=lambda model: model.name)
def test_experts_of_the_host(machines: list[Machine], model: ModelSpec) -> None:
    for machine in machines:
        layer = model.moe_layers[0]
        shape = {key: experts(layer)[key] for key in ("hidden", "inter", "gated")}
        found = machine.priced("cpu_expert", tokens=TOKENS, **shape)
        close(found, machine.run(model).cpu_expert_ns(layer, TOKENS))


OF_PARTS = {"storage_read", "near_expert"}
"""Operations of parts that machines are given, and that no shipped one has."""


def shapes(model: ModelSpec, layer: LayerSpec) -> dict[str, tuple[Any, ...]]:
    """Every operation, with shapes of it."""
    sent, dense = np.arange(64).reshape(1, 8, 8) * 1000, TOKENS // 4 + 1
    return {
        "all_reduce": (8, SIZES),
        "all_to_all": (sent,),
        "attention": (layer, TOKENS, TOKENS * 9, TOKENS * 9),
        "combine_product": (layer, TOKENS, 8, dense),
        "copy": (SIZES, "h2d", True, 1),
        "cpu_expert": (model.moe_layers[0], TOKENS),
        "cpu_layer": (layer, TOKENS, TOKENS * 9, TOKENS * 9),
        "send_recv": (3, SIZES),
        "cross_attention": (layer, TOKENS * 9, TOKENS * 9, TOKENS),
        "decide": (),
        "dense": (layer, TOKENS),
        "drafting": (
            Drafter.of_model(load_model("llama-3.1-8b"), 3),
            *[TOKENS] * 6,
            *[TOKENS * 9] * 2,
        ),
        "encode": (layer, TOKENS, 8, dense, TOKENS),
        "experts": (model.moe_layers[0], TOKENS, np.arange(len(TOKENS))),
        "gate": (layer, TOKENS),
        "gather_logits": (4, TOKENS),
        "head": (TOKENS,),
        "joining": (Joining(10**7, 2 * 10**7), TOKENS),
        "layer_copy": (layer, TOKENS, True),
        "masks": (layer, TOKENS, 8, dense),
        "permute": (layer, TOKENS),
        "prediction": (TOKENS * 7,),
        "read_logits": (TOKENS, 7),
        "sampling": (TOKENS,),
        "shared": (layer, TOKENS),
        "step_inputs": (TOKENS, 3),
        "unpacking": (model.moe_layers[0], TOKENS),
    }


def test_what_explains_a_price_is_what_is_charged(machines: list[Machine]) -> None:
    """Of every operation, also those that no table has: amounts over rates are the parts."""
    for machine in machines:
        layer = next(layer for layer in NLLB.moe_layers if layer.cross_attention)
        asked = shapes(NLLB, layer) | {"dense": (NLLB.decoder_layers[0], TOKENS)}
        costs = machine.run(NLLB)
        assert asked.keys() == costs.operations.keys() - OF_PARTS, "a machine names none"
        rated = 0
        for kind, shape in asked.items():
            parts = costs.operations[kind].parts(*shape)
            price = costs.whole(kind, together(parts))
            if kind not in ("copy", "decide"):
                close(price, costs.price(kind, *shape))
            for part in parts:
                amounts, fit = part.of()
                if fit is not None or not amounts or not all(one.peak for one in amounts):
                    continue
                rated += 1
                times = [one.amount / (one.peak * one.fraction) * 1e9 for one in amounts]
                longest = reduce(np.maximum, times)
                np.testing.assert_allclose(part.time_ns, longest, rtol=1e-6, atol=1.0)
        assert rated > 5


def test_every_op_of_a_table_is_compared_here() -> None:
    named = {"moe", "gemm", "attention_prefill", "attention_decode", "gate", "permute", "launch"}
    named |= {"copy_h2d", "copy_d2h", "all_reduce", "all_to_all", "cpu_expert"}
    assert OPERATIONS.keys() - named == {"copy_p2p"}, "a run has no copies between GPUs"


@pytest.mark.parametrize(("machine", "told"), [("m2-ultra-192gb", True), ("rtx-4090", False)])
def test_what_no_run_of_one_memory_has_is_told(machine: str, told: bool) -> None:
    values = {"op": "cpu_expert", "dtype": "bf16", "tokens": 1, "hidden": 64, "inter": 32}
    table = explained(load_hardware(machine), values, "auto")
    assert ("no run has it" in str(table.caption)) is told


def test_numbers_that_a_price_lacks_are_named_as_they_are_given() -> None:
    with pytest.raises(InputError, match="give --hidden N --inter N --experts N --top-k N"):
        explained(load_hardware("rtx-4090"), {"op": "moe", "dtype": "bf16", "tokens": 1}, "auto")
    with pytest.raises(InputError, match="give --set m=N --set n=N --set k=N"):
        explained(load_hardware("rtx-4090"), {"op": "gemm", "dtype": "bf16"}, "auto")
