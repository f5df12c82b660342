from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from moesim.cli.main import main
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.loading.traces import trace_of
from moesim.trace import read_trace
from moesim.trace.statistics import statistics

ROOT = Path(__file__).parents[2]
QUICKSTART = str(ROOT / "traces" / "quickstart.parquet")
SAMPLES = ROOT / "tests" / "data" / "importers"
DOCUMENT = "model: gpt-oss-20b\nhardware: rtx-4090\ntrace: {}\n"


def test_import_then_validate_then_slice(tmp_path, capsys):
    out, part = str(tmp_path / "t.parquet"), str(tmp_path / "part.parquet")
    logits = str(SAMPLES / "hf-router-logits.npz")
    assert main(["trace", "import", logits, "-o", out, "--licence", "CC0"]) == 0
    assert "1 request, 3 tokens, 2 MoE layers, top-2 of 4 experts" in capsys.readouterr().out
    assert read_trace(out).metadata.licence == "CC0"
    assert main(["trace", "validate", out]) == 0
    assert "clean" in capsys.readouterr().out
    assert main(["trace", "slice", out, "-o", part, "--layers", "1:2", "--tokens", "2"]) == 0
    assert read_trace(part).expert_ids.tolist() == [[[3, 1]], [[1, 0]]]


def test_an_import_says_how_many_tokens_chose_fewer_experts(tmp_path, capsys):
    *lines, last = (SAMPLES / "vllm-jsonl.jsonl").read_text(encoding="utf-8").splitlines()
    fewer = json.loads(last)
    fewer |= {key: fewer[key][:1] for key in ("topk_ids", "topk_weights")}
    recorded = tmp_path / "fewer.jsonl"
    recorded.write_text("\n".join([*lines, json.dumps(fewer)]), encoding="utf-8")
    assert main(["trace", "import", str(recorded), "-o", str(tmp_path / "t.parquet")]) == 0
    assert "note: in some layer 1 token chose fewer than 2 experts" in capsys.readouterr().out


