"""Records of systems, how they are judged, and every shipped one in short runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from moesim.config.errors import InputError
from moesim.experiment.loading.resolve import load_experiment
from moesim.report.page import page_of
from moesim.report.systems import overview, page, write_system
from moesim.reproduce.systems import Found, System, load_system, run_system, system_names
from moesim.reproduce.systems.judge import given, laws, number
from moesim.reproduce.systems.load import systems_folder

PAGES = Path(__file__).parents[3] / "docs" / "systems"
RUN = [name for name in system_names() if load_system(name).runs]
LONG = ("ds-moe",)
"""Whose every point draws and cuts prompts in all experts. ``test_transforms`` has each rule."""
HEAD = {
    "title": "A system", "paper": "none", "concepts": ["R"], "question": "Is it?",
    "mechanism": "It is.", "verdict": "It was.",
}  # fmt: skip
RUNS = [{"experiment": "e.yaml", "points": {"a": [], "b": []}}]
FIGURE = {"of": "x", "label": "x", "over": "y", "values": [1], "series": {"s": ["a", "b"]}}
NUMBERS = {"a": {"status": "ok", "x": 2.0, "y": 3}, "b": {"status": "ok", "x": 4.0, "y": 3}}


def found_of(**record) -> Found:
    return Found(
        "mine", System.model_validate_json(json.dumps({**HEAD, "runs": RUNS, **record})), NUMBERS
    )


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.long if name in LONG else []) for name in RUN],
)
def test_laws_hold_in_short_runs(name, tmp_path):
    found = run_system(name, reduced=True)
    broken = [(one.law.says, one.numbers) for one in laws(found) if not one.holds]
    assert not broken
    write_system(found, tmp_path)
    assert (tmp_path / "points.csv").stat().st_size > 200
    assert found.system.verdict.split()[0] in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize("name", system_names())
def test_a_page_says_what_the_record_says(name):
    system = load_system(name)
    words = " ".join((PAGES / "index.md").read_text().split())
    assert f"]({name}.md)" in words or system.missing in words
    if system.runs:
        text = " ".join((PAGES / f"{name}.md").read_text().split())
        said = (system.question, system.mechanism, system.verdict, *system.assumed)
        assert all(" ".join(one.split()) in text for one in said)
        assert system.not_to_read


@pytest.mark.parametrize("name", RUN)
def test_its_experiments_are_valid(name):
    for runs in load_system(name).runs:
        for own in runs.points.values():
            load_experiment(systems_folder() / name / runs.experiment, [*own, *runs.reduced])


@pytest.mark.parametrize(
    ("law", "holds"),
    [
        ({"are": "equal", "of": ["y"]}, True),
        ({"are": "equal"}, False),
        ({"are": "rising"}, True),
        ({"are": "falling"}, False),
        ({"are": "ratios", "values": [1, 2]}, True),
        ({"are": "ratios", "values": [1, 2.0001]}, False),
        ({"are": "ratios", "values": [1, 2.0001], "within": 0.001}, True),
        ({"are": "at_most", "values": [4]}, True),
        ({"are": "at_most", "values": [3.9]}, False),
        ({"are": "at_least", "values": [2]}, True),
        ({"are": "at_least", "values": [2.1]}, False),
    ],
)
def test_laws(law, holds):
    (judged,) = laws(found_of(laws=[{"says": "so", "of": ["x"], "at": ["a", "b"], **law}]))
    assert judged.holds is holds


@pytest.mark.parametrize(
    ("number", "verdict"),
    [
        ({"published": 2.9, "judged": "factor"}, "agrees"),
        ({"published": 3.1, "judged": "factor"}, "misses"),
        ({"published": 1.3, "judged": "factor"}, "misses"),
        ({"published": 9, "judged": "sign"}, "agrees"),
        ({"published": 0.9, "judged": "sign"}, "misses"),
        ({"published": 9, "judged": "no"}, "not judged"),
    ],
)
def test_published_numbers(number, verdict):
    words = {"id": "n", "what": "b over a", "of": "x", "source": "none"}
    (one,) = given(found_of(given=[{**words, "point": "b", "over": "a", **number}]))
    assert (one.simulated, one.verdict) == (2, verdict)


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"runs": []}, "either 'runs', or the mechanism that is 'missing'"),
        ({"missing": "all"}, "either 'runs', or the mechanism that is 'missing'"),
        ({"runs": RUNS * 2}, "names a point twice: a, b"),
        ({"laws": [{"says": "so", "of": ["x"], "at": ["a", "c"], "are": "equal"}]}, "point: c"),
        ({"laws": [{"says": "so", "of": ["x"], "at": ["a"], "are": "equal"}]}, "with itself"),
        ({"laws": [{"says": "so", "of": ["x"], "at": ["a"], "are": "at_most"}]}, "needs 1 values"),
        (
            {"figures": [FIGURE]},
            "2 points for",
        ),
    ],
)
def test_a_record_that_does_not_fit_together(record, told):
    with pytest.raises(ValueError, match=told):
        found_of(**record)


def test_the_records_verdict_is_not_told_of_other_runs(tmp_path):
    found = found_of()
    assert found.verdict == "It was."
    short = replace(found, changed=("short runs", "software=ideal"))
    of = "Of the record's runs, not of these (short runs, software=ideal): It was."
    write_system(short, tmp_path)
    assert page_of(tmp_path).verdict == ["0 of 0 laws hold.", of]
    assert of in page(short, "figures")
    assert overview({"mine": found.system}, {"mine": short}).count(of) == 1


def test_a_number_that_is_not_there_is_told():
    found = found_of()
    with pytest.raises(InputError, match=r"a run has no number 'z'"):
        number(found, "a", "z")
    full = Found(
        "mine", found.system, {"a": {"status": "out_of_memory", "reason": "72 GB", "x": None}}
    )
    with pytest.raises(InputError, match="out_of_memory: 72 GB"):
        number(full, "a", "x")


def test_an_unknown_system_and_one_that_lacks_something_are_told(tmp_path):
    with pytest.raises(InputError, match="neither a system nor the file"):
        run_system("prunning")
    record = tmp_path / "system.yaml"
    record.write_text(json.dumps({**HEAD, "missing": "a wheel"}))
    with pytest.raises(InputError, match="moesim lacks a wheel"):
        run_system(str(record))


def test_the_table_says_what_is_missing():
    found = found_of()
    other = System.model_validate_json(json.dumps({**HEAD, "missing": "a wheel"}))
    table = overview({"mine": found.system, "other": other}, {"mine": found})
    assert "It was." in table
    assert "not yet: moesim lacks a wheel" in table
    assert page(found, "figures").startswith("# A system\n")
