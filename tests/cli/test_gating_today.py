"""The experiments of docs/gating_today.md run, on a few requests of their synthetic traces."""

from pathlib import Path

import pytest
import yaml

from moesim.cli.main import main
from moesim.hardware.load import load_hardware
from moesim.results import read_result

FOLDER = Path(__file__).parents[2] / "experiments" / "gating_today"
KINDS = ("decode", "prefill", "placement")
EXPERIMENTS = [f"{model}_{kind}" for model in ("gpt_oss", "deepseek") for kind in KINDS]
TOKENS = 64


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_base_point(name, tmp_path):
    experiment = FOLDER / f"{name}.yaml"
    trace = yaml.safe_load(experiment.read_text())["trace"]
    parameters = FOLDER / f"trace_{name.replace('placement', 'decode')}.yaml"
    short = tmp_path / Path(trace).name
    synthesize = ["trace", "synthesize", str(parameters), "-o", str(short)]
    assert main([*synthesize, "--tokens", str(TOKENS)]) == 0
    settings = [f"trace={short}", "parallelism.expert=32", "records=summary"]
    options = [option for setting in settings for option in ("--set", setting)]
    assert main(["run", str(experiment), "--out", str(tmp_path / "out"), *options]) == 0
    summary = read_result(tmp_path / "out").summary
    assert summary["status"] == "ok"
    assert summary["tokens"] == TOKENS
    assert summary["dropped_choices"] == 0


def test_only_the_start_between_nodes_is_shorter():
    short = load_hardware(str(FOLDER / "hardware" / "short_latency.yaml")).network
    usual = load_hardware("dgx-h100").network
    assert short is not None
    assert usual is not None
    for key in ("nics", "bandwidth", "all_to_all_fraction"):
        assert getattr(short, key).value == getattr(usual, key).value
    for quick, slow in zip(short.latency, usual.latency, strict=True):
        assert (quick.gpus, 4 * quick.value) == (slow.gpus, slow.value)