def test_validate_lists_everything_and_leaves_with_1(tmp_path, capsys):
    from dataclasses import replace

    from moesim.trace import write_trace

    trace = read_trace(QUICKSTART)
    ids, position = trace.expert_ids.copy(), trace.position.copy()
    ids[5, 3, 0] = 77
    position[10:12] += 3
    write_trace(replace(trace, expert_ids=ids, position=position), tmp_path / "t.parquet")
    assert main(["trace", "validate", str(tmp_path / "t.parquet")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[1:3] for line in lines] == [
        ["position", "error"],
        ["position", "warning"],
        ["expert_ids", "error"],
    ]


def test_stats_as_json(capsys):
    assert main(["trace", "stats", QUICKSTART, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["tokens"] == 5077
    assert len(result["layers"]) == 24
    assert np.isclose(result["mean"]["entropy_bits"], 4.5275, atol=1e-4)


@pytest.mark.parametrize(("options", "rows"), [([], 3), (["--layers"], 25)])
def test_stats_as_tables(capsys, monkeypatch, options, rows):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["trace", "stats", QUICKSTART, *options]) == 0
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    layers = [line for line in shown.splitlines() if line.count(".") >= 7]
    assert len(layers) == rows


def test_what_does_not_fit_in_memory_is_one_line(capsys, monkeypatch):
    def too_large(trace):
        raise MemoryError("Unable to allocate 32.0 GiB")

    monkeypatch.setattr("moesim.trace.statistics.statistics", too_large)
    assert main(["trace", "stats", str(QUICKSTART)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("not enough memory on this machine (Unable to allocate 32.0 GiB); take")


@pytest.mark.parametrize(
    "command",
    [
        ["trace", "slice", "{trace}", "--requests", "0:1", "-o", "{trace}"],
        ["trace", "curve", "{trace}", "-o", "{trace}"],
        ["trace", "fit", "{trace}", "-o", "{trace}"],
        ["trace", "synthesize", "{yaml}", "-o", "{yaml}"],
        ["trace", "import", "{npz}", "-o", "{npz}"],
        ["trace", "record", "model", "{yaml}", "-o", "{yaml}"],
        ["price", "h100-sxm", "--ops", "{ops}", "-o", "{ops}"],
        ["price", "{profile}", "--ops", "{ops}", "-o", "{profile}"],
        ["calibrate", "import", "{folder}", "-o", "{moe}"],
        ["calibrate", "import", "{moe}", "-o", "{moe}"],
        ["calibrate", "fit", "{ops}", "--base", "{profile}", "-o", "{profile}"],
        [
            "calibrate",
            "software",
            "{ops}",
            "--model",
            "qwen3-30b-a3b",
            "--hardware",
            "{profile}",
            "-o",
            "{profile}",
        ],
        ["place", "{yaml}", "-o", "{yaml}"],
        ["place", "{yaml}", "--set", "placement={{kind: plan, file: {plan}}}", "-o", "{plan}"],
        ["place", "{yaml}", "-o", "{trace}"],
    ],
    ids=" ".join,
)
def test_what_is_read_is_never_written_over(command, tmp_path, capsys):
    files = {
        "trace": (tmp_path / "t.parquet", Path(QUICKSTART).read_bytes()),
        "yaml": (tmp_path / "f.yaml", DOCUMENT.format(tmp_path / "t.parquet").encode()),
        "npz": (tmp_path / "r.npz", (SAMPLES / "npz.npz").read_bytes()),
        "ops": (tmp_path / "ops.csv", b"op,latency_ns\nlaunch,2000\n"),
        "moe": (tmp_path / "moe.csv", b"tokens,activated_experts,time_us\n1,8,50\n"),
        "profile": (
            tmp_path / "h.yaml",
            (ROOT / "hardware_profiles" / "rtx-4090.yaml").read_bytes(),
        ),
    }
    maps = {"gpus": 1, "physical_to_logical_map": [list(range(32))] * 24}
    files["plan"] = tmp_path / "plan.json", json.dumps(maps).encode()
    for path, content in files.values():
        path.write_bytes(content)
    places = {name: path for name, (path, _) in files.items()}
    assert main([word.format(folder=tmp_path, **places) for word in command]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("--out: ")
    assert line.endswith("is the file that is read; name another one")
    assert all(path.read_bytes() == content for path, content in files.values())


def test_what_the_machine_refuses_is_one_line(monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device", "results/x")

    monkeypatch.setattr("moesim.trace.statistics.statistics", full)
    assert main(["trace", "stats", str(QUICKSTART)]) == 2
    assert capsys.readouterr().err == "'results/x': No space left on device\n"


@pytest.mark.parametrize("command", ["stats", "validate"])
def test_what_a_trace_lacks_is_shown_beside_it(command, capsys):
    assert main(["trace", command, "qwen3-30b-a3b"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("note: recorded with top-6: the model's own is top-8; one prompt; ")


def test_the_trace_that_a_run_takes_is_looked_at_by_its_experiment_or_model(tmp_path, capsys):
    path = tmp_path / "one.yaml"
    path.write_text("model: deepseek-v2-lite@q4_k_m\nhardware: rtx-4090\n")
    taken = trace_of(load_experiment(path).experiment)
    for name in (str(path), "deepseek-v2-lite@q4_k_m"):
        assert main(["trace", "stats", name, "--json"]) == 0
        told = capsys.readouterr()
        assert json.loads(told.out) == json.loads(json.dumps(statistics(taken)))
        assert told.err.startswith("warning: trace: 'stand-in:gemma-4-26b-a4b' is no recording")


def test_formats_of_an_experiment_are_no_part_of_its_trace(capsys):
    assert main(["trace", "stats", str(ROOT / "experiments" / "low_bit_copies.yaml")]) == 0
    assert "note: experts.variants: a trace has no formats; slots are" in capsys.readouterr().err


def test_a_model_with_a_recording_that_its_run_does_not_take_says_so(capsys):
    assert main(["trace", "stats", "qwen3-30b-a3b"]) == 0
    told = capsys.readouterr()
    assert told.err.startswith("note: trace: a run of qwen3-30b-a3b that names no trace takes")
    assert main(["trace", "stats", "gpt-oss-20b"]) == 0
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("qwen3-30", "qwen3-30: is no trace, experiment or model; "),
        ("none.parquet", "none.parquet: no such file"),
        ("none.yaml", "none.yaml: "),
        ("none.json", "model 'none.json' is neither"),
        ("llama-3.1-8b", "model: "),
        ("nllb-moe-54b", "trace: "),
    ],
)
def test_what_cannot_be_looked_at_is_one_line(name, what, capsys):
    assert main(["trace", "stats", name]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(what)
