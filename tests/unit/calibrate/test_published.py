"""Published runs: the pack that is committed, and how runs are compared and judged."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from moesim.api import evidence
from moesim.calibrate.host.fit import with_share
from moesim.calibrate.published.others import kernels
from moesim.calibrate.published.overview import others, overview
from moesim.calibrate.published.pack import (
    COLUMNS,
    TIMES,
    PublishedRun,
    pack_folder,
    read_pack,
    shipped_packs,
)
from moesim.calibrate.published.predict import (
    blind,
    equal_pairs,
    fitted_hosts,
    judged,
    median_error,
    right_pairs,
    within,
)
from moesim.cli.main import main
from moesim.config.errors import InputError
from moesim.experiment.loading.names import needed
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.running.run import simulate
from moesim.hardware.layers import part_names
from moesim.hardware.operations.kernels.cpu_expert import REACHED
from moesim.model import load_model
from moesim.report.judged.evidence import FIGURES, lines
from moesim.report.judged.evidence_overview import cells, markdown, short_table
from moesim.report.judged.published import FURTHEST, draw, hosts_table, runs_table, save, summary
from moesim.report.page import page_of

pytestmark = pytest.mark.usefixtures("unrendered")

ROOT = Path(__file__).parents[3]
PACK = read_pack(ROOT / "experiments" / "published")
THROUGHPUTS = read_pack(ROOT / "experiments" / "throughputs")
PARTS = {"gpu": "rtx-3090", "host": "ddr4-3200-2ch-64gb", "link": "pcie4-x16"}
MOST_LINES = 15


def described(layers: int, **experts: Any) -> dict[str, Any]:
    return {"model": "gpt-oss-20b", "hardware": PARTS, "workload": {"requests": 1},
            "experts": {"on_cpu": {"layers": layers}, **experts}}  # fmt: skip


def speed(experiment: dict[str, Any], share: float) -> float:
    read = load_experiment(experiment).experiment
    changed = read.model_copy(update={"hardware": with_share(read.hardware, share)})
    return float(simulate(changed).summary["output_throughput"])


def row(run: str, tokens_per_s: object, **more: str) -> dict[str, str]:
    plain = dict.fromkeys(COLUMNS, "-")
    return {**plain, "run": run, "host": "", "measured_tokens_per_s": str(tokens_per_s), **more}


def written(folder: Path, rows: list[dict[str, str]], **files: dict[str, Any]) -> Path:
    with (folder / "measured.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for name, content in files.items():
        (folder / f"{name}.yaml").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("run", PACK, ids=lambda run: run.run)
def test_a_published_run_is_told_in_few_lines_and_rests_on_no_fit(run: PublishedRun) -> None:
    text = run.file.read_text()
    assert len(text.splitlines()) <= MOST_LINES
    assert text.startswith(f"# {run.engine.split()[0]}")
    assert run.source
    assert run.certainty
    experiment = load_experiment(run.file).experiment
    assert experiment.name == f"published-{run.run}"
    hardware = needed("hardware", experiment.hardware, experiment.folders)
    share = hardware.host.expert_fraction
    assert not run.host or hardware.sources[share.source].startswith("prior")


def test_every_file_of_the_pack_has_a_row() -> None:
    files = {path.stem for path in (ROOT / "experiments" / "published").glob("*.yaml")}
    assert files == {run.run for run in PACK}


def test_throughputs_of_one_deployment_share_its_file() -> None:
    files = {path.stem for path in (ROOT / "experiments" / "throughputs").glob("*.yaml")}
    assert files == {run.file.stem for run in THROUGHPUTS}
    for run in THROUGHPUTS:
        given, asked = run.setting.split(), load_experiment(run.file, run.settings).experiment
        tokens = asked.workload.lengths.model_dump()
        assert f"{tokens['input_len']} in, {tokens['output_len']} out," in run.setting
        assert str(asked.workload.requests) == given[given.index("requests") - 1]


def test_a_pack_is_a_folder_or_a_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_pack(pack_folder("throughputs")) == THROUGHPUTS
    (tmp_path / "throughputs").mkdir()
    assert pack_folder("throughputs") == Path("throughputs")
    with pytest.raises(InputError, match=r"^--pack: .*llama_bench.*did you mean 'published'"):
        pack_folder("publish")


def test_the_help_names_every_shipped_pack(capsys: pytest.CaptureFixture[str]) -> None:
    main(["evidence", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert all(f"{pack}," in told for pack in shipped_packs())


def test_results_of_runs_go_to_the_cache_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, [row("one", 10)], one=described(24))
    monkeypatch.setenv("MOESIM_CACHE", str(tmp_path / "kept"))
    evidence(tmp_path / "out", pack=tmp_path)
    assert len([*(tmp_path / "kept").glob("*.result")]) == 1
    assert not (tmp_path / "out" / "runs").exists()
    monkeypatch.delenv("MOESIM_CACHE")
    evidence(tmp_path / "out", pack=tmp_path)
    assert len([*(tmp_path / "out" / "runs").glob("*.result")]) == 1


def test_rows_may_share_a_file_with_settings_of_their_own(tmp_path: Path) -> None:
    shared = {"file": "one", "set": "workload.context=64 experts.on_cpu.layers=12"}
    rows = [{**row("one", 10), "file": "", "set": ""}, {**row("other", 10), **shared}]
    runs = read_pack(written(tmp_path, rows, one=described(24)))
    table = blind(runs).set_index("run")
    assert table.predicted_tokens_per_s["one"] == pytest.approx(speed(described(24), 0.5))
    assert table.predicted_tokens_per_s["other"] > 1.2 * table.predicted_tokens_per_s["one"]
    with pytest.raises(InputError, match=r"file: there is no experiment .*nowhere\.yaml"):
        read_pack(written(tmp_path, [{**rows[1], "file": "nowhere"}]))


@pytest.mark.parametrize(
    "pack",
    ["closed_loops", "offload_late", "offload_reports", "offload_sweeps", "phone", "vllm_runs"],
)
def test_runs_of_other_packs_load(pack: str) -> None:
    runs = read_pack(pack_folder(pack))
    used = {run.file for run in runs}
    assert used == {
        path for path in pack_folder(pack).glob("*.yaml") if "\nhardware:" in path.read_text()
    }
    assert {run.of for run in runs} <= {*TIMES, *([""] if pack.startswith("offload_") else [])}
    assert len({run.run for run in runs}) == len(runs)
    for run in {run.file: run for run in runs}.values():
        asked = load_experiment(run.file, run.settings, alone=True).experiment
        assert run.source
        assert asked.model
    loops = [run for run in runs if pack == "closed_loops"]
    assert len(loops) in (0, 96)
    for run in loops:
        clients, lengths = run.setting.split()[-2], run.setting
        assert f"max_concurrency={clients}" in " ".join(run.settings)
        tokens = load_experiment(run.file, run.settings).experiment.workload.lengths.model_dump()
        assert f"{tokens['input_len']} in, {tokens['output_len']} out," in lengths


def test_a_row_may_be_of_a_time(tmp_path: Path) -> None:
    """Where it took twice as long moesim is half too fast; the range is that of a speed too."""
    made = simulate(load_experiment(described(24)).experiment).summary
    tpot = made["mean_tpot_ms"]
    time = {"of": "mean_tpot_ms", "measured_ms": f"{2 * tpot}", "file": "one", "set": ""}
    rows = [{**row("time", ""), **time}, {**row("one", 3), "file": "", "of": "", "measured_ms": ""}]
    runs = read_pack(written(tmp_path, rows, one=described(24)))
    found = blind(runs, ranges=True).set_index("run")
    assert found.error_percent["time"] == pytest.approx(-50)
    assert found.predicted_tokens_per_s["time"] == pytest.approx(1e3 / tpot)
    ends = made["price_interval"]["output_throughput"]
    assert found.low_tokens_per_s["time"] * tpot / 1e3 == pytest.approx(ends["low"] / ends["value"])
    wrong = {**rows[0], "of": "mean_ttt_ms"}
    with pytest.raises(InputError, match=r"of: .mean_ttt_ms.: allowed: .*mean_ttft_ms"):
        read_pack(written(tmp_path, [wrong]))
    with pytest.raises(InputError, match="2: measured_ms: 'soon' is no number above 0"):
        read_pack(written(tmp_path, [{**rows[0], "measured_ms": "soon"}]))


def test_times_stand_in_ms_each_kind_by_itself(tmp_path: Path) -> None:
    """A time to the first token had been so many tokens/s, in one median with those between tokens,
    and in pairs with them.
    """
    served = {"model": "small-moe", "hardware": "rtx-4060-8gb", "workload": {
        "requests": 8, "arrivals": {"kind": "closed_loop", "max_concurrency": 2},
        "lengths": {"kind": "fixed", "input_len": 60, "output_len": 20},
        "routing": {"kind": "draw"}, "batching": {"kind": "continuous"}}}  # fmt: skip
    made = simulate(load_experiment(served).experiment)
    ttft, tpot = (made.summary[f"mean_{of}_ms"] for of in ("ttft", "tpot"))
    times = {"mean_ttft_ms": 2 * ttft, "mean_tpot_ms": 1.1 * tpot}
    rows = [
        {**row(of, ""), "file": "one", "set": "", "of": of, "measured_ms": f"{ms}"}
        for of, ms in times.items()
    ]
    runs = read_pack(written(tmp_path, rows, one=served))
    table = blind(runs, ranges=True, cache=tmp_path)
    assert right_pairs(table) == (0, 0)
    told = [line for line in lines(table) if "median" in line]
    assert told == ["median error of the time to first token: 50 % of 1 run",
                    "median error of the time between tokens: 9 % of 1 run"]  # fmt: skip
    assert f"| {2 * ttft:.4g} ms | {ttft:.4g} ms |" in runs_table(table)[2]
    first, second = table["implies"]
    own = made.requests.ttft_attention_ms.mean()
    assert first.startswith(f"predicted {ttft:.3g} ms to the first token (experts ")
    assert f", attention {own:.3g}, " in first
    assert second.startswith(f"predicted {tpot:.3g} ms a token (")


def test_an_overview_has_a_row_for_what_was_measured() -> None:
    nothing = float("nan")
    table = pd.DataFrame({
        "run": ["a", "b", "c", "d"], "of": ["", "", "", "mean_ttft_ms"],
        "family": ["x"] * 4, "measured_tokens_per_s": [1.0, 2.0, 3.0, 5.0],
        "predicted_tokens_per_s": [1.1, 1.6, nothing, 5.0],
        "low_tokens_per_s": [0.9, 1.5, nothing, 5.0], "high_tokens_per_s": [1.3, 1.7, nothing, 5.0],
        "error_percent": [-10.0, 20.0, nothing, 0.0],
    })  # fmt: skip
    found = overview({"mine": table})
    assert list(found.what) == ["mine", "mine: time to first token"]
    assert list(found.runs) == [2, 1]
    assert cells(found)[0] == ("mine", "2", "15 %", "19 %", "1 of 2 (50 %)", "1 of 1 (100 %)")
    assert cells(found)[1] == ("mine: time to first token", "1", "0 %", "0 %", "-", "-")
    assert markdown(found)[2].startswith("| mine | 2 | 15 % |")
    assert short_table(table)[5] == "| d | 200 ms | 200 ms | - | +0 % |"


def test_what_no_run_is_of_stands_in_the_overview_too() -> None:
    told = others().set_index("what")
    fits = kernels()
    assert len(fits) == told.runs["kernels left out of fits (fits)"] > 100
    assert set(fits.card) >= {"h100-sxm", "a100-sxm-80gb"}
    assert told.runs["study, blind"] == 17
    assert told.median_percent["closed loop on a CPU"] < 5


def test_all_packs_are_predicted_by_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    written(tmp_path / "mine", [row("one", 10)], one=described(24))
    monkeypatch.setattr("moesim.calibrate.published.pack.shipped_packs", lambda: ["mine"])
    monkeypatch.chdir(tmp_path)
    assert main(["evidence", "--pack", "all", "--out", "out"]) == 0
    told = capsys.readouterr().out
    assert "median" in told
    assert "kernels left" in told
    table = pd.read_csv(tmp_path / "out" / "overview.csv")
    assert list(table.what[:1]) == ["mine"]
    assert (tmp_path / "out" / "mine" / "evidence.csv").is_file()
    fits = pd.read_csv(tmp_path / "out" / "kernels.csv")
    assert (
        fits.p90_percent.median() == table.p90_percent[table.what.str.startswith("kernels")].item()
    )
    assert len(pd.read_csv(tmp_path / "out" / "study.csv")) == 17
    assert main(["evidence", "--pack", "all", "--out", "out", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["packs"][0]["what"] == "mine"


def test_all_packs_name_what_they_cannot_predict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    large = described(0) | {"hardware": "rtx-4060-8gb", "experts": {"capacity": "all"}}
    written(tmp_path / "mine", [row("large", 10)], large=large)
    monkeypatch.setattr("moesim.calibrate.published.pack.shipped_packs", lambda: ["mine"])
    monkeypatch.chdir(tmp_path)
    assert main(["evidence", "--pack", "all", "--out", "out"]) == 0
    assert "no prediction, mine: large: GPU 0" in capsys.readouterr().out
    assert "- no prediction, mine: large: GPU 0" in (tmp_path / "out" / "overview.md").read_text()


def test_some_runs_of_all_packs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packs without one are left out; how far it is counts the runs of all."""
    for pack, runs in (("a", ("one", "two")), ("b", ("three",)), ("c", ("four", "one"))):
        (tmp_path / pack).mkdir()
        files = dict.fromkeys(runs, described(24))
        written(tmp_path / pack, [row(run, 10) for run in runs], **files)
    monkeypatch.setattr("moesim.calibrate.published.pack.shipped_packs", lambda: ["a", "b", "c"])
    monkeypatch.chdir(tmp_path)
    seen: list[tuple[int, int]] = []
    table, paths = evidence(
        "out",
        pack="all",
        runs=["one"],
        progress=lambda finished, total: seen.append((finished, total)),
    )
    assert (list(table.what), list(table.runs)) == (["a", "c"], [1, 1])
    assert seen == [(1, 2), (2, 2)]
    assert not (tmp_path / "out" / "b").exists()
    assert tmp_path.joinpath("out", "c", "evidence.csv") in [path.absolute() for path in paths]
    with pytest.raises(InputError, match="--run"):
        evidence("out", pack="all", runs=["five"])
    assert len(evidence("out", pack="a", runs=["one", "one"])[0]) == 1


