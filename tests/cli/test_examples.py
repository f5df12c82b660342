"""Every file in experiments/ runs, and answers its question."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from moesim.cli.main import main
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.loading.warnings import of_inputs
from moesim.report.plot import figure_of
from moesim.results import read_result
from moesim.sweep.found import read_sweep
from moesim.trace import read_trace, write_trace
from moesim.trace.slicing import parse_slice, slice_trace

ROOT = Path(__file__).parents[2]
LARGE = ("chooser",)
"""Thousands of points; a part of it runs in a test of its own."""
EXAMPLES = [
    path for path in sorted((ROOT / "experiments").glob("*.yaml")) if path.stem not in LARGE
]
PARTS = {"quickstart": (":", 12), "small-moe": ("0:6", None)}
"""Requests of the shipped traces, and how many tokens of each."""
MOST = {"requests": 6, "lengths.input_len": 256, "lengths.output_len": 8}
"""Of examples that serve more, so much: what they answer is not judged here."""
DESIGN_KEYS = {
    "model": "gpt-oss-20b                  # a card, or a path to config.json",
    "hardware": "rtx-4060-8gb              # a profile, or a path",
    "trace": "traces/quickstart.parquet",
    "  capacity": "8 slots/layer           # or 12 GiB, or 25 %",
    "  policy": "{kind: lru}",
}


@pytest.fixture(scope="session")
def short_traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the shipped traces, shortened."""
    folder = tmp_path_factory.mktemp("traces")
    for name, (requests, tokens) in PARTS.items():
        trace = read_trace(ROOT / "traces" / f"{name}.parquet")
        short = slice_trace(trace, parse_slice(requests, ""), tokens, parse_slice(":", ""))
        write_trace(short, folder / f"{name}.parquet")
    return folder


@pytest.fixture
def short_trace(short_traces: Path) -> Path:
    return short_traces / "quickstart.parquet"


def shortened(workload: dict[str, Any]) -> list[str]:
    """The settings that keep a ``workload`` within MOST."""
    has = {**workload, **{f"lengths.{key}": of for key, of in workload.get("lengths", {}).items()}}
    longer = [(key, most) for key, most in MOST.items() if (has.get(key) or 0) > most]
    return [word for key, most in longer for word in ("--set", f"workload.{key}={most}")]


def thinned(axes: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Of each axis its ends; of one alone a value between, too."""
    between = len(axes) == 1
    return {
        axis: [values[0], *values[len(values) // 2 :][:between], values[-1]]
        if len(values) > 2 + between
        else values
        for axis, values in axes.items()
    }


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_and_plots(path, short_traces, tmp_path, capsys):
    out = tmp_path / "out"
    example = yaml.safe_load(path.read_text())
    swept = "sweep" in example
    verb = "sweep" if swept else "run"
    named = example.get("trace")
    shipped = named is not None and named.endswith(".parquet")
    settings = ["--set", f"trace={short_traces / Path(named).name}"] if shipped else []
    settings += shortened(example.get("workload", {}))
    if swept:
        settings += ["--set", f"sweep={json.dumps(thinned(example['sweep']))}"]
    code = main([verb, str(path), "--out", str(out), *settings])
    assert code == 0, capsys.readouterr().err
    if swept:
        table = read_sweep(out).table
        assert set(table["status"]) <= {"ok", "out_of_memory"}
        assert (table["status"] == "ok").sum() >= 2
    else:
        assert read_result(out).status == "ok"
    assert main(["plot", str(out), "--format", "png"]) == 0, capsys.readouterr().err
    for figure in yaml.safe_load(path.read_text())["figures"]:
        assert (out / "figures" / f"{figure_of(figure).stem}.png").stat().st_size > 5_000


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_states_its_question_and_every_point_is_valid(path):
    points = [point for _, point in load_experiment(path).points]
    assert points
    assert not [line for line in of_inputs(points) if "without effect" in line]
    comment = "".join(line for line in path.read_text().splitlines() if line.startswith("#"))
    assert "?" in comment


def test_quickstart_has_one_key_a_line():
    lines = (ROOT / "experiments" / "quickstart.yaml").read_text().splitlines()
    for key, value in DESIGN_KEYS.items():
        assert f"{key}: {value}" in lines


def test_sixteen_slots_do_not_fit_on_8_gb(short_trace, tmp_path):
    settings = ["--set", f"trace={short_trace}", "--set", "experts.capacity=16 slots/layer"]
    path = ROOT / "experiments" / "quickstart.yaml"
    assert main(["run", str(path), "--out", str(tmp_path / "out"), *settings]) == 0
    result = read_result(tmp_path / "out")
    assert result.status == "out_of_memory"
    assert result.summary["reason"]
    assert result.summary["peak_memory_bytes"] > 0
