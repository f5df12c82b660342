"""The command line's words in Python: typed, documented, lazy, and short when they are shown."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import moesim
import moesim.testing
from moesim.config.errors import InputError
from moesim.report.catalogue import REGISTRIES

WORDS = (
    "run", "sweep", "compare", "fit", "place", "advise", "curve", "plot", "import_trace",
    "host_curve", "synthesize", "price", "timeline", "command", "read_command",
    "write_report", "evidence", "sensitivity", "search",
)  # fmt: skip
BASE: dict[str, Any] = {
    "name": "small",
    "model": "small-moe",
    "hardware": "rtx-4060-8gb",
    "trace": "traces/small-moe.parquet",
    "experts": {"capacity": "6 slots/layer"},
    "workload": {"requests": 4},
}
SWEEP = {**BASE, "records": "summary", "sweep": {"experts.policy.kind": ["lru", "min"]}}


def function(word: str) -> Any:
    if word == "sweep":
        from moesim.sweep.swept import sweep

        return sweep
    return getattr(moesim, word)


@pytest.mark.parametrize("word", WORDS)
def test_every_word_is_typed_and_documented(word: str) -> None:
    made = function(word)
    signature = inspect.signature(made)
    assert word in moesim.__all__
    assert word in dir(moesim)
    assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values())
    assert signature.return_annotation is not inspect.Signature.empty
    assert "InputError" in made.__doc__
    assert [name for name in signature.parameters if f"``{name}``" not in made.__doc__] == []
    page = Path(__file__).parents[2] / "docs" / "python.md"
    assert f"| `{word}` |" in page.read_text()


def test_the_package_sweep_can_be_called_whatever_was_imported_first(tmp_path: Path) -> None:
    import moesim.sweep.run

    found = moesim.sweep(SWEEP, tmp_path / "s")
    assert isinstance(found, moesim.Sweep)
    assert found.table["experts.policy.kind"].tolist() == ["lru", "min"]
    assert moesim.read_sweep(str(tmp_path / "s")).table.equals(found.table)
    text = repr(found)
    assert "Sweep small: 2 points (2 ok)" in text
    assert "small-moe on rtx-4060-8gb" in text
    assert len(text.splitlines()) <= 8
    assert [p.suffix for p in moesim.plot(found, ["time_breakdown"])] == [".csv", ".png", ".svg"]
    assert set(moesim.compare(found, found)) == {"configuration", "points", "alone"}


def test_a_sweep_without_axes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="experiment: sweep: has no axes to sweep"):
        moesim.sweep(BASE, tmp_path / "s")


def test_a_result_is_shown_in_a_few_lines() -> None:
    result = moesim.run(BASE)
    lines = repr(result).splitlines()
    assert lines[0] == "Result small: ok"
    assert lines[1] == "  small-moe on rtx-4060-8gb, small-moe, batch 1"
    assert "tokens/s" in lines[2]
    assert "% of experts hit, 6 slots per layer" in lines[3]
    assert len(lines) <= 6
    same = moesim.compare(result, result)
    assert same["results"].empty


def test_what_does_not_fit_says_why() -> None:
    trace = "traces/quickstart.parquet"
    full = moesim.run({**BASE, "model": "gpt-oss-20b", "trace": trace, "experts": {}})
    lines = repr(full).splitlines()
    assert lines[0] == "Result small: out of memory"
    assert "GiB" in lines[2]


def test_fit_place_curve_and_timeline_answer(tmp_path: Path) -> None:
    assert moesim.fit(BASE, context=[64], batch=[1])["fits"] is True
    plan = moesim.place(
        {**BASE, "parallelism": {"expert": 2}, "placement": {"kind": "greedy"}},
        out=tmp_path / "plan.json",
    )
    assert plan.gpus == 2
    assert (tmp_path / "plan.json").is_file()
    curves = moesim.curve("traces/small-moe.parquet", policy=["lru", "min"])
    assert set(curves["policy"]) == {"lru", "min"}
    moesim.run({**BASE, "records": "expert"}, out=tmp_path / "run")
    assert moesim.timeline(tmp_path / "run", tmp_path / "t.json", steps="0:2") > 0


def test_mistakes_name_the_value() -> None:
    with pytest.raises(InputError, match="--batch 0: must be from 1"):
        moesim.fit(BASE, batch=[0])
    with pytest.raises(InputError, match="nope"):
        moesim.curve("traces/small-moe.parquet", policy=["nope"])


def test_a_table_that_a_run_did_not_record_has_texts_where_others_have() -> None:
    """What is done with the names of spans holds of none, too."""
    spans = moesim.Result({}, {}).spans
    assert not spans["name"].str.startswith("copy").any()
    assert spans["bytes"].sum() == 0


LOOSE: Any = moesim
"""Asked for what its types refuse too."""


def test_the_old_name_says_the_new_one() -> None:
    with pytest.raises(AttributeError, match="it is named 'sweep' now"):
        _ = LOOSE.run_sweep


SPEED = {"kind": "metric_over_axis", "metric": "misses", "over": "policy"}


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda _: LOOSE.run(BASE, records="layers"), "records: 'layers': allowed: expert, lay"),
        (lambda _: LOOSE.run(BASE, limit_steps=0), "limit_steps: 0 is no whole number from 1"),
        (lambda _: LOOSE.run(BASE, overrides="seed=1"), r"is no list; write \['seed=1'\]"),
        (lambda _: LOOSE.run(BASE, overrides={"seed": 1}), r"is no list; write \['seed=1'\]"),
        (lambda _: LOOSE.run(BASE, overrides=[3]), "overrides: int is no text; write 'PATH=VALUE'"),
        (lambda _: LOOSE.run(BASE, out=3), "--out: int is no path; name a file or a folder"),
        (lambda _: LOOSE.sweep(SWEEP, 3), "--out: int is no path"),
        (lambda _: LOOSE.place(BASE, out=[]), "--out: list is no path"),
        (lambda _: LOOSE.advise(BASE, out=3), "--out: int is no path"),
        (lambda _: LOOSE.sensitivity(BASE, out=3), "--out: int is no path"),
        (lambda _: LOOSE.search(BASE, "seed", [], out=3), "--out: int is no path"),
        (lambda _: LOOSE.evidence(None), "--out: NoneType is no path"),
        (lambda to: LOOSE.compare(to, to, out=3), "--out: int is no path"),
        (lambda to: LOOSE.plot(to, out=3), "--out: int is no path"),
        (lambda to: LOOSE.write_report(to, 3), "--out: int is no path"),
        (lambda to: LOOSE.timeline(to, None), "--out: NoneType is no path"),
        (lambda _: LOOSE.curve(None), "trace: NoneType is no trace; give the path of one"),
        (lambda _: LOOSE.import_trace(None), "file: NoneType is no path; name the file of a rec"),
        (lambda to: LOOSE.import_trace(to, out=3), "--out: int is no path"),
        (lambda _: LOOSE.synthesize({"experts": 4}), "parameters: dict is no parameters; give the"),
        (lambda to: LOOSE.synthesize(to, out=3), "--out: int is no path"),
        (lambda _: LOOSE.read_command(["llama-server"]), "line: list is no text; write the whole"),
        (lambda _: LOOSE.read_command(None), "line: NoneType is no text"),
        (lambda _: LOOSE.price("rtx-4090", [1]), "--ops: list is no table; give the path of one"),
        (lambda _: LOOSE.price("rtx-4090", None), "--ops: NoneType is no table"),
        (lambda _: LOOSE.price("rtx-4090", pd.DataFrame()), "table: has no column 'op'; name op"),
        (lambda to: LOOSE.price("rtx-4090", to, out=3), "--out: int is no path"),
        (lambda _: LOOSE.run(None), "experiment: None is none; give the path of a file, a dict"),
        (
            lambda to: LOOSE.timeline(moesim.Result({}, {}), to / "t"),
            "folder: Result is no path; name",
        ),
        (lambda _: LOOSE.plot(moesim.Result({}, {})), "folder: Result is no path; name the folder"),
        (lambda _: LOOSE.write_report(3), "folder: int is no path"),
        (lambda _: LOOSE.read_result(None), "folder: NoneType is no path"),
        (lambda _: LOOSE.read_sweep(None), "folder: NoneType is no path"),
        (lambda _: LOOSE.compare(moesim.Result({}, {}), None), "folder: NoneType is no path"),
        (lambda _: LOOSE.fit([BASE]), "experiment: .* is none; give the path of a file"),
        (lambda to: LOOSE.sweep(SWEEP, to / "s", jobs=0), "--jobs: 0 is no whole number"),
        (lambda _: LOOSE.advise(BASE, requests=0), "--requests: 0 is no whole number"),
        (lambda _: LOOSE.fit(BASE, context=[1.5]), "--context: 1.5 is no whole number"),
        (lambda _: LOOSE.fit(BASE, batch=4), "--batch: 4 is no list; write"),
        (lambda _: LOOSE.curve(BASE["trace"], rule="books"), "--rule: 'books': allowed: step"),
        (lambda _: LOOSE.curve(BASE["trace"], phase="x"), "--phase: 'x': allowed: all, decode"),
        (lambda _: LOOSE.curve(BASE["trace"], batch=0), "--batch: 0 is no whole number"),
        (lambda _: LOOSE.curve(BASE["trace"], policy="lru"), r"--policy: 'lru' is no list"),
        (lambda _: LOOSE.curve(BASE["trace"], policy=[]), "--policy: names no policy"),
        (lambda to: LOOSE.import_trace(to, prompt_tokens=-1), "--prompt-tokens: -1 is no whole"),
        (lambda to: LOOSE.import_trace(to, prompt_tokens=[2, 0.5]), "--prompt-tokens: 0.5 is no"),
        (lambda to: LOOSE.import_trace(to, request_tokens=0), "--request-tokens: 0 is no whole"),
        (lambda to: LOOSE.plot(to, "time_breakdown"), "--figure: 'time_breakdown' is no list"),
        (lambda to: LOOSE.plot(to, [None]), "--figure: None is no figure"),
        (lambda to: LOOSE.plot(to, formats="pdf"), "--format: 'pdf' is no list"),
        (lambda to: LOOSE.plot(to, [SPEED], size=(-1, 3)), "--size: '-1x3' is no size"),
        (lambda to: LOOSE.plot(to, [SPEED], size=(1e6, 1e6)), "--size: .* is no size"),
        (lambda to: LOOSE.timeline(to, to / "t.json", steps=range(5)), "--steps: .* names no st"),
    ],
)
def test_a_wrong_argument_is_one_line(
    call: Callable[[Path], object], told: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=told) as raised:
        call(tmp_path)
    assert len(raised.value.problems) == 1
    assert not any(tmp_path.iterdir())


def test_a_plan_is_not_written_over_a_profile(tmp_path: Path) -> None:
    profile = tmp_path / "mine.yaml"
    profile.write_text(Path("hardware_profiles/rtx-4060-8gb.yaml").read_text())
    with pytest.raises(InputError, match="is the file that is read"):
        moesim.place({**BASE, "hardware": str(profile)}, out=profile)


REFERENCE = (Path(__file__).parents[2] / "docs" / "reference.md").read_text()


def test_the_reference_has_every_public_name() -> None:
    named = set(
        re.findall(r"^\.\. auto\w+:: moesim\.(?:sweep\.swept\.)?(\w+)$", REFERENCE, re.MULTILINE)
    )
    assert named == set(moesim.__all__) - {"__version__"} | {"testing"}


@pytest.mark.parametrize("home", REGISTRIES.values(), ids=REGISTRIES)
def test_the_reference_has_every_base_class(home: str) -> None:
    base = importlib.import_module(home).registry.base
    assert f":: {base.__module__}.{base.__qualname__}\n" in REFERENCE


def test_the_reference_has_every_contract() -> None:
    modules = {info.name for info in pkgutil.iter_modules(moesim.testing.__path__)}
    assert modules == set(re.findall(r"automodule:: moesim\.testing\.(\w+)", REFERENCE))
