"""The software's own cost, from an engine's runs with experts offloaded."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import moesim
from moesim.calibrate.software.fit import SoftwareFit, Terms, fit_software, terms_of
from moesim.calibrate.software.rows import Rows, read_rows
from moesim.calibrate.software.setting import AtBits, software_of, with_link
from moesim.cli.main import main
from moesim.hardware import load_hardware, load_software
from moesim.model import load_model

FITTED = Path(__file__).parents[2] / "data" / "calibrate" / "imp-qwen3-q4.yaml"
"""To two runs of PUBLISHED, which is one too many for a profile that is shipped."""
PUBLISHED = Path(__file__).parents[2] / "data" / "calibrate" / "imp-qwen3-q4.csv"
MACHINE = ("--model", "qwen3-30b-a3b", "--hardware", "rtx-5090")
SETTING = (*MACHINE, "--bits", "4.8", "--link", "25.6 GB/s", "--copied", "matrix")
TERMS = Terms(layers=48, activations=384, copies=3, link_ns=1.3e5, counts_ns=7e3, resident_ns=3.2e6)


def made(terms: Terms, per_layer_ns: float, per_copy_ns: float, hits: list[float]) -> Rows:
    """Rows that the formula itself makes."""
    ratios = np.array(hits)
    time = terms.hardware_ns(ratios) + terms.amounts(ratios) @ [per_layer_ns, per_copy_ns]
    table = pd.DataFrame({"slots": [str(n) for n in range(len(hits))], "hits": ratios})
    return Rows(table.assign(tokens_per_s=1e9 / time, fitted=True), None)


def published(fitted: tuple[str, ...]) -> SoftwareFit:
    kind = software_of("matrix", pinned=True)
    machine = with_link(load_hardware("rtx-5090"), "25.6 GB/s", pinned=True)
    terms = terms_of(AtBits(4.8).model(load_model("qwen3-30b-a3b")), machine, kind, 256)
    return fit_software(read_rows(PUBLISHED, fitted), terms)


@given(
    layer=st.floats(0, 1e6),
    copy=st.floats(0, 1e6),
    hits=st.lists(st.integers(0, 100), min_size=2, max_size=6, unique=True),
)
def test_numbers_come_back(layer: float, copy: float, hits: list[int]) -> None:
    found = fit_software(made(TERMS, layer, copy, [n / 100 for n in hits]), TERMS)
    assert found.per_layer_ns == pytest.approx(layer, rel=1e-6, abs=0.1)
    assert found.per_copy_ns == pytest.approx(copy, rel=1e-6, abs=0.1)
    assert found.table["error_percent"].abs().max() < 1e-4


def test_a_price_is_never_negative() -> None:
    rows = made(TERMS, 0, 0, [0.2, 0.5, 0.9])
    faster = replace(rows, table=rows.table.assign(tokens_per_s=1.5 * rows.table["tokens_per_s"]))
    found = fit_software(faster, TERMS)
    assert (found.per_layer_ns, found.per_copy_ns) == (0, 0)
    assert (found.table["error_percent"] < 0).all()


def test_a_measured_resident_run_replaces_the_price() -> None:
    rows = replace(made(TERMS, 1e5, 1e4, [0.2, 0.5]), resident_ns=2.2e6)
    found = fit_software(rows, TERMS)
    assert found.terms.resident_ns == 2.2e6
    assert found.per_layer_ns == pytest.approx(1e5 + 1e6 / TERMS.layers)


def test_the_middle_rows_of_a_published_engine_judge_its_outer_ones() -> None:
    found = published(("73", "146"))
    errors = dict(zip(found.table["slots"], found.table["error_percent"], strict=True))
    assert abs(errors["73"]) < 1e-6
    assert abs(errors["146"]) < 1e-6
    wanted = {"24": 13.4, "244": -26.4, "none": 26.8}
    assert {slots: errors[slots] for slots in wanted} == pytest.approx(wanted, abs=0.1)


def test_errors_of_the_other_rows_follow_from_the_middle_ones_alone() -> None:
    """Two numbers are a straight line in the hit ratio, whatever link and weights are."""
    found = published(("73", "146"))
    hits, time = found.table["hits"], 1e9 / found.table["predicted_tokens_per_s"]
    measured = 1e9 / found.table["tokens_per_s"]
    line = np.polyfit(hits[[1, 2]], measured[[1, 2]], 1)
    assert np.polyval(line, hits) == pytest.approx(time.to_numpy(), rel=1e-9)
    all_rows = published(())
    assert all_rows.table["error_percent"].abs().max() == pytest.approx(12.5, abs=0.1)


def test_the_command_writes_a_profile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mine.yaml"
    assert (
        main(["calibrate", "software", str(PUBLISHED), *SETTING, "--fit", "73,146", "-o", str(out)])
        == 0
    )
    shown = capsys.readouterr().out
    assert "-12.8 % off the measured 311.0" in shown
    assert shown.count("predicted") == 4
    mine, kept = load_software(str(out)), load_software(str(FITTED))
    names = {"name", "title", "sources"}
    assert mine.model_dump(exclude=names) == kept.model_dump(exclude=names)
    assert "slots 24: 10.5, predicted 11.9 (+13.4 %)" in out.read_text(encoding="utf-8")


@pytest.mark.parametrize("slots", [8, 16, 24])
def test_the_formula_is_what_the_engine_does(slots: int) -> None:
    experiment = {
        "model": "small-moe",
        "hardware": "rtx-5090",
        "trace": "traces/small-moe.parquet",
        "software": str(FITTED),
        "experts": {"capacity": f"{slots} slots/layer"},
        "workload": {"requests": 2},
        "records": "summary",
    }
    summary = moesim.run(experiment).summary
    software = load_software(str(FITTED))
    terms = terms_of(load_model("small-moe"), load_hardware("rtx-5090"), software, 160)
    hits = np.array([summary["hit_ratio_per_expert"]])
    numbers = [software.synchronisation_ns, software.host_per_copy_ns]
    expected = terms.hardware_ns(hits) + terms.amounts(hits) @ numbers
    assert summary["duration_ms"] * 1e6 / summary["steps"] == pytest.approx(expected[0], rel=1e-3)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_hits_of_a_trace_are_shown_beside_the_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], encoding: str
) -> None:
    """Of a table as PowerShell writes it, too."""
    table = tmp_path / "runs.csv"
    table.write_text("slots,hits,tokens_per_s\n8,0.5,100\n16,0.8,180\n", encoding=encoding)
    arguments = ["--model", "small-moe", "--hardware", "rtx-5090", "--trace"]
    out = str(tmp_path / "p.yaml")
    command = ["calibrate", "software", str(table), *arguments, "traces/small-moe.parquet"]
    assert main([*command, "-o", out]) == 0
    shown = capsys.readouterr().out
    assert "hits of" in shown
    assert re.search(r"the trace's hits are up to \d+\.\d points off the rows'", shown)


def test_weights_at_other_bits() -> None:
    model = load_model("qwen3-30b-a3b")
    small = AtBits(4.8).model(model)
    expert = small.moe_layers[0].moe.expert  # type: ignore[union-attr]
    assert expert.bytes == 3 * 2048 * 768 * 48 // 80 + 1
    assert small.parameters == model.parameters
    assert small.bytes / model.bytes == pytest.approx(4.8 / 16, rel=0.01)


HEADER = "slots,hits,tokens_per_s\n"


@pytest.mark.parametrize(
    ("text", "options", "told"),
    [
        ("slots,hit,tokens_per_s\n8,.5,3\n", (), ":1: has no column 'hits'"),
        (f"{HEADER}8,50 %,3\n4,.3,2\n", (), ":2: hits '50 %' is no ratio"),
        (f"{HEADER}8,.5,3\n4,1.3,2\n", (), ":3: hits '1.3' is no ratio"),
        (f"{HEADER}8,.5,0\n4,.3,2\n", (), ":2: tokens_per_s '0' is no number above 0"),
        (f"{HEADER}8,.5,3\n8,.3,2\n", (), ":3: slots '8' names no row, or a second one"),
        (f"{HEADER}8,.5,3\n", (), "has 1 hit ratio(s) to fit"),
        (f"{HEADER}8,.5,3\n4,.5,2\n", (), "has 1 hit ratio(s) to fit"),
        (f"{HEADER}8,.5,3\n4,.3,2\n", ("--fit", "8,5"), "--fit: '5' is not among the slots"),
        (f"{HEADER}8,.5,3\n4,.3,2\n", ("--bits", "99"), "--bits: 99 is no number of bits"),
        (f"{HEADER}8,.5,3\n4,.3,2\n", ("--link", "9 Gb/s"), "--link: '9 Gb/s' is in bits"),
        (f"{HEADER}8,.5,3\n4,.3,2\n", ("--copied", "x"), "--copied: 'x' is no copy"),
        (f"{HEADER}8,.5,3\n4,.3,2\n", ("--model", "llama-3.1-8b"), "has no experts"),
        ("", (), "is no CSV table"),
    ],
)
def test_mistakes_are_one_line(
    text: str, options: tuple[str, ...], told: str, tmp_path: Path, capsys
) -> None:
    table = tmp_path / "runs.csv"
    table.write_text(text, encoding="utf-8")
    out = tmp_path / "p.yaml"
    assert main(["calibrate", "software", str(table), *MACHINE, *options, "-o", str(out)]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert len(error.splitlines()) == 1
    assert not out.exists()


def test_a_missing_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "software", "nix.csv", *MACHINE, "-o", "p.yaml"]) == 2
    assert "nix.csv: is not a file" in capsys.readouterr().err
