"""The command line starts fast, loads nothing heavy, and leaves with the right codes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from moesim.cli.app import app
from moesim.cli.main import load_commands, main

HEAVY = {"pandas", "scipy", "matplotlib", "numba", "simpy", "numpy", "pyarrow", "pydantic"}
OF_OTHERS = {
    "matplotlib",
    "simpy",
    "torch",
    "distributed",
    "scipy.optimize",
    "scipy.stats",
    "moesim.trace.synthesis",
}
"""What figures, the other engine, recordings, clusters, fits and drawn traces need, and a run does
not."""
OF_FITS = re.compile(
    r"moesim\.(calibrate|hardware\.(fitting|measurements|operations\.(.*\.)?fit(_|$)))"
)
EXPERIMENT = str(Path(__file__).parents[2] / "experiments" / "quickstart.yaml")


def python(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ
    )


def loaded_by(code):
    done = python(
        f"import sys, json; before = set(sys.modules); {code}\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def loaded_by_command(*arguments):
    return loaded_by(f"from moesim.cli.main import main; assert main({list(arguments)}) == 0")


@pytest.mark.parametrize(
    "code", ["import moesim", "from moesim.cli.main import main; main(['--help'])"]
)
def test_nothing_heavy_is_loaded(code):
    assert not loaded_by(code) & HEAVY


def test_a_run_that_replays_loads_nothing_that_only_others_need(tmp_path):
    loaded = loaded_by_command("run", EXPERIMENT, "--out", str(tmp_path / "out"))
    assert "moesim.engine.replay.run" in loaded
    assert not loaded & OF_OTHERS
    assert "moesim.hardware.operations.experts.kernel" in loaded
    assert not [name for name in loaded if OF_FITS.match(name)]


def test_a_check_reads_no_table_and_loads_no_clock():
    loaded = loaded_by_command("check", EXPERIMENT)
    assert "moesim.experiment.schema.experiment" in loaded
    assert not loaded & (OF_OTHERS | {"pandas", "moesim.engine.replay.run"})
    assert "scipy.linalg" not in loaded, "what compiled code needs takes a third of a second"


@pytest.mark.parametrize(
    ("arguments", "needless"),
    [(["fit", EXPERIMENT], {"matplotlib", "simpy"}), (["list", "models"], HEAVY - {"pydantic"})],
)
def test_other_commands_load_what_they_show(arguments, needless):
    assert not loaded_by_command(*arguments) & needless


def test_only_the_command_changes_when_garbage_is_collected():
    read = "import gc; print(gc.get_threshold()[0], gc.get_freeze_count())"
    usual = python(read).stdout
    assert python(f"import moesim.experiment.schema.experiment; {read}").stdout == usual
    command = python(f"from moesim.cli.main import main; main(['--version']); {read}").stdout
    assert int(command.split()[-2]) > int(usual.split()[0])


def test_the_version_is_shown(capsys):
    assert main(["--version"]) == 0
    assert re.fullmatch(r"moesim \S+\n", capsys.readouterr().out)


def test_the_schema_is_json(capsys):
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["required"] == ["model", "hardware"]


@pytest.mark.parametrize("arguments", [["chek"], ["check"], ["check", "--sett", "a=1"]])
def test_wrong_usage_leaves_with_2_and_no_traceback(arguments, capsys):
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert "Error" in err
    assert "Traceback" not in err


def test_an_interrupt_leaves_with_130(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("moesim.experiment.loading.resolve.load_experiment", interrupted)
    assert main(["check", "x.yaml"]) == 130


def test_every_command_says_what_it_does():
    load_commands()
    for command in app.registered_commands:
        assert command.callback is not None
        assert command.callback.__doc__
