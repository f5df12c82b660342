"""The command line starts fast, loads nothing heavy, and leaves with the right codes."""

import json
import os
import re
import subprocess
import sys

import pytest

from moesim.cli.app import app
from moesim.cli.main import load_commands, main

HEAVY = {"pandas", "scipy", "matplotlib", "numba", "simpy", "numpy", "pyarrow", "pydantic"}


def python(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ
    )


@pytest.mark.parametrize(
    "code", ["import moesim", "from moesim.cli.main import main; main(['--help'])"]
)
def test_nothing_heavy_is_loaded(code):
    done = python(
        f"import sys, json; before = set(sys.modules); {code}\n"
        "print(json.dumps(sorted({n.split('.')[0] for n in set(sys.modules) - before})))"
    )
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert not loaded & HEAVY


def test_the_version_is_shown(capsys):
    assert main(["--version"]) == 0
    assert re.fullmatch(r"moesim \S+\n", capsys.readouterr().out)


def test_the_schema_is_json(capsys):
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["required"] == ["model", "hardware", "trace"]


@pytest.mark.parametrize("arguments", [["chek"], ["check"], ["check", "--sett", "a=1"]])
def test_wrong_usage_leaves_with_2_and_no_traceback(arguments, capsys):
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert "Error" in err
    assert "Traceback" not in err


def test_an_interrupt_leaves_with_130(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("moesim.experiment.resolve.load_experiment", interrupted)
    assert main(["check", "x.yaml"]) == 130


def test_every_command_says_what_it_does():
    load_commands()
    for command in app.registered_commands:
        assert command.callback is not None
        assert command.callback.__doc__
