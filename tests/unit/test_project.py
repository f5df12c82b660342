"""The project's own files: what is shipped, what is locked, and what no file may name."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest
import yaml

ROOT = Path(__file__).parents[2]
TARGETS = ("package", "setup", "demo", "test", "check", "check-versions", "verify", "bench", "docs")
LOCKS = ("runtime", "dev")


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def check_names():
    return script("check_names")


@pytest.mark.parametrize(
    "parts",
    [
        ("https://", "pypi", ".org/simple"),
        ("files.python", "hosted.org"),
        ("--index", "-url https://example.org"),
        ("open('/", "work/main/x')"),
        ("/", "root/.cache"),
        ("see ..", "/shared/data"),
    ],
)
def test_forbidden_names_are_found(check_names, parts):
    assert list(check_names.offences("".join(parts).encode()))


@pytest.mark.parametrize(
    "text", ["moesim/workload/base.py", "a/tmp_path/b", "the shared links", "examples/work/x"]
)
def test_plain_names_are_not(check_names, text):
    assert not list(check_names.offences(text.encode()))


@pytest.mark.skipif(
    not (ROOT / ".git").exists() or not shutil.which("git"), reason="needs a git checkout"
)
def test_no_file_names_a_machine_or_registry(check_names, capsys):
    assert check_names.main() == 0, capsys.readouterr().out


EIGHT = ", ".join("abcdefgh")


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (f"def f({EIGHT}): ...", 0),
        (f"def f({EIGHT}, *, i): ...", 1),
        (f"def f({EIGHT}, *more): ...", 1),
        (f"class A:\n    def f(self, {EIGHT}): ...", 0),
        (f"class A:\n    @staticmethod\n    def f(i, {EIGHT}): ...", 1),
        (f"def outer():\n    def f({EIGHT}, i): ...", 1),
        (f"@njit('int64')\ndef f({EIGHT}, i, j, k, l): ...", 0),
        (f"@njit('int64')\ndef f({EIGHT}, i, j, k, l, m): ...", 1),
        (f"@app.command()\ndef f({EIGHT}, i): ...", 0),
        ("def f():\n" + "    pass\n" * 59, 0),
        ("def f():\n" + "    pass\n" * 60, 1),
        ("def f():\n" + "    pass\n" * 30 + "    def g():\n" + "        pass\n" * 31, 0),
        ("def f():\n" + "    pass\n" * 30 + "    def g():\n" + "        pass\n" * 60, 1),
        ("@app.command()\ndef f(\n    a,\n):\n" + "    pass\n" * 60, 0),
    ],
)
def test_large_functions_are_found(source, found):
    assert len(list(script("check_sizes").offences(source, "a.py"))) == found


def test_an_exception_may_not_grow():
    sizes = script("check_sizes")
    place = "moesim/sweep/swept.py"
    names = ", ".join(
        f"a{number}" for number in range(sizes.EXCEPTIONS[f"{place}:sweep"].parameters)
    )
    assert not list(sizes.offences(f"def sweep({names}): ...", place))
    assert list(sizes.offences(f"def sweep({names}, more): ...", place))


@pytest.mark.parametrize(("files", "found"), [(29, 0), (30, 1)])
def test_crowded_folders_are_found(files, found):
    folders = (Path("a"), Path("a/b"))
    paths = [Path("a/c/d.py"), *(one / f"{n}.py" for one in folders for n in range(files))]
    assert len(list(script("check_sizes").crowded(paths))) == found * len(folders)


def test_no_function_or_folder_is_large(capsys):
    assert script("check_sizes").main() == 0, capsys.readouterr().out


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
@pytest.mark.parametrize("target", TARGETS)
def test_make_knows(target):
    done = subprocess.run(
        ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_an_old_python_is_named(tmp_path):
    old = tmp_path / "python-old"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    command = ["make", "demo", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "3.11 or newer" in done.stderr


def test_an_interpreter_that_is_missing_is_named(monkeypatch, capsys):
    module = script("check_versions")
    here = ".".join(map(str, sys.version_info[:2]))
    assert here in module.versions()
    assert module.interpreter("3.999") is None
    monkeypatch.setattr(module, "versions", lambda: [here, "3.999"])
    assert module.main() == 1
    assert capsys.readouterr().out.startswith("Python 3.999: not found")


def test_an_interpreter_is_run_before_it_is_believed(tmp_path, monkeypatch):
    module = script("check_versions")
    real = os.path.realpath(sys.executable)
    here = ".".join(map(str, sys.version_info[:2]))
    shim, other = tmp_path / f"python{here}", tmp_path / "python3.999"
    shim.write_text("#!/bin/sh\nexit 127\n")
    other.write_text(f'#!/bin/sh\nexec "{real}" "$@"\n')
    for path in (shim, other):
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    assert module.interpreter(here) is None
    assert module.interpreter("3.999") is None
    folder = tmp_path / "pyenv" / "versions" / f"{here}.9" / "bin"
    folder.mkdir(parents=True)
    (folder / f"python{here}").symlink_to(real)
    assert module.interpreter(here) == str(folder / f"python{here}")


def test_the_package_is_small_and_works(tmp_path):
    """Which ``make package`` does; here its parts."""
    module = script("check_package")
    large, small = tmp_path / "a.whl", tmp_path / "b.whl"
    large.write_bytes(bytes(module.MOST_BYTES + 1))
    small.write_bytes(b"")
    assert module.too_large([small, large]) == ["a.whl: 10,000,001 bytes"]
    elsewhere = module.works([sys.executable], {"PYTHONPATH": str(ROOT)}, tmp_path, tmp_path)
    assert elsewhere == [f"moesim is imported from {ROOT / 'moesim' / '__init__.py'}"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_is_hashed_and_holds_every_dependency(lock):
    text = (ROOT / "requirements" / f"{lock}.lock").read_text()
    locked = set(re.findall(r"^([\w.-]+)==", text, re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["build"]]
    if lock == "dev":
        wanted += [*extras["dev"], *extras["docs"]]
    names = {re.findall(r"^[\w.-]+", entry)[0].lower() for entry in wanted}
    assert names <= locked
    assert text.count("--hash=sha256:") > len(locked)
    assert "scipy==1.18.0" not in text


def test_licence_is_whole():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert "GPT-OSS-MoE-ExpertFingerprinting" in (ROOT / "NOTICE").read_text()


def test_a_commit_is_checked_as_make_check_does():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [one["repo"] for one in hooks] == ["local"]
    entries = [hook["entry"].removesuffix(" --force-exclude") for hook in hooks[0]["hooks"]]
    recipe = re.search(r"^check: .*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    lines = [line.strip().removesuffix(" .") for line in recipe[1].splitlines()]
    assert entries == [line.replace("$(BIN)", ".venv/bin") for line in lines]


def test_live_reports_are_those_that_the_page_names():
    module = script("reports")
    page = module.PAGE.read_text(encoding="utf-8")
    told = {name: f"`moesim {one.command}` |" for name, one in module.EXAMPLES.items()}
    lines = [line for line in page.splitlines() if 'href="reports/' in line]
    assert len(lines) == len(told)
    for name, command in told.items():
        assert any(f'href="reports/{name}.html"' in line and command in line for line in lines)


def test_the_readme_has_the_errors_of_the_evidence():
    """It had that of the twenty runs as it was two changes before."""
    page = (ROOT / "docs" / "evidence.md").read_text("utf-8")
    rows = [r"offload runs: median", r"41 offload runs [^|]*", r"16 more, [^|]*"]
    found = [re.search(rf"^\| {row} \|[^|]*\| ([\d.]+) %", page, re.MULTILINE) for row in rows]
    twenty, many, servers = (round(float(one[1])) for one in found if one)
    told = " ".join((ROOT / "README.md").read_text("utf-8").split())
    assert f"is off by {twenty} % in the median" in told
    assert f"by {many} % of 41 more with experts on a CPU, and by {servers} % of 16" in told
    rows = [
        r"closed loops, all 100: TPOT \|[^|]*",
        r"closed loops, all 100: [^\n]*\n\| the same: TTFT \|[^|]*",
    ]
    loops = [re.search(rf"^\| {row}\| (\d+) / ", page, re.MULTILINE) for row in rows]
    tpot, ttft = (one[1] for one in loops if one)
    assert f"is off by {tpot} % in the median and that to the first token by {ttft} %" in told
    serving = " ".join((ROOT / "docs" / "serving.md").read_text("utf-8").split())
    assert f"{tpot} % in the median of the time between tokens, {ttft} % of that to" in serving


def test_no_module_imports_in_a_circle():
    """Imports within functions are looked at, too; those for types alone are not."""
    graph = grimp.build_graph("moesim", exclude_type_checking_imports=True, cache_dir=None)
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    TopologicalSorter(imports).prepare()
    name, seen = next((name, seen) for name, seen in imports.items() if len(seen) > 1)
    other = next(one for one in seen if one in imports)
    with pytest.raises(CycleError):
        TopologicalSorter(imports | {other: imports[other] | {name}}).prepare()
