"""What is captured where the experiment leaves it to its software."""

import pytest

from moesim.cli.main import main
from moesim.experiment.building.build import build
from moesim.experiment.building.derived import derived
from moesim.experiment.loading.resolve import load_experiment

SMALL = {
    "model": "small-moe",
    "hardware": "rtx-4090",
    "trace": "traces/small-moe.parquet",
    "workload": {"phase": "decode", "requests": 4},
}
OFFLOADED = "experts.capacity=8 slots/layer"
TWO_GPUS = ["hardware=dgx-h100", "parallelism.expert=2", "workload.batching.batch_size=2"]


@pytest.mark.parametrize(
    ("software", "settings", "execution", "reason"),
    [
        ("llama.cpp", [], "graph", "all experts are resident"),
        ("llama.cpp", ["experts.capacity=auto"], "graph", "all experts are resident"),
        ("llama.cpp", [OFFLOADED], "splits", "experts are offloaded"),
        ("vllm", [], "graph", "all experts are resident"),
        ("vllm", [OFFLOADED], "piecewise", "experts are offloaded"),
        ("vllm", [OFFLOADED, "decide=device"], "piecewise", "experts are offloaded"),
        ("vllm", TWO_GPUS, "eager", "the host decides"),
        ("vllm", [*TWO_GPUS, "decide=device"], "graph", "all experts are resident"),
        ("vllm", ["experts.kernels=serial"], "eager", "the host decides"),
        ("llama.cpp", ["workload.phase=prefill"], "eager", "decode steps"),
        ("llama.cpp", ["workload.phase=all"], "graph", "all experts are resident"),
        ("hf-eager", [], "eager", "captures nothing"),
        ("ideal", [], "eager", "captures nothing"),
        ("llama.cpp", ["hardware=p40"], "eager", "captures nothing on this card"),
        ("llama.cpp", ["hardware=p40", OFFLOADED], "eager", "captures nothing on this card"),
        ("llama.cpp", ["hardware=t4"], "graph", "all experts are resident"),
        ("llama.cpp@b6xxx", ["hardware=t4"], "eager", "captures nothing on this card"),
        ("ik_llama.cpp", ["hardware=t4"], "eager", "captures nothing on this card"),
        ("ik_llama.cpp", ["hardware=rtx-3090"], "graph", "all experts are resident"),
    ],
)
def test_it_follows_from_the_software(software, settings, execution, reason):
    experiment = load_experiment({**SMALL, "software": software}, settings).experiment
    assert build(experiment).case.execution == execution
    shown, origins = derived(experiment)
    assert shown.execution == execution
    assert origins["execution"].startswith(f"from software {software}: ")
    assert reason in origins["execution"]


def test_a_step_larger_than_what_is_captured_is_not(tmp_path):
    text = load_experiment(SMALL).folders[-1] / "hardware_profiles/software/vllm.yaml"
    narrow = tmp_path / "narrow.yaml"
    narrow.write_text(text.read_text().replace("value: 512", "value: 2"))
    for batch, execution in ((2, "graph"), (3, "eager")):
        settings = [f"workload.batching.batch_size={batch}"]
        experiment = load_experiment({**SMALL, "software": str(narrow)}, settings).experiment
        assert build(experiment).case.execution == execution


@pytest.mark.parametrize(("dense", "execution"), [("data", "graph"), ("tensor", "eager")])
def test_gpus_that_share_the_dense_part_run_each_others_tokens(tmp_path, dense, execution):
    text = load_experiment(SMALL).folders[-1] / "hardware_profiles/software/vllm.yaml"
    narrow = tmp_path / "narrow.yaml"
    narrow.write_text(text.read_text().replace("value: 512", "value: 2"))
    shared = {"hardware": "dgx-h100", "parallelism": {"expert": 2, "dense": dense},
              "software": str(narrow), "decide": "device"}  # fmt: skip
    settings = ["workload.batching.batch_size=4"]
    experiment = load_experiment({**SMALL, **shared}, settings).experiment
    assert build(experiment).case.execution == execution


@pytest.mark.parametrize("own", ["eager", "piecewise", "graph"])
def test_what_the_file_says_holds(own):
    experiment = load_experiment({**SMALL, "software": "vllm", "execution": own}).experiment
    assert build(experiment).case.execution == own
    assert derived(experiment) == (experiment, {})


def test_check_says_where_it_is_from(tmp_path, capsys):
    path = tmp_path / "x.yaml"
    lines = "".join(f"{key}: {value}\n" for key, value in SMALL.items() if key != "workload")
    path.write_text(f"{lines}software: llama.cpp\n")
    assert main(["check", str(path)]) == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("execution"))
    assert line.split("#")[0].strip() == "execution: graph"
    assert line.endswith("# from software llama.cpp: all experts are resident")
