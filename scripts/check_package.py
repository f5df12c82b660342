"""Build the wheel and the sdist, and fail where one is too large, where the sdist makes another
wheel than the sources, or where the wheel does not work away from them.

``make package`` runs this: the wheel is unpacked beside the packages of this environment, and
``moesim demo --quick`` runs in an empty folder. With ``--empty`` it is installed into a new
environment, with the locked packages and nothing else, as ``make check-versions`` asks for; with
``--every`` so under each Python that the project is for and that is here, and the sdist under the
newest of them. Those that are not here are named.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
MOST_BYTES = 10_000_000
"""Of the wheel, and of the sdist."""
WRITTEN = ("report.html", "points.csv", "figures/throughput_vs_capacity.png")
"""By the demo, among others."""


def build(source: Path, out: Path, *targets: str) -> list[Path]:
    """Build ``targets`` of the sources in ``source`` into ``out``; the files, by name."""
    asked = [word for target in targets for word in ("-t", target)]
    _call([sys.executable, "-m", "hatchling", "build", *asked, "-d", str(out)], source)
    return sorted(out.iterdir())


def too_large(files: list[Path]) -> list[str]:
    """Those beyond ``MOST_BYTES``, with their sizes."""
    sizes = {path.name: path.stat().st_size for path in files}
    return [f"{name}: {size:,} bytes" for name, size in sizes.items() if size > MOST_BYTES]


def contents(wheel: Path) -> dict[str, int]:
    """The files of a wheel with their checksums."""
    with zipfile.ZipFile(wheel) as archive:
        return {one.filename: one.CRC for one in archive.infolist()}


def from_sdist(sdist: Path, folder: Path) -> Path:
    """The wheel that the sources in ``sdist`` make."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    return build(source, folder / "wheel", "wheel")[0]


def beside(wheel: Path, folder: Path) -> tuple[list[str], dict[str, str]]:
    """A Python that finds the unpacked ``wheel`` first, and its environment."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)  # noqa: S202 (built here)
    return [sys.executable], os.environ | {"PYTHONPATH": str(folder)}


def in_empty(
    built: Path, folder: Path, python: str = sys.executable
) -> tuple[list[str], dict[str, str]]:
    """A Python of a new environment of ``python`` with the locked packages and ``built``, a wheel
    or an sdist.
    """
    others = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    own = str(folder / "bin" / "python")
    pip = [own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _call([python, "-m", "venv", str(folder)], ROOT, others)
    locked = ["--require-hashes", "-r", str(ROOT / "requirements" / "runtime.lock")]
    _call([*pip, *locked], ROOT, others)
    _call([*pip, "--no-deps", "--no-build-isolation", str(built)], ROOT, others)
    return [own], others


def under_every(wheel: Path, sdist: Path, folder: Path) -> list[str]:
    """What goes wrong under each Python that is here; says which, and which are not."""
    from check_versions import interpreter, versions  # beside this file, where it is run

    found = {version: interpreter(version) for version in versions()}
    here = {version: python for version, python in found.items() if python is not None}
    wrong = []
    for version, python in here.items():
        for built in (wheel, *([sdist] if version == max(here, key=_parts) else [])):
            home, away = (folder / f"{name}-{version}-{built.suffix}" for name in ("home", "away"))
            away.mkdir()
            told = works(*in_empty(built, home, python), away, home)
            print(f"Python {version}, {built.name}: {'failed' if told else 'works'}", flush=True)
            wrong += [f"Python {version}: {one}" for one in told]
            shutil.rmtree(home)
    for version in found.keys() - here.keys():
        print(f"Python {version}: skipped, it is not on the path, in pyenv or known to uv")
    return wrong


def _parts(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def works(python: list[str], environment: dict[str, str], folder: Path, home: Path) -> list[str]:
    """What goes wrong in the empty ``folder`` with the package that lies in ``home``."""
    where = [*python, "-c", "import moesim; print(moesim.__file__)"]
    done = _run(where, folder, environment)
    if not Path(done.stdout.strip()).resolve().is_relative_to(home.resolve()):
        return [f"moesim is imported from {done.stdout.strip() or done.stderr}"]
    demo = [*python, "-m", "moesim", "demo", "--quick", "--out", "demo"]
    done = _run(demo, folder, environment)
    if done.returncode:
        return [f"moesim demo: {done.stderr}"]
    return [f"the demo has no {name}" for name in WRITTEN if not (folder / "demo" / name).is_file()]


def _run(
    words: list[str], folder: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, cwd=folder, env=environment, check=False, capture_output=True, text=True
    )


def _call(words: list[str], folder: Path, environment: dict[str, str] | None = None) -> None:
    subprocess.run(words, cwd=folder, check=True, stdout=subprocess.DEVNULL, env=environment)


def main(words: list[str]) -> int:
    """Print what is wrong; 1 if anything is."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        files = build(ROOT, folder / "dist", "wheel", "sdist")
        wheel, sdist = (next(one for one in files if one.suffix == end) for end in (".whl", ".gz"))
        wrong = too_large(files)
        mine, other = contents(wheel), contents(from_sdist(sdist, folder / "sdist"))
        wrong += [
            f"the sdist makes another {one}"
            for one in sorted(set(mine.items()) ^ set(other.items()))
        ]
        if "--every" in words:
            wrong += under_every(wheel, sdist, folder)
        else:
            home = folder / "home"
            how = in_empty if "--empty" in words else beside
            python, environment = how(wheel, home)
            (folder / "away").mkdir()
            wrong += works(python, environment, folder / "away", home)
        sizes = ", ".join(f"{one.name} {one.stat().st_size / 1e6:.1f} MB" for one in files)
    print("\n".join(wrong) if wrong else f"{sizes}; the demo works without the sources")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
