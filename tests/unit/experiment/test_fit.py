"""``moesim fit``: slots against context length."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from moesim.cli.main import main
from moesim.experiment.building.build import build
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.questions.fit import fewest_on_cpu, largest_fit, slots_by_context
from moesim.experiment.questions.fit_passes import decode_step
from moesim.memory.footprint.footprint import Residence

BASE = {
    "model": "gpt-oss-20b",
    "hardware": "rtx-4060-8gb",
    "trace": "traces/quickstart.parquet",
    "experts": {"capacity": "8 slots/layer"},
}
LAYERS, LONGEST = 24, 131_072


@pytest.fixture(scope="module")
def built():
    return build(load_experiment(BASE).experiment)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "one.yaml"
    path.write_text(json.dumps(BASE))
    return str(path)


def test_every_row_fits_and_one_slot_more_would_not(built):
    rows: list[dict[str, Any]] = list(slots_by_context(built, None, [1, 4, 16]))
    assert {row["slots_per_layer"] for row in rows} >= {0, 13}
    for row in rows:
        for more, fits in ((0, row["slots_per_layer"] > 0), (1, False)):
            on_gpu = Residence(32, (row["slots_per_layer"] + more,) * LAYERS)
            step = decode_step(built, row["batch"], row["context_tokens"], (on_gpu,))
            assert (step.total.max() <= built.limit_bytes) == fits


def test_contexts_double_up_to_the_models_longest(built):
    rows: list[dict[str, Any]] = list(slots_by_context(built, None, [1]))
    contexts = [row["context_tokens"] for row in rows]
    assert (contexts[0], contexts[-1]) == (1024, LONGEST)
    assert all(b == 2 * a for a, b in pairwise(contexts))


def test_longer_contexts_never_leave_more_slots(built):
    for batch in (1, 16):
        rows: list[dict[str, Any]] = list(slots_by_context(built, None, [batch]))
        for short, long in pairwise(rows):
            assert long["slots_per_layer"] <= short["slots_per_layer"]
            assert long["kv_bytes"] > short["kv_bytes"]


def test_kv_bytes_by_hand(built):
    """12 layers keep every token, 12 the last 128; K and V of 8 heads of 64 in 2 bytes."""
    (row,) = slots_by_context(built, [5000], [3])
    assert row["kv_bytes"] == 3 * 12 * (5000 + 128) * 2 * 8 * 64 * 2


def test_the_answers_of_before_stay(built):
    answer = largest_fit(load_experiment(BASE).experiment, [1024], [1])
    assert (answer["fits"], answer["largest_slots"], answer["slots_per_layer"]) == (True, 13, 8)
    batch, context = answer["largest_batch"], answer["longest_context_tokens"]
    for requests, fits in ((batch, True), (batch + 1, False)):
        step = decode_step(built, requests, context, built.residences)
        assert (step.total.max() <= built.limit_bytes) == fits


@pytest.mark.parametrize(("slots", "requests"), [(16, 5), (18, 3), (20, 2), (21, 1)])
def test_requests_that_are_served_have_their_own_lengths_and_the_engine_s_share(slots, requests):
    """As many as the runs of docs/serving_questions.md have room for, of 16,256 tokens each; it had
    been 175 requests of the trace's 689.
    """
    asked = [f"experts.capacity={slots} slots/layer"]
    file = "experiments/kv_or_experts.yaml"
    answer = largest_fit(load_experiment(file, asked).experiment, None, [1])
    assert (answer["largest_batch"], answer["longest_context_tokens"]) == (requests, 16_256)
    assert answer["largest_slots"] == 21
    assert [row["fits"] for row in answer["memory_by_batch"]][:1] == [True]
    assert largest_fit(load_experiment(file, asked).experiment, [8192], [1])["largest_slots"] == 22


def test_what_is_in_storage_takes_no_host_memory():
    """A run that fits had been told that not even one request does."""
    machine = {"gpu": "rtx-4060-ti-16gb", "host": "ddr5-5600-2ch-32gb", "storage": "nvme-pcie4"}
    experts = {"on_cpu": {"layers": 30}, "host": {"capacity": "auto"}}
    source = {"model": "gpt-oss-120b", "hardware": machine, "experts": experts}
    answer = largest_fit(load_experiment(source).experiment, [1024], [1])
    assert answer["fits"]
    assert answer["largest_batch"] > 10
    assert answer["cpu_layers"] is not None
    assert answer["cpu_layers"] <= 30
    assert answer["slots_by_context"][0]["cpu_layers"] is not None


@pytest.mark.parametrize("layers", [0, 6])
def test_slots_for_all_experts_leave_none_to_a_host_too_small_for_them(layers):
    """Of any fewer slots the host would have to hold all 10 GB, which are 0.42 GB a layer."""
    card = {"base": "rtx-4060-ti-16gb", "memory": "18 GiB"}
    host = {"base": "ddr5-5600-2ch-32gb", "memory": "4 GiB"}
    experts = {"on_cpu": {"layers": layers}} if layers else {}
    given = BASE | {"hardware": {"gpu": card, "host": host}, "experts": experts}
    found = largest_fit(load_experiment(given).experiment, [1024], [1])
    assert (found["fits"], found["largest_slots"]) == (True, 32)
    fewer = given | {"experts": experts | {"capacity": "31 slots/layer", "miss": {"kind": "cpu"}}}
    assert build(load_experiment(fewer).experiment).out_of_memory is not None


def test_blocks_that_are_written_stay_whatever_fits():
    """``chunk_of_prompts`` has 2,200 blocks; with one slot more its run has no memory."""
    file = "experiments/chunk_of_prompts.yaml"
    few = ["workload.requests=2", "workload.lengths.output_len=2"]
    slots = largest_fit(load_experiment(file, few).experiment, None, [1])["largest_slots"]
    fits = [
        build(load_experiment(file, [*few, f"experts.capacity={n} slots/layer"]).experiment)
        for n in (slots, slots + 1)
    ]
    assert [one.out_of_memory is None for one in fits] == [True, False]
    blocks = [*few, "memory.kv=800 blocks"]  # 8,194 tokens are 513 of them, and 9 of windows
    assert largest_fit(load_experiment(file, blocks).experiment, None, [1])["largest_batch"] == 1


def test_no_more_requests_are_served_than_there_are_seats(tmp_path, capsys):
    source = {**BASE, "hardware": "dgx-h100", "experts": {"capacity": "all"}}
    scheduler = {"kind": "vllm", "max_num_seqs": 12}
    batching = {"kind": "continuous", "scheduler": scheduler}
    lengths = {"kind": "fixed", "input_len": 100, "output_len": 28}
    routing = {"kind": "draw", "prompts_from": "decode"}
    workload = {"batching": batching, "lengths": lengths, "routing": routing}
    answer = largest_fit(load_experiment({**source, "workload": workload}).experiment)
    assert (answer["largest_batch"], answer["longest_context_tokens"]) == (12, 128)
    assert answer["seats"] == 12
    (tmp_path / "seats.yaml").write_text(json.dumps({**source, "workload": workload}))
    assert main(["fit", str(tmp_path / "seats.yaml"), "--batch", "1"]) == 0
    assert "12 requests of 128 tokens, as many as the scheduler lets run" in capsys.readouterr().out
    assert [row["batch"] for row in answer["memory_by_batch"]] == [1, 2, 4, 8, 12]


def test_the_table_and_its_figure(file, tmp_path, capsys):
    out = tmp_path / "new" / "fit.png"
    assert (
        main(["fit", file, "--context", "1024,131072", "--batch", "1,64", "--out", str(out)]) == 0
    )
    shown = capsys.readouterr().out
    assert "GiB, with 8 of 32 slots/layer" in shown
    assert "131,072" in shown
    assert "none" in shown
    assert shown.splitlines()[-1] == str(out)
    assert out.stat().st_size > 5_000
    assert main(["fit", file, "--context", "2k", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["slots_by_context"]
    assert [(row["batch"], row["context_tokens"]) for row in rows] == [
        (1, 2048), (4, 2048), (16, 2048),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--context", "1x"], "is no number of tokens"),
        (["--context", "200000"], "from 1 to 131072, the longest of gpt-oss-20b"),
        (["--context", "0"], "1 or more"),
        (["--batch", "0"], "from 1 to"),
        (["--context", "1024", "--out", "fit.pdf"], "a figure is one of .png, .svg"),
    ],
)
def test_a_wrong_option_is_one_line(file, capsys, options, words):
    assert main(["fit", file, *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


@pytest.mark.parametrize(
    ("given", "own", "largest", "cpu_layers"),
    [
        ({"host_layers": 24}, 0, 32, 0),
        ({"host_layers": 16}, 32, 32, 0),
        ({"experts": {"on_cpu": {"layers": 14}}}, 32, 32, 14),
        (
            {
                "experts": {
                    "on_cpu": {"layers": 14},
                    "capacity": "20 slots/layer",
                    "miss": {"kind": "cpu"},
                }
            },
            20,
            32,
            14,
        ),
    ],
)
def test_layers_on_the_cpu_have_no_slots_to_fit(given, own, largest, cpu_layers):
    """gpt-oss-20b on 8 GB: ten layers' experts fit; what is the host's needs none."""
    source = {
        "model": "gpt-oss-20b",
        "hardware": "rtx-4060-8gb",
        "trace": "traces/quickstart.parquet",
        "workload": {"requests": 1, "phase": "decode"},
    }
    answer = largest_fit(load_experiment(source | given).experiment, [1024], [1])
    assert answer["fits"]
    assert (answer["slots_per_layer"], answer["largest_slots"]) == (own, largest)
    left = given.get("host_layers") or given["experts"]["on_cpu"]["layers"]
    assert answer["slot_layers"] == 24 - left
    (row,) = answer["slots_by_context"]
    assert (row["slots_per_layer"], row["cpu_layers"]) == (32, cpu_layers)


def test_slots_of_some_layers_say_of_which(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """99 slots of 9 MB in 48 layers would be thrice the card; they are of 11 layers."""
    path = tmp_path / "one.yaml"
    path.write_text(json.dumps({**BASE, "experts": {"on_cpu": {"layers": 14}}}))
    assert main(["fit", str(path), "--context", "1k", "--batch", "1"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    said = told.count(", in the 10 of 24 layers that are not on the CPU")
    assert said == len(["peak memory", "largest capacity", "the table's title"])


def test_a_model_in_place_of_an_experiment_is_told_what_writes_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["fit", "gpt-oss:20b"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("not an experiment; 'moesim init gpt-oss:20b -o FILE' writes one of it")


def test_the_verdict_is_at_the_longest_context_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """gpt-oss-20b on 14 GiB: 3 GiB of cache at the longest context are too much beside it."""
    path = tmp_path / "one.yaml"
    card = {"base": "rtx-4090", "gpu": {"memory": "14 GiB"}}
    path.write_text(json.dumps({**BASE, "hardware": card, "experts": {"capacity": "all"}}))
    assert main(["fit", str(path)]) == 0
    assert capsys.readouterr().out.startswith("fits\n")
    assert main(["fit", str(path), "--context", "1k,128k", "--batch", "1"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("does not fit at a context of 131,072 tokens: GPU 0 at step")
    found = largest_fit(load_experiment(path).experiment, [1024, LONGEST], [1])
    assert found["longest_context_tokens"] == LONGEST
    rows = {row["context_tokens"]: row for row in found["slots_by_context"]}
    assert found["cpu_layers"] == rows[LONGEST]["cpu_layers"] > rows[1024]["cpu_layers"]
    told = f"layers on the CPU:        {found['cpu_layers']} of 24 (experts.on_cpu.layers)"
    assert told in shown
    at = {"phase": "decode", "context": LONGEST, "requests": 1}
    for layers, fits in ((found["cpu_layers"], True), (found["cpu_layers"] - 1, False)):
        left = {**BASE, "hardware": card, "workload": at, "experts": {"on_cpu": {"layers": layers}}}
        assert (build(load_experiment(left).experiment).out_of_memory is None) == fits


def test_a_run_without_room_names_the_layers_for_the_cpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "one.yaml"
    content = {**BASE, "model": "olmoe-1b-7b", "trace": "auto", "experts": {"capacity": "all"}}
    path.write_text(json.dumps(content))
    assert main(["run", str(path), "-o", str(tmp_path / "out"), "--cache", "none"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    fewest = fewest_on_cpu(load_experiment(path).experiment)
    assert fewest
    assert f"experts.on_cpu: {{layers: {fewest}}} with capacity: all" in told
    assert "model: {base: olmoe-1b-7b, format: q4_k_m} needs fewer bytes" in told


def test_numbers_of_one_of_several_gpus_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "one.yaml"
    content = {**BASE, "model": "mixtral-8x22b", "hardware": "dgx-a100", "trace": "auto"}
    content |= {"parallelism": {"expert": 2}, "experts": {"capacity": "all"}}
    path.write_text(json.dumps(content))
    assert main(["fit", str(path), "--context", "4k", "--batch", "1"]) == 0
    shown = capsys.readouterr().out
    assert "tokens: GPU 0 of 2 needs" in shown
    assert "peak memory of each GPU of 2, the fullest: " in shown


def test_what_a_server_does_not_take_is_told_where_no_scheduler_counts_it() -> None:
    def notes(**choices: Any) -> Any:
        one = load_experiment({**BASE, **choices}).experiment
        return largest_fit(one, [1024], [1])["notes"]

    (told,) = notes(software="vllm")
    assert "of which vllm takes 90% at its default (--gpu-memory-utilization)" in told
    assert notes() == []
    own, formats = notes(software="llama.cpp")
    assert own.startswith("of llama.cpp's own buffers the one to compute 512 tokens is ")
    assert formats.endswith("files have fewer bits a weight, as gpt-oss-20b@mxfp4_moe has")
    scheduler = {"kind": "vllm", "max_num_batched_tokens": 512}
    routing = {"kind": "draw", "prompts_from": "decode"}
    served = {"batching": {"kind": "continuous", "scheduler": scheduler}, "routing": routing}
    few = {"capacity": "4 slots/layer"}
    assert notes(software="vllm", workload=served, experts=few) == []


@pytest.mark.parametrize(
    ("hardware", "told"),
    [("m1-8gb", "iogpu.wired_limit_mb"), ("m4-max-128gb", None), ("rtx-3060-12gb", None)],
)
def test_what_a_system_does_not_give_a_gpu_of_one_memory_is_told(
    hardware: str, told: str | None
) -> None:
    """7 GB of an M1's 8 were told to fit, of which macOS gives its GPU three quarters."""
    one = load_experiment({"model": "olmoe-1b-7b@q8_0", "hardware": hardware}).experiment
    notes = " ".join(largest_fit(one, [1024], [1])["notes"])
    assert "one memory may not load" in notes if told else "one memory" not in notes
    assert (told or "") in notes
