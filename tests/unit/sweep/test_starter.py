"""Experiments to begin with: they run as they are, and say what each key is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from moesim.cli.main import main
from moesim.experiment.building.build import build
from moesim.experiment.engine_commands import command_of
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.loading.warnings import dispatched_otherwise
from moesim.experiment.running.run import simulate
from moesim.sweep.advise.question import Question
from moesim.sweep.advise.starter import WORKLOADS, starter

pytestmark = pytest.mark.usefixtures("unrendered")


@pytest.mark.parametrize("workload", [name for name, one in WORKLOADS.items() if not one.served])
@pytest.mark.parametrize(
    ("model", "gpu", "experts"),
    [
        ("gpt-oss-20b", "rtx-3090", "capacity: all"),
        ("qwen3-30b-a3b@q4_k_m", "rtx-5070", "on_cpu: {layers: "),
    ],
)
def test_it_fits_as_it_is_written(
    model: str, gpu: str, experts: str, workload: str, tmp_path: Path
) -> None:
    text = starter(Question(model, gpu=gpu), workload)
    assert experts in text
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    read = load_experiment(file).experiment
    assert read.workload.batching.in_flight == WORKLOADS[workload].batch
    assert read.workload.context == WORKLOADS[workload].context
    assert build(read.model_copy(update={"records": "summary"}), 2).out_of_memory is None


def test_every_key_has_a_comment_above(tmp_path: Path) -> None:
    lines = starter(Question("gpt-oss-20b", gpu="rtx-3090"), "chat").splitlines()
    keys = [n for n, line in enumerate(lines) if line[:1].isalpha() and not line.startswith("name")]
    assert len(keys) >= 5
    assert all(lines[n - 1].startswith("# ") for n in keys)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mine.yaml"
    asked = ["init", "small-moe", "--gpu", "rtx-3090", "-o", str(out)]
    assert main(asked) == 0
    assert main(["check", str(out)]) == 0
    assert main(asked) == 2
    assert "is there" in capsys.readouterr().err
    assert main(["init", "small-moe", "-o", str(tmp_path / "b.yaml")]) == 2
    assert "--gpu: is needed" in capsys.readouterr().err
    bad = ["init", "small-moe", "--gpu", "rtx-3090", "--workload", "x", "-o", str(tmp_path / "c")]
    assert main(bad) == 2
    assert "batch, chat, documents, serve" in capsys.readouterr().err


def test_what_the_host_has_no_room_for_is_read_from_the_drive(tmp_path: Path) -> None:
    out = tmp_path / "mine.yaml"
    asked = ["init", "gpt-oss-120b", "--gpu", "rtx-4060-8gb", "--host", "ddr4-3200-2ch-32gb"]
    workload = ["--workload", "chat", "-o", str(out)]
    assert main([*asked, *workload]) == 2
    assert main([*asked, "--storage", "nvme-pcie4", *workload]) == 0
    built = build(load_experiment(out).experiment, 2)
    assert built.out_of_memory is None
    assert built.case.host_cache is not None


def test_the_software_that_is_told_can_be_named(tmp_path: Path) -> None:
    out = tmp_path / "mine.yaml"
    asked = ["init", "small-moe", "--gpu", "rtx-3090", "-o", str(out)]
    assert main([*asked, "--software", "vllm"]) == 0
    assert load_experiment(out).experiment.software == "vllm"


def test_a_service_is_one_that_a_search_can_ask(tmp_path: Path) -> None:
    out = tmp_path / "mine.yaml"
    asked = ["init", "small-moe", "--gpu", "rtx-3090", "--gpus", "2", "--workload", "serve"]
    assert main([*asked, "-o", str(out)]) == 0
    read = load_experiment(out).experiment
    assert read.workload.batching.serves
    assert read.parallelism.expert == 2
    built = build(read.model_copy(update={"records": "summary"}), 2)
    assert built.case.serving is not None
    lengths = built.case.serving.served.asked
    whole = WORKLOADS["serve"].context
    assert (lengths.input_tokens + lengths.output_tokens <= whole).all()
    sla = ["--sla", "slo_attainment.all>=0.9", "--set", "workload.requests=8"]
    rate = ["--vary", "workload.arrivals.request_rate", "-o", str(tmp_path / "found")]
    assert main(["search", str(out), *rate, *sla]) == 0


def test_a_service_has_layers_on_the_cpu_where_its_gpus_do_not_hold_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As an experiment of one request has, with room for the caches of four."""
    out = tmp_path / "mine.yaml"
    asked = ["init", "qwen3-30b-a3b@q4_k_m", "--gpu", "rtx-5070", "--workload", "serve"]
    assert main([*asked, "-o", str(out)]) == 0
    experiment = load_experiment(out).experiment
    built = build(experiment.model_copy(update={"records": "summary"}), 2)
    assert built.out_of_memory is None
    assert sum(experiment.experts.on_cpu.of(built.case.model)) > 0
    whole = WORKLOADS["serve"].context
    assert built.case.kv_pool is not None
    assert built.case.kv_pool.blocks * built.case.kv_pool.block_size >= 4 * whole
    less = ["--host", "ddr4-3200-2ch-32gb", "-o", str(tmp_path / "b.yaml")]
    assert main(["init", "gpt-oss-120b", "--gpu", "rtx-3090", "--workload", "serve", *less]) == 2
    assert "name a drive" in capsys.readouterr().err