def test_the_page_has_every_run_and_every_fitted_host() -> None:
    page = (ROOT / "docs" / "evidence_offloading.md").read_text()
    for run in PACK:
        assert f"\n| {run.run} | {run.engine} |" in page
    fitted = {run.host for run in PACK} & set(part_names("host"))
    assert len(fitted) == 10
    for name in fitted:
        assert f"\n| `{name}` |" in page


def test_errors_are_of_the_time_a_token(tmp_path: Path) -> None:
    made = speed(described(24), 0.5)
    rows = [row("slow", 0.8 * made), row("fast", 2 * made)]
    runs = read_pack(written(tmp_path, rows, slow=described(24), fast=described(24)))
    table = blind(runs).set_index("run")
    assert table.predicted_tokens_per_s["slow"] == pytest.approx(made)
    assert table.error_percent["slow"] == pytest.approx(-20)
    assert table.error_percent["fast"] == pytest.approx(100)
    assert median_error(table) == pytest.approx(60)
    assert table.waiting_for_cpu_percent["slow"] > 50
    assert table.rests_on["slow"].startswith("experts on the CPU")
    assert table.most_rests_on["slow"] == "experts on the CPU"


def test_a_range_covers_the_host_and_its_prices(tmp_path: Path) -> None:
    runs = read_pack(written(tmp_path, [row("one", 10)], one=described(24)))
    found = blind(runs, ranges=True).iloc[0]
    summary = simulate(load_experiment(described(24)).experiment).summary
    ends = summary["price_interval"]["output_throughput"]
    assert found.low_tokens_per_s == pytest.approx(ends["low"])
    assert found.high_tokens_per_s == pytest.approx(ends["high"])
    hosts = [speed(described(24), share) for share in REACHED]
    assert ends["low"] < hosts[0]
    assert ends["high"] > hosts[1], "what is computed is taken to be as unknown as what is read"
    inside = pd.DataFrame(
        [found.to_dict() | {"measured_tokens_per_s": x} for x in (1.0, ends["value"])]
    )
    assert within(inside) == (1, 2)
    pointed = inside.assign(low_tokens_per_s=5.0, high_tokens_per_s=5.0)
    assert within(pointed) == (0, 0), "prices without a known error state no range"


