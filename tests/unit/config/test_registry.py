"""What registries find, and what they leave out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from moesim.config import registry as module
from moesim.config.errors import InputError
from moesim.config.registry import PluginWarning, Registry
from moesim.experiment.loading.resolve import load_experiment
from moesim.gating import registry as gatings
from moesim.memory.policies import registry as policies

ROOT = Path(__file__).parents[3]


class Base:
    """What the components here derive from."""


class Good(Base):
    kind = "good"


class Twin(Base):
    kind = "a_file"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any) -> str:
    """A package of its own with one component, in a_file.py."""
    name = f"made_{tmp_path.name.replace('-', '_')}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    (tmp_path / name / "a_file.py").write_text(
        f"class One(__import__('{__name__}', fromlist=['Base']).Base):\n    kind = 'a_file'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Base.__module__])
    return name


def plugged(monkeypatch: pytest.MonkeyPatch, **entries: str) -> None:
    made = [EntryPoint(name, value, "some.group") for name, value in entries.items()]
    monkeypatch.setattr(module, "plugins", lambda _: made)


def test_a_file_and_a_plug_in_are_found(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plugged(monkeypatch, good=f"{__name__}:Good")
    assert list(Registry(package, Base, "some.group").components) == ["a_file", "good"]


def test_a_file_is_named_like_its_component(package: str, tmp_path: Path) -> None:
    (tmp_path / package / "a_file.py").rename(tmp_path / package / "other.py")
    with pytest.raises(InputError, match=r"other\.py: the kind is 'a_file', but the file is not"):
        _ = Registry(package, Base, "some.group").components


def test_a_registry_looks_into_folders_where_its_pattern_says_so(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the group that matched it is named; a file that does not match is not even loaded."""
    folder = tmp_path / package / "family"
    folder.mkdir()
    (folder / "__init__.py").touch()
    text = (tmp_path / package / "a_file.py").read_text()
    (folder / "fit.py").write_text(text.replace("a_file", "family"))
    (folder / "broken.py").write_text("raise RuntimeError")
    plugged(monkeypatch)
    assert list(Registry(package, Base, "some.group").components) == ["a_file"]
    inner = Registry(package, Base, "some.group", r"(\w+)\.fit|fit_(\w+)")
    assert list(inner.components) == ["family"]
    (tmp_path / package / "fit_other.py").write_text(text)
    with pytest.raises(InputError, match=r"fit_other\.py: the kind is 'a_file', but the file is"):
        _ = Registry(package, Base, "some.group", inner.files.pattern).components


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("there_is_no_such_module:Good", "ModuleNotFoundError: No module named"),
        (f"{__name__}:Nothing", "AttributeError: "),
        (f"{__name__}:ROOT", "is no Base with a kind"),
        (f"{__name__}:Twin", "'a_file' is registered twice"),
    ],
)
def test_a_plug_in_that_cannot_be_loaded_is_left_out(
    package: str, monkeypatch: pytest.MonkeyPatch, value: str, reason: str
) -> None:
    plugged(monkeypatch, bad=value, good=f"{__name__}:Good")
    found = Registry(package, Base, "some.group")
    with pytest.warns(PluginWarning, match=rf"'bad' \(some\.group\) is left out: .*{reason}"):
        assert list(found.components) == ["a_file", "good"]
    with pytest.raises(InputError, match=rf"'bad' is not known; .*{reason}"):
        found.get("bad")


OWN = f"""
import numpy
from moesim.memory.policy import LAST_USE, CachePolicy
from typing import Literal
from {__name__} import Base

class Mine(Base):
    kind = "mine"

class Helper:
    kind = "no component"
"""


