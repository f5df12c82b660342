"""What llama-bench wrote, in each form that it has, and whether it is the run that is described."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from moesim.calibrate.host.measured import measured_run
from moesim.calibrate.published.pack import COLUMNS, read_pack
from moesim.cli.main import main
from moesim.config.errors import InputError

TABLE = """\
| model                  |      size |  params | backend | ngl | n_cpu_moe | threads | test |      t/s |
| ---------------------- | --------: | ------: | ------- | --: | --------: | ------: | ---: | -------: |
| gpt-oss 20B MXFP4 MoE  | 11.27 GiB | 20.91 B | CUDA    |  99 |        20 |       6 | pp512 | 900.12 ± 3.21 |
| gpt-oss 20B MXFP4 MoE  | 11.27 GiB | 20.91 B | CUDA    |  99 |        20 |       6 | tg128 | 31.50 ± 0.35 |

build: 5e7d95e22 (6123)
"""  # noqa: E501
ROW = {
    "model_type": "gpt-oss 20B MXFP4 MoE", "model_n_params": 20914757184, "n_threads": 6,
    "n_cpu_moe": 20, "n_prompt": 0, "n_gen": 128, "n_depth": 0, "avg_ts": 31.5,
}  # fmt: skip


def described(folder: Path, layers: int = 20, name: str = "run", **more: Any) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps({
        "model": "gpt-oss-20b", "hardware": "rtx-4060-8gb", "software": "llama.cpp",
        "experts": {"on_cpu": {"layers": layers}}, **more,
    }))  # fmt: skip
    return path


def added(folder: Path, run: Path, row: dict[str, Any]) -> int:
    bench = folder / "bench.json"
    bench.write_text(json.dumps([row]))
    asked = ["evidence", "add", str(run), "--measured", str(bench)]
    return main([*asked, "--pack", str(folder / "pack")])


@pytest.mark.parametrize("coded", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_table_that_it_prints_says_what_its_json_says(tmp_path: Path, coded: str) -> None:
    """Windows PowerShell writes UTF-16 where output goes into a file."""
    printed, rows = tmp_path / "bench.md", tmp_path / "bench.json"
    printed.write_bytes(TABLE.replace("\n", "\r\n").encode(coded))
    rows.write_bytes(json.dumps([ROW]).encode(coded))
    table, file = measured_run(str(printed)), measured_run(str(rows))
    assert (table.tokens_per_s, table.threads, table.layers_on_cpu) == (31.5, 6, 20)
    assert (file.tokens_per_s, file.threads, file.layers_on_cpu) == (31.5, 6, 20)
    assert table.parameters == pytest.approx(file.parameters, rel=1e-3)
    assert table.depth == file.depth == 0
    printed.write_text(TABLE.replace("tg128", "tg128 @ d4096"))
    assert measured_run(str(printed)).depth == 4096


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("31.50 ± 0.35", "nan ± nan", "avg_ts 'nan' is no number above 0"),
        ("31.50 ± 0.35", "fast", "avg_ts 'fast' is no number above 0"),
        ("tg128", "pp128", "has 0 rows that only decode"),
        ("pp512", "tg512", "has 2 rows that only decode"),
        ("|", "!", "is neither the table that llama-bench prints nor its JSON"),
    ],
)
def test_tables_that_say_no_speed(tmp_path: Path, old: str, new: str, what: str) -> None:
    path = tmp_path / "bench.md"
    path.write_text(TABLE.replace(old, new))
    with pytest.raises(InputError, match=what):
        measured_run(str(path))


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"n_cpu_moe": 12}, "has 20 layers on the CPU, but the run had n_cpu_moe 12"),
        ({"n_cpu_moe": 0}, "has 20 layers on the CPU, but the run had n_cpu_moe 0"),
        ({"model_n_params": 116_829_156_672}, "but the run's model 116.8 B; name the run's"),
    ],
)
def test_another_run_than_the_one_described_is_no_evidence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], row: dict[str, Any], what: str
) -> None:
    assert added(tmp_path, described(tmp_path), {**ROW, **row}) == 2
    told = capsys.readouterr().err
    assert told.startswith("run.yaml:1: ")
    assert what in told
    assert not (tmp_path / "pack").exists()


def test_tensors_placed_by_name_say_nothing_of_layers(tmp_path: Path) -> None:
    placed = {**ROW, "n_cpu_moe": 0, "tensor_buft_overrides": "exps=CPU"}
    assert added(tmp_path, described(tmp_path), placed) == 0


def test_another_depth_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deep = {**ROW, "n_depth": 4096}
    assert added(tmp_path, described(tmp_path), deep) == 0
    assert "the run began at a depth of 4,096 tokens" in capsys.readouterr().err
    same = described(tmp_path, name="same", workload={"phase": "decode", "context": "4k"})
    assert added(tmp_path, same, deep) == 0
    assert "depth" not in capsys.readouterr().err
    assert added(tmp_path, described(tmp_path, name="empty"), ROW) == 0
    short = described(tmp_path, name="short", workload={"phase": "decode", "context": 512})
    assert added(tmp_path, short, ROW) == 0
    assert "depth" not in capsys.readouterr().err
    filled = described(tmp_path, name="filled", workload={"phase": "decode", "context": "16k"})
    assert added(tmp_path, filled, ROW) == 0
    told = "began at a depth of 0 tokens, the experiment's context is 16,384 tokens; leave it out"
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["", "\n", "\r\n\r\n"])
def test_a_row_is_put_under_the_columns_that_a_table_has(tmp_path: Path, ending: str) -> None:
    """A table that a spreadsheet saved: other order, a column of its own, no line's end."""
    pack = tmp_path / "pack"
    assert added(tmp_path, described(tmp_path), ROW) == 0
    columns = [*COLUMNS[::-1], "notes"]
    (first,) = csv.DictReader((pack / "measured.csv").open())
    lines = [columns, [{**first, "notes": "cold"}[name] for name in columns]]
    quoted = [",".join(f'"{cell}"' for cell in line) for line in lines]
    (pack / "measured.csv").write_bytes(("\ufeff" + "\r\n".join(quoted) + ending).encode())
    assert added(tmp_path, described(tmp_path, name="other"), {**ROW, "avg_ts": 29.5}) == 0
    runs = read_pack(pack)
    assert [(one.run, one.measured_tokens_per_s) for one in runs] == [
        ("run", 31.5),
        ("other", 29.5),
    ]
    assert runs[1].engine == "llama.cpp"


def test_a_path_that_the_copy_may_not_find_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = Path(__file__).parents[3] / "traces" / "quickstart.parquet"
    own = tmp_path / "own.parquet"
    own.write_bytes(trace.read_bytes())
    assert added(tmp_path, described(tmp_path, trace="own.parquet"), ROW) == 0
    assert f"warning: trace: 'own.parquet' is {own} here" in capsys.readouterr().err
    for number, name in enumerate((str(own), "traces/quickstart.parquet")):
        assert added(tmp_path, described(tmp_path, name=f"run{number}", trace=name), ROW) == 0
        assert capsys.readouterr().err == ""