def test_where_cores_take_no_time_a_range_ends_where_such_hosts_do() -> None:
    fast = {**PARTS, "host": {"base": PARTS["host"], "core_rate": "100 TFLOP/s"}}
    asked = {**described(24), "hardware": fast}
    ends = simulate(load_experiment(asked).experiment).summary["price_interval"][
        "output_throughput"
    ]
    hosts = [speed(asked, share) for share in REACHED]
    assert ends["low"] == pytest.approx(hosts[0], rel=0.1)
    assert ends["high"] == pytest.approx(hosts[1], rel=0.1)


def test_what_is_far_off_says_what_it_would_imply(tmp_path: Path) -> None:
    """Half the speed by the host alone is less than half of its bandwidth; twenty times is none."""
    made = speed(described(24), 0.5)
    rows = [row("slow", made / 2), row("fast", 20 * made)]
    runs = read_pack(written(tmp_path, rows, slow=described(24), fast=described(24)))
    table = blind(runs, cache=tmp_path)
    slow, fast = table["implies"]
    assert "were all else right, waiting for cpu took" in slow
    experts = 24 * 4 * load_model("gpt-oss-20b").moe_layers[0].expert_bytes / 32  # of a token
    summary = simulate(load_experiment(described(24)).experiment).summary
    waits = summary["time_share"]["waiting_for_cpu"] / summary["output_throughput"]
    assert slow.endswith(f"GB/s in place of {experts / waits / 1e9:.3g}")
    assert 20 < experts / waits / 1e9 < 25.6, "each layer has a start beside half of the peak"
    assert "all but waiting for cpu takes" in fast
    assert blind(runs, cache=tmp_path).equals(table)
    assert len([*tmp_path.glob("*.result")]) == 1


