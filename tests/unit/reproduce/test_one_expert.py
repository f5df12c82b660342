"""A mixture of one expert that every token takes is a dense network."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import moesim
from moesim.hardware import CostModel
from moesim.hardware.load import load_hardware, load_software
from moesim.model import load_model
from moesim.model.routed import routed, varying
from moesim.reproduce.dense import dense_counterpart

ROWS = [1, 7, 64, 65, 1000, 4096]


@pytest.mark.parametrize("profile", ["v100-sxm2-32gb", "h100-sxm", "rtx-4060-8gb"])
@pytest.mark.parametrize("name", ["olmoe-1b-7b", "lm-52b"])
@pytest.mark.parametrize("serial", [False, True])
def test_its_price_is_the_dense_networks_to_the_nanosecond(profile, name, serial):
    model = load_model(name)
    layers = len(model.moe_layers)
    one = routed(model, [1] * layers, 1)
    place = next(index for index, layer in enumerate(one.layers) if layer.moe)
    dense = dense_counterpart(one).layers[place]
    costs = CostModel(load_hardware(profile), one, serial=serial)
    found = [int(costs.experts_ns(one.layers[place], [rows], [0])[0]) for rows in ROWS]
    assert found == np.asarray(costs.dense_ns(dense, ROWS)).tolist()


MODEL = {
    "model_type": "moe_decoder", "hidden_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "intermediate_size": 96, "vocab_size": 100,
    "num_experts": 4, "num_experts_per_tok": 1,
}  # fmt: skip
TRACE = """
title: every expert is recorded
experts: 4
top_k: 4
moe_layer_ids: [0, 1]
requests:
  count: 4
  prefill_tokens: {kind: fixed, tokens: 3}
  decode_tokens: {kind: fixed, tokens: 5}
parts:
- {phases: [prefill, decode], layers: 2, popularity: {kind: dirichlet, concentration: 1.0}}
gate_weights: {means: [0.6, 0.2, 0.1, 0.1], concentration: 8.0}
"""


@pytest.mark.parametrize("kernels", ["serial", "grouped"])
@pytest.mark.parametrize("engine", ["des", "replay"])
def test_a_run_has_no_gate_and_waits_for_nothing(tmp_path, engine, kernels):
    (tmp_path / "config.json").write_text(json.dumps(MODEL))
    (tmp_path / "trace.yaml").write_text(TRACE)
    experiment = {
        "model": str(tmp_path / "config.json"),
        "hardware": "v100-sxm2-32gb",
        "software": "fairseq",
        "trace": str(tmp_path / "trace.yaml"),
        "routing": [{"kind": "prune", "keep": "25 %", "then": "next", "k": 1}],
        "workload": {"phase": "all"},
        "experts": {"kernels": kernels},
    }
    found = moesim.run({**experiment, "engine": engine}, check=engine == "des").summary
    assert found["mean_choices"] == found["local_experts"] == 1
    assert found["time_share"]["gate"] == found["time_share"]["dispatch_combine"] == 0
    other = moesim.run({**experiment, "engine": "des" if engine == "replay" else "replay"}).summary
    assert found["duration_ms"] == other["duration_ms"]
    software = load_software("fairseq")
    launches = 2 * (software.kernels.attention + software.kernels.dense) + software.kernels.head
    assert found["mean_tpot_ms"] == pytest.approx(launches * software.launch_ns / 1e6, rel=1e-6)


def test_one_that_some_tokens_leave_out_is_chosen():
    model = load_model("olmoe-1b-7b")
    layers = len(model.moe_layers)
    whole = routed(model, [1] * layers, 1)
    few = varying(whole, [True] * layers)
    assert all(layer.moe.chooses for layer in few.moe_layers if layer.moe)
    assert not any(layer.moe.chooses for layer in whole.moe_layers if layer.moe)
    assert replace(few.moe_layers[0], moe=None).feed_forward is None