def test_what_several_gpus_do_is_decided_as_servers_do_and_other_ways_can_be_swept(
    tmp_path: Path,
) -> None:
    """Decided by the host, a step of four H100 took a fourth longer than captured, as in vLLM,
    which gathers all tokens; and 1,000 requests kept 9 GB of rows of layers.
    """
    four = Question("gpt-oss-20b", gpu="h100-sxm", gpus=4)
    (tmp_path / "other.yaml").write_text(starter(replace(four, software="sglang"), "serve"))
    other = load_experiment(tmp_path / "other.yaml").experiment
    assert (other.decide, other.parallelism.exchange) == ("device", None)
    text = starter(four, "serve")
    (tmp_path / "mine.yaml").write_text(text)
    read = load_experiment(tmp_path / "mine.yaml").experiment
    assert (read.decide, read.records) == ("host", "step")
    assert read.parallelism.exchange == "all_gather"
    assert not dispatched_otherwise([read])
    assert build(read, 2).case.execution in ("graph", "piecewise")
    (line,) = (line for line in text.splitlines() if line.startswith("#   parallelism: "))
    (tmp_path / "swept.yaml").write_text(f"{text}sweep:\n{line[1:]}\n")
    ways = [one.parallelism for _, one in load_experiment(tmp_path / "swept.yaml").points]
    assert len({(one.dense, one.experts) for one in ways}) == len(ways) == 3
    assert read.parallelism in ways
    assert {one.expert for one in ways} == {4}
    few = starter(Question("gpt-oss-20b", gpu="h100-sxm"), "serve")
    assert "decide" not in few
    assert "parallelism" not in few


@pytest.mark.parametrize(
    ("software", "said", "itself"),
    [
        ("ktransformers", "miss: {kind: cpu}", True),
        ("llama.cpp", "on_cpu: {layers: ", True),
        ("vllm", "on_cpu: {layers: ", False),
    ],
)
def test_it_does_what_its_engine_can_or_says_that_it_cannot(
    software: str, said: str, itself: bool, tmp_path: Path
) -> None:
    """Of ktransformers, which has some experts of each layer on the GPU, whole layers were on the
    CPU, and vLLM computes none there.
    """
    text = starter(Question("qwen3-30b-a3b@q8_0", gpu="rtx-3090", software=software), "chat")
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    assert said in text
    assert ("# note: the GPUs have no room" in text) == (not itself)
    line = command_of(load_experiment(file).experiment, software, 4096).text
    assert (line is not None) == itself


def test_a_service_that_only_one_request_fits_beside_has_layers_on_the_cpu(tmp_path: Path) -> None:
    """The experts fit on the card, but not beside what a step of a server holds in its share."""
    file = tmp_path / "mine.yaml"
    for workload, said in (("chat", "capacity: all"), ("serve", "on_cpu: {layers: ")):
        file.write_text(
            starter(Question("qwen3-30b-a3b@fp8", gpu="rtx-5090", software="vllm"), workload)
        )
        assert said in file.read_text()
        read = load_experiment(file).experiment.model_copy(update={"records": "summary"})
        assert build(read, 2).out_of_memory is None


def test_a_card_that_cannot_hold_the_model_serves_as_an_engine_does_that_has_a_way(
    tmp_path: Path,
) -> None:
    """As written, and with a promise that the search it names finds a rate for."""
    text = starter(Question("gpt-oss-20b", gpu="rtx-4060-8gb"), "serve")
    assert "software: llama.cpp, as 13.8 GB of weights are more than one such GPU has" in text
    assert "scheduler: {kind: llama.cpp}" in text
    assert "has no such way" not in text
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    slow = load_experiment(file, ("workload.arrivals.request_rate=0.01 requests/s",)).experiment
    assert (command_of(slow).text or "").startswith("llama-server")
    assert simulate(slow).summary["slo_attainment"]["all"] >= 0.9


def test_a_server_is_told_of_a_checkpoint_that_fits_whole() -> None:
    """Its file had experts on the CPU, which vLLM does not have, and nothing said what would do."""
    two = Question("glm-4.5-air", gpu="rtx-pro-6000", gpus=2)
    note = "# note: with glm-4.5-air@fp8, 108.1 GB, the GPUs have room for all experts\n"
    assert note in starter(two, "serve")
    assert note not in starter(replace(two, model="glm-4.5-air@fp8"), "serve")
    assert "room for all experts\n" not in starter(replace(two, software="llama.cpp"), "chat")
