"""``moesim trace synthesize``, ``fit`` and ``distance`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moesim.cli.main import main
from moesim.trace import read_trace

ROOT = Path(__file__).parents[2]
QUICKSTART = str(ROOT / "traces" / "quickstart.parquet")
LM = str(ROOT / "experiments" / "reference_study" / "lm.yaml")


def test_from_a_trace_to_another_and_their_distance(tmp_path, capsys):
    real = str(ROOT / "traces" / "small-moe.parquet")
    part, fitted, drawn = (str(tmp_path / n) for n in ("part.parquet", "p.yaml", "drawn.parquet"))
    cut = ["--requests", "0:6", "--tokens", "150", "--layers", "0:2"]
    assert main(["trace", "slice", real, "-o", part, *cut]) == 0
    assert main(["trace", "fit", part, "-o", fitted]) == 0
    assert main(["trace", "synthesize", fitted, "-o", drawn, "--tokens", "500"]) == 0
    assert "500 tokens, 2 MoE layers, top-4 of 32" in capsys.readouterr().out
    assert read_trace(drawn).metadata.recorder == "moesim trace synthesize"
    assert main(["trace", "validate", drawn]) == 0
    capsys.readouterr()
    assert main(["trace", "distance", part, drawn]) == 0
    assert "lru_miss_16_slots" in capsys.readouterr().out
    assert main(["trace", "distance", part, drawn, "--phase", "prefill", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["phase"] == "prefill"
    rows = {row["measure"]: row for row in result["measures"]}
    assert rows["lru_miss_8_slots"]["distance"] < 10


def test_a_shipped_file_is_found_and_a_domain_chosen(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["trace", "synthesize", "experiments/reference_study/lm.yaml", "-o", "lm.parquet"]
    assert main([*command, "--requests", "2", "--domain", "github", "--seed", "4"]) == 0
    assert "seed 4: LM of the reference study; requests: 2 github" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["synthesize", "none.yaml", "-o", "x.parquet"], "there is no file 'none.yaml'"),
        (["synthesize", LM, "-o", "no/x.parquet"], "its folder does not exist"),
        (["synthesize", LM, "-o", "x.parquet", "--domain", "githib"], "did you mean 'github'"),
        (["synthesize", QUICKSTART, "-o", "x.parquet"], "as 'moesim trace fit' makes them"),
        (["fit", "none.parquet", "-o", "x.yaml"], "no such file"),
        (["distance", "none.parquet", "none.parquet"], "no such file"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(
    arguments, said, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(["trace", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