def test_a_file_that_the_environment_names_is_a_plug_in(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it imports is none of its components; two files are separated as paths are."""
    plugged(monkeypatch)
    for name in ("one", "two"):
        text = OWN.replace("Mine", name.title()).replace('"mine"', f'"{name}"')
        (tmp_path / f"{name}.py").write_text(text)
    named = os.pathsep.join([str(tmp_path / "one.py"), "", str(tmp_path / "two.py")])
    monkeypatch.setenv(module.VARIABLE, named)
    assert list(Registry(package, Base, "some.group").components) == ["a_file", "one", "two"]
    for name in ("one", "two"):
        monkeypatch.delitem(sys.modules, f"moesim_plugin_{name}")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\n1 / 0", r"broken\.py:2 is left out: ZeroDivisionError: division"),
        ("def", r"broken\.py is left out: SyntaxError: "),
        (None, r"broken\.py is left out: FileNotFoundError: "),
    ],
)
def test_a_file_that_cannot_be_loaded_is_left_out_once(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, reason: str
) -> None:
    plugged(monkeypatch)
    if text is not None:
        (tmp_path / "broken.py").write_text(text)
    monkeypatch.setenv(module.VARIABLE, str(tmp_path / "broken.py"))
    found = Registry(package, Base, "some.group")
    with pytest.warns(PluginWarning, match=f"{module.VARIABLE}: .*{reason}"):
        assert list(found.components) == ["a_file"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(Registry(package, Base, "another.group").components) == ["a_file"]
    with pytest.raises(InputError, match=rf"'mine' is not known; .*{reason}"):
        found.get("mine")


POLICY = """
from typing import Any, Literal
from moesim.memory.policy import LAST_USE, CachePolicy

class Mine(CachePolicy):
    kind: Literal["mine"] = "mine"

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        return -state[LAST_USE, expert]
"""
FIGURE = """
from moesim.report.figures.throughput_vs_cost import ThroughputVsCost

class Chart(ThroughputVsCost):
    kind = "mine_too"
"""
SWEEP = """
model: small-moe
hardware: rtx-4060-8gb
trace: small-moe
workload: {requests: 2}
experts: {capacity: 8 slots/layer}
sweep: {experts.policy.kind: [mine, lru]}
figures: [mine_too]
"""


NO_LITERAL = f"""
from pydantic import BaseModel
from {__name__} import Base

class Between(Base, BaseModel):
    size: int = 1

class Mine(Between):
    kind: str = "mine"
"""


def test_a_kind_that_is_no_literal_is_told(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a file and as a plug-in; a class without a kind, a base of others, is passed over."""
    plugged(monkeypatch)
    (tmp_path / "no_literal.py").write_text(NO_LITERAL)
    monkeypatch.setenv(module.VARIABLE, str(tmp_path / "no_literal.py"))
    found = Registry(package, Base, "some.group")
    reason = r'its kind is no Literal; write kind: Literal\["mine"\] = "mine"'
    with pytest.warns(PluginWarning) as told:
        assert list(found.components) == ["a_file"]
    (told_once,) = told
    assert re.search(rf"no_literal\.py: Mine is left out: {reason}", str(told_once.message))
    with pytest.raises(InputError, match=rf"'mine' is not known; .*{reason}"):
        found.get("mine")
    monkeypatch.delenv(module.VARIABLE)  # the module is loaded: now as a package has it
    plugged(monkeypatch, mine="moesim_plugin_no_literal:Mine")
    with pytest.warns(PluginWarning, match=rf"'mine' \(some\.group\) is left out: .*{reason}"):
        _ = Registry(package, Base, "some.group").components
    monkeypatch.delitem(sys.modules, "moesim_plugin_no_literal")


def test_processes_of_a_sweep_know_the_components_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(POLICY + FIGURE)
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    done = subprocess.run(
        [sys.executable, "-m", "moesim", "sweep", str(tmp_path / "sweep.yaml"), "-j", "2", "--out",
         str(tmp_path / "found")],
        text=True, capture_output=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), module.VARIABLE: str(tmp_path / "mine.py")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    points = (tmp_path / "found" / "points.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in points[1:]] == [["mine", "ok"], ["lru", "ok"]]


def test_an_experiment_says_why_its_policy_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert policies.components
    monkeypatch.setitem(policies._left_out, "mine", "the plug-in 'mine' is left out: Oops: no")
    monkeypatch.setitem(gatings._left_out, "mine", "a plug-in of another kind is left out")
    source = {"model": "gpt-oss-20b", "hardware": "h100-sxm", "trace": "traces/quickstart.parquet",
              "experts": {"policy": {"kind": "mine"}}}  # fmt: skip
    with pytest.raises(InputError, match=r"'mine' is not known; .* is left out: Oops: no$"):
        load_experiment(source)


def test_commands_work_beside_a_broken_package(tmp_path: Path) -> None:
    """As it is installed: one line names package, entry point and exception."""
    about = tmp_path / "broken_policies-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-policies\nVersion: 1\n")
    (about / "entry_points.txt").write_text(
        "[moesim.cache_policies]\nmine = broken_policies:Mine\n"
    )
    (tmp_path / "broken_policies.py").write_text("raise RuntimeError('of\\nits own')\n")
    done = subprocess.run(
        [sys.executable, "-m", "moesim", "list", "policies"], text=True, capture_output=True,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "lru" in done.stdout
    assert done.stderr == (
        "the plug-in 'mine' (moesim.cache_policies) of the package 'broken-policies' is left out: "
        "RuntimeError: of its own\n"
    )
