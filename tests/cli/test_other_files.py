"""A whole file in another's place: one line that says what it is, and what takes it."""

from __future__ import annotations

import pytest

from moesim.cli.main import main
from moesim.config.files.file_kinds import PARTS, kind_of_file
from moesim.config.files.paths import shipped_folder
from moesim.config.strict_yaml.yaml import read_document
from moesim.hardware.layers import part_names, plural

DATA = shipped_folder()
PROFILES = DATA / "hardware_profiles"
EXPERIMENT = DATA / "experiments" / "quickstart.yaml"
MACHINE = PROFILES / "rtx-4090.yaml"
SOFTWARE = PROFILES / "software" / "vllm.yaml"
SYSTEM = DATA / "experiments" / "systems" / "monde" / "system.yaml"
TRACE = SYSTEM.with_name("trace.yaml")
GPU = PROFILES / "gpus" / "rtx-3090.yaml"
HOST = next((PROFILES / "hosts").glob("*.yaml"))
CARD = DATA / "moesim" / "model" / "cards" / "gpt-oss-20b.json"

EXPECTED_AN_EXPERIMENT = [
    (MACHINE, "a hardware profile", "'hardware: FILE'"),
    (SOFTWARE, "a software profile", "'software: FILE'"),
    (SYSTEM, "the record of a system", "moesim reproduce"),
    (TRACE, "the parameters of a trace", "moesim trace synthesize"),
    (GPU, "the profile of a GPU", "as 'gpu'"),
    (HOST, "the profile of a host", "as 'host'"),
    (CARD, "a model's config.json", "moesim model show"),
]
NAMED = [
    ("hardware", EXPERIMENT, "an experiment"),
    ("hardware", SOFTWARE, "a software profile"),
    ("hardware", GPU, "the profile of a GPU"),
    ("software", EXPERIMENT, "an experiment"),
    ("software", MACHINE, "a hardware profile"),
    ("trace", EXPERIMENT, "an experiment"),
    ("trace", MACHINE, "a hardware profile"),
    ("model", EXPERIMENT, "an experiment"),
    ("hardware.gpu", HOST, "the profile of a host"),
    ("hardware.host", GPU, "the profile of a GPU"),
]


def told(capsys, *arguments):
    """What the command says, of which every line is one."""
    assert main([str(one) for one in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(("file", "name", "use"), EXPECTED_AN_EXPERIMENT)
def test_no_experiment(capsys, file, name, use):
    for command in ("run", "check", "fit"):
        line = told(capsys, command, file)
        assert line.startswith(f"{file}: is {name}, and an experiment is expected here; ")
        assert use in line


@pytest.mark.parametrize(("key", "file", "name"), NAMED)
def test_named_in_an_experiment(capsys, key, file, name):
    machine = "hardware={gpu: rtx-3090, host: ddr4-3200-2ch-64gb, link: pcie4-x16}"
    first = ("--set", machine) if "." in key else ()
    line = told(capsys, "check", EXPERIMENT, *first, "--set", f"{key}={file}")
    assert f"is {name}, and " in line


def test_a_profile_that_was_read_is_none_of_the_other_kind(capsys):
    assert main(["check", str(EXPERIMENT), "--set", f"software={SOFTWARE}"]) == 0
    assert main(["check", str(EXPERIMENT), "--set", f"hardware={MACHINE}"]) == 0
    capsys.readouterr()
    for key, file in (("hardware", SOFTWARE), ("software", MACHINE)):
        assert "is expected here" in told(capsys, "check", EXPERIMENT, "--set", f"{key}={file}")


def test_others(capsys, tmp_path):
    assert "is an experiment" in told(capsys, "reproduce", EXPERIMENT, "--out", tmp_path / "r")
    line = told(capsys, "trace", "synthesize", MACHINE, "-o", tmp_path / "t.parquet")
    assert "is a hardware profile" in line
    (tmp_path / "model.yaml").write_bytes(b"GGUF\x03\x00\x00\x00")
    assert "is a GGUF file, which holds a model" in told(capsys, "run", tmp_path / "model.yaml")
    software = ["--hardware", "rtx-4090", "--model", "gpt-oss-20b", "-o", tmp_path / "s.yaml"]
    assert "is no CSV table" in told(capsys, "calibrate", "software", EXPERIMENT, *software)
    (tmp_path / "points.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    assert "is a table (CSV)" in told(capsys, "run", tmp_path / "points.csv")
    assert "neither a config.json nor a GGUF file" in told(capsys, "model", "show", tmp_path)


def test_a_result_for_an_experiment_and_back(capsys, tmp_path):
    folder, point = tmp_path / "one", ("--set", "experts.capacity=all", "--out")
    main(["run", str(EXPERIMENT), *point, str(folder)])
    capsys.readouterr()
    for reader in ("run", "check"):
        assert f"its experiment is '{folder / 'experiment.yaml'}'" in told(capsys, reader, folder)
    assert "is the summary of a run" in told(capsys, "check", folder / "summary.json")
    takers: list[list[object]] = [["plot"], ["report"], ["compare", folder]]
    for command in takers:
        inside = told(capsys, *command, folder / "summary.json")
        assert f"is a file of a result; name its folder, '{folder}'" in inside
        assert "is a file, and the folder of a result" in told(capsys, *command, EXPERIMENT)
        assert "no such folder" in told(capsys, *command, tmp_path / "none")
    again = folder / "provenance.json"
    text = again.read_text(encoding="utf-8")
    again.write_text(text.replace('"format": 1', '"format": 2'), encoding="utf-8")
    for command in takers:
        assert "its format is 2, this moesim reads 1; run its exp" in told(capsys, *command, folder)


def test_every_shipped_part_is_what_it_is():
    for kind, name in PARTS.items():
        for part in part_names(kind):
            data = read_document(PROFILES / plural(kind) / f"{part}.yaml").data
            found = kind_of_file(data)
            if "base" in data:  # another size: its keys do not tell
                assert found is None or found.name == name
            else:
                assert found is not None
                assert found.name == name
