"""Build the wheel and the sdist, and fail where one is too large, where the sdist makes another
wheel than the sources, or where the wheel does not work away from them.

``make package`` runs this: the wheel is unpacked beside the packages of this environment, and
``moesim demo --quick`` runs in an empty folder. With ``--empty`` it is installed into a new
environment, with the locked packages and nothing else, as ``make check-versions`` asks for.
"""

from __future__ import annotations

import os
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


def in_empty(wheel: Path, folder: Path) -> tuple[list[str], dict[str, str]]:
    """A Python of a new environment with the locked packages and ``wheel``."""
    python = str(folder / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _call([sys.executable, "-m", "venv", str(folder)], ROOT)
    _call([*pip, "--require-hashes", "-r", str(ROOT / "requirements" / "runtime.lock")], ROOT)
    _call([*pip, "--no-deps", str(wheel)], ROOT)
    others = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return [python], others


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


def _call(words: list[str], folder: Path) -> None:
    subprocess.run(words, cwd=folder, check=True, stdout=subprocess.DEVNULL)


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