def test_a_run_that_is_refused_says_why(tmp_path: Path) -> None:
    large = {"model": "deepseek-v3", "hardware": "rtx-4090", "workload": {"requests": 1}}
    runs = read_pack(written(tmp_path, [row("large", 10)], large=large))
    found = blind(runs, ranges=True).iloc[0]
    assert pd.isna(found.predicted_tokens_per_s)
    assert pd.isna(found.low_tokens_per_s)
    assert found.reason
    assert f"no prediction of large: {found.reason}" in lines(pd.DataFrame([found]))


@pytest.mark.usefixtures("rendered")
def test_own_runs_are_put_in_and_predicted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, pack, out = tmp_path / "mine.yaml", tmp_path / "runs", tmp_path / "out"
    file.write_text(json.dumps(described(24)))
    add = ["evidence", "add", str(file), "--measured", "12.5 tokens/s", "--pack", str(pack)]
    assert main(add) == 0
    assert main(add) == 2
    assert "'mine' is in" in capsys.readouterr().err
    assert main([*add[:-1], "published"]) == 2
    assert "'published' is a shipped pack" in capsys.readouterr().err
    assert main([*add[:4], "fast", *add[5:]]) == 2
    assert capsys.readouterr().err.startswith("--measured: ")
    assert main(["evidence", "--pack", str(pack), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "measured inside the stated range: " in told
    table = pd.read_csv(out / "evidence.csv")
    assert list(table.measured_tokens_per_s) == [12.5]
    page = (out / "evidence.md").read_text()
    assert "| mine | ideal | gpt-oss-20b |" in page
    assert {"by_machine", "error_by_price"} < set(FIGURES)
    assert all((out / f"{name}.png").is_file() for name in FIGURES)
    shown = page_of(out)
    assert shown.board is not None
    assert shown.board.rows[0][:3] == ("mine", "ideal", "gpt-oss-20b")
    assert shown.board.rows[0][4] == "12.50"
    assert main(["evidence", "--pack", str(pack), "--run", "no", "--out", str(out)]) == 2
    assert "mine" in capsys.readouterr().err


def test_a_machine_of_parts_is_its_gpu_and_its_host(tmp_path: Path) -> None:
    """Its whole text was the label of a figure that had no room for its axes."""
    machine = {"gpu": "rtx-4090", "host": {"base": "ddr5-5600-2ch-96gb", "cores": 8}}
    file, pack = tmp_path / "parts.yaml", tmp_path / "runs"
    file.write_text(json.dumps(described(24) | {"hardware": machine}))
    assert main(["evidence", "add", str(file), "--measured", "9 t/s", "--pack", str(pack)]) == 0
    (run,) = read_pack(pack)
    assert (run.gpu, run.cpu) == ("rtx-4090", "ddr5-5600-2ch-96gb")


def test_a_run_that_its_host_was_fitted_to_is_no_evidence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was off by 0 %, and inside its range."""
    file, host, pack = tmp_path / "mine.yaml", tmp_path / "host.yaml", tmp_path / "runs"
    file.write_text(json.dumps(described(24)))
    measured = ["--measured", "12.5 tokens/s"]
    assert main(["calibrate", "host", str(file), *measured, "-o", str(host)]) == 0
    parts = {"gpu": "rtx-4090", "host": str(host)}
    file.write_text(json.dumps(described(24) | {"hardware": parts}))
    assert main(["evidence", "add", str(file), *measured, "--pack", str(pack)]) == 2
    assert "fitted to a run of 12.5 tokens/s, which is this one" in capsys.readouterr().err
    add = ["evidence", "add", str(file), "--measured", "11 tokens/s", "--pack", str(pack)]
    assert main(add) == 0
    table = pack / "measured.csv"
    table.write_text(table.read_text().replace(",11,", ",12.5,"))
    (found,) = blind(read_pack(pack)).to_dict("records")
    assert (found["status"], np.isnan(found["error_percent"])) == ("refused", True)
    assert "is no evidence" in found["reason"]


def test_what_a_run_measured_beside_its_speed_is_a_row_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, pack = tmp_path / "mine.yaml", tmp_path / "runs"
    file.write_text(json.dumps(described(24) | {"workload": {"requests": 1, "phase": "all"}}))
    add = ["evidence", "add", str(file), "--pack", str(pack), "--measured", "9 tokens/s"]
    assert main([*add, "--measured", "11 tokens/s"]) == 2
    told = "--measured: measured_tokens_per_s is given twice, 9 and 11; give it once"
    assert told in capsys.readouterr().err
    assert not pack.exists()
    assert main([*add, "--measured", "800 ms TTFT"]) == 0
    speed, first = read_pack(pack)
    assert (speed.run, speed.of, speed.measured_tokens_per_s) == ("mine", "", 9)
    assert (first.run, first.of, first.measured_tokens_per_s) == ("mine-ttft", "mean_ttft_ms", 1.25)
    assert speed.file == first.file == pack / "mine.yaml"


@pytest.mark.parametrize(
    ("time", "what"),
    [("800 ms TTFT", "first tokens"), ("5 s E2EL", "times from prompt to end")],
)
def test_times_with_prompts_of_decodes_alone_are_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], time: str, what: str
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(json.dumps(described(24)))
    pack = ["--pack", str(tmp_path / "runs")]
    assert main(["evidence", "add", str(file), "--measured", time, *pack]) == 2
    assert f"workload.phase: has no {what}" in capsys.readouterr().err


def test_a_sweep_of_a_run_is_told_to_be_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The experiment's base had been predicted, whichever point had been measured."""
    file = tmp_path / "mine.yaml"
    file.write_text(json.dumps(described(24) | {"sweep": {"experts.on_cpu.layers": [12, 24]}}))
    pack = str(tmp_path / "runs")
    assert main(["evidence", "add", str(file), "--measured", "9 tokens/s", "--pack", pack]) == 0
    assert "warning: sweep: a run is one point" in capsys.readouterr().err


def test_a_run_is_added_to_a_pack_that_powershell_wrote(tmp_path: Path) -> None:
    """Its table and the experiment are UTF-16, and UTF-8 afterwards."""
    pack = tmp_path / "pack"
    pack.mkdir()
    written(pack, [row("one", 10)], one=described(24))
    table, file = pack / "measured.csv", tmp_path / "two.yaml"
    table.write_text(table.read_text(encoding="utf-8"), encoding="utf-16")
    file.write_text(json.dumps(described(12)), encoding="utf-16")
    add = ["evidence", "add", str(file), "--measured", "12.5 tokens/s", "--pack", str(pack)]
    assert main(add) == 0
    assert [one.measured_tokens_per_s for one in read_pack(pack)] == [10, 12.5]
    assert json.loads((pack / "two.yaml").read_text(encoding="utf-8")) == described(12)
    assert next(csv.reader(table.read_text(encoding="utf-8").splitlines())) == list(row("one", 10))


def test_a_host_fitted_to_one_run_predicts_its_other_runs(tmp_path: Path) -> None:
    share = 0.63
    cpu, half = described(24), described(12)
    rows = [
        row("all", speed(cpu, share), host="mine"),
        row("half", speed(half, share), host="mine"),
        row("other", speed(cpu, 0.4), host="other"),
        row("wrong", 5000, host="mine"),
        row("none", 100),
    ]
    files = {"half": half, **dict.fromkeys(("all", "other", "wrong", "none"), cpu)}
    runs = read_pack(written(tmp_path, rows, **files))
    hosts = fitted_hosts(runs)
    assert set(hosts.fits) == {"all", "half", "other"}
    assert "too fast" in hosts.refused["wrong"]
    assert hosts.fits["all"].share == pytest.approx(share, abs=2e-4)
    table = judged(runs, hosts)
    pairs = set(zip(table.fitted_to, table.run, strict=True))
    assert pairs == {("all", "half"), ("half", "all"), ("all", "wrong"), ("half", "wrong")}
    own = table[table.run != "wrong"]
    assert own.error_percent.abs().max() < 0.1
    told = summary(blind(runs), own)
    assert "half, with its host fitted to all: -0 %" in " ".join(told).replace("+0", "-0")
    assert told[-1] == "1 host of 2 with one run only: nothing judges a fit to it"
    assert hosts_table({"mine": hosts.fits["all"]})[2].startswith("| `mine` | 63% |")


def test_pairs_are_of_one_engine_and_in_order() -> None:
    table = pd.DataFrame({
        "family": ["a", "a", "a", "b", "b"],
        "measured_tokens_per_s": [1.0, 2.0, 3.0, 10.0, 20.0],
        "predicted_tokens_per_s": [5.0, 4.0, 6.0, 1.0, float("nan")],
        "error_percent": [0.0, 0.0, 0.0, 0.0, float("nan")],
    })  # fmt: skip
    assert right_pairs(table) == (2, 3)
    assert equal_pairs(table) == 0


def test_runs_that_were_measured_to_be_equal_are_in_no_order() -> None:
    """They counted as pairs in the wrong order. Those that are told to be equal are wrong."""
    table = pd.DataFrame({
        "run": ["one", "two", "other"], "family": "a", "of": "",
        "measured_tokens_per_s": [2.0, 2.0, 3.0], "predicted_tokens_per_s": [4.0, 5.0, 5.0],
        "low_tokens_per_s": 1.0, "high_tokens_per_s": 9.0, "error_percent": 0.0,
        "waiting_for_cpu_percent": 0.0,
    })  # fmt: skip
    assert (right_pairs(table), equal_pairs(table)) == ((1, 2), 1)
    assert summary(table.assign(host=""), pd.DataFrame())[-2].endswith(
        "in the measured order: 1 of 2 (1 more was measured to be equal)"
    )
    assert cells(overview({"p": table}))[0][-1] == "1 of 2 (50 %), 1 equal"
    assert cells(overview({"p": table[:2]}))[0][-1] == "-, 1 equal"


@pytest.mark.usefixtures("rendered")
def test_the_figure_and_the_table(tmp_path: Path) -> None:
    table = pd.DataFrame({
        "run": ["r1", "r2"], "family": ["a", "b"], "engine": ["a 1", "b"], "model": ["m", "m"],
        "gpu": ["g", "g"], "of": ["", ""], "measured_tokens_per_s": [10.0, 20.0],
        "predicted_tokens_per_s": [12.0, 18.0], "error_percent": [-16.7, 11.1],
        "rests_on": ["datasheet 100%"] * 2, "assumed": ["nothing", ""],
    })  # fmt: skip
    assert save(table, tmp_path / "runs.png").stat().st_size > 5_000
    line = "| r1 | a 1 | m | g | 10 | 12 | -17 % | datasheet 100% | nothing |"
    assert runs_table(table)[2] == line


def test_of_many_runs_the_furthest_are_named_and_one_engine_is_told_by_its_gpus() -> None:
    from matplotlib.figure import Figure

    speeds = np.linspace(1, 50, 60)
    table = pd.DataFrame({
        "run": [f"r{n}" for n in range(60)], "family": ["a"] * 60, "gpu": ["g", "h"] * 30,
        "of": ["mean_ttft_ms"] + [""] * 59, "measured_tokens_per_s": speeds,
        "predicted_tokens_per_s": speeds * np.where(np.arange(60) == 7, 3, 1.1),
    })  # fmt: skip
    axes = Figure().add_subplot()
    draw(table, axes)
    named = [text.get_text() for text in axes.texts]
    assert len(named) == FURTHEST
    assert "r7" in named
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["g", "h"]
    assert axes.get_xlabel() == "measured (ms)"
    machines = table.iloc[:60].assign(family=[f"e{n % 12}" for n in range(60)])
    beside = Figure().add_subplot()
    draw(machines, beside)
    legend, place = beside.get_legend(), beside.get_window_extent()
    assert legend is not None
    assert legend.get_window_extent().x0 >= place.x1, "or it hides points"
    few = Figure().add_subplot()
    draw(table.iloc[1:11], few)
    assert len(few.texts) == 10
    assert few.get_xlabel() == "measured (ms a token)"


def test_runs_without_a_prediction_have_no_numbers_and_texts_stay_in_their_cells() -> None:
    nothing = float("nan")
    table = pd.DataFrame({
        "run": ["r"], "family": ["a"], "engine": ["a"], "model": ["m"], "gpu": ["g"],
        "measured_tokens_per_s": [17.0], "predicted_tokens_per_s": [nothing],
        "low_tokens_per_s": [nothing], "high_tokens_per_s": [nothing],
        "error_percent": [nothing], "waiting_for_cpu_percent": [nothing], "rests_on": [""],
        "assumed": ["a | b </td>"], "reason": ["too large"],
    })  # fmt: skip
    assert runs_table(table)[2] == "| r | a | m | g | 17 | - | - | - |  | a \\| b &lt;/td> |"
    assert lines(table) == [
        "median error of the time a token: none, as no run has a prediction",
        "no prediction of r: too large",
    ]


def test_packs_without_runs_and_places_that_cannot_be_written_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "measured.csv").write_text(",".join(COLUMNS) + "\n")
    (tmp_path / "file").write_text("")
    asked = ["evidence", "--pack", str(tmp_path), "-o", str(tmp_path / "file")]
    assert main(asked) == 2
    assert "has no run; 'moesim evidence add FILE" in capsys.readouterr().err
    written(tmp_path, [row("one", 10)], one=described(24))
    assert main(asked) == 2
    assert capsys.readouterr().err.startswith("--out: ")
    run = ["evidence", "add", str(tmp_path / "one.yaml"), "--measured", "17 tokens/s"]
    assert main([*run, "--pack", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.startswith("--pack: ")


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ([row("one", "fast")], "2: measured_tokens_per_s: 'fast' is no number above 0"),
        ([row("one", 1), row("two", 0)], "3: measured_tokens_per_s: '0' is no number above 0"),
        ([row("missing", 1)], "2: run: there is no experiment"),
        ([{"run": "one"}], "1: has no column 'engine'"),
    ],
)
def test_tables_that_cannot_be(tmp_path: Path, rows: list[dict[str, str]], what: str) -> None:
    folder = written(tmp_path, rows, one=described(24), two=described(24))
    with pytest.raises(InputError) as caught:
        read_pack(folder)
    assert what in str(caught.value)
    with pytest.raises(InputError, match="there is no such table"):
        read_pack(tmp_path / "nowhere")


def test_a_setting_of_a_row_may_have_blanks_and_a_wrong_one_names_its_row(tmp_path: Path) -> None:
    """'6 slots/layer' was cut at its blank, and what was wrong was one of '--set'."""
    (tmp_path / "base.yaml").write_text(json.dumps({"model": "small-moe", "hardware": "l40s"}))
    rows = {"a": "experts.capacity=6 slots/layer  workload.requests=1 ", "b": "workload.requests=x"}
    lines = [
        {"run": name, "file": "base", "measured_tokens_per_s": 20, "set": told}
        for name, told in rows.items()
    ]
    table = pd.DataFrame(lines, columns=[*COLUMNS, "file", "set"])
    table.to_csv(tmp_path / "measured.csv", index=False)
    first, second = read_pack(tmp_path)
    assert first.settings == ("experts.capacity=6 slots/layer", "workload.requests=1")
    assert blind([first])["status"].tolist() == ["ok"]
    with pytest.raises(InputError, match=r"measured\.csv: b: set workload\.requests=x: "):
        blind([second])
