"""Reads of a file at random places: by size, by how many at a time, and by path."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns

import numpy as np

from moesim.config.amounts.sizes import KIB, MIB
from moesim.config.errors import InputError

SIZES = (4 * KIB, 64 * KIB, MIB, 8 * MIB)
DEPTHS = (1, 2, 4, 8, 16, 32)
PATHS = ("direct", "buffered", "mmap")
LEAST_BYTES = 64 * MIB
"""Of a file: random places in a smaller one are the same ones again."""
LEAST_READS = 2
QUEUE = "queue/read_ahead_kb"
"""Of a drive, or of the drive that a partition is of, below ``/sys``."""


@dataclass(frozen=True)
class Rate:
    """``reads`` of ``size`` bytes, ``depth`` at a time, that took ``took_ns`` together; ``read_ns``
    of one, the median.
    """

    path: str
    size: int
    depth: int
    reads: int
    took_ns: int
    read_ns: float

    @property
    def bytes_per_second(self) -> float:
        """Of all together."""
        return self.size * self.reads * 1e9 / self.took_ns


def measured(file: Path, seconds: float, seed: int = 0) -> Iterator[Rate]:
    """The rates of ``file`` in about so many ``seconds``: every size and depth directly and
    buffered, and page faults. Before a read that is not direct the system is asked to forget the
    file.

    ``direct`` is left out where the file's system has no reads past its cache. Raises InputError
    for a file that cannot be read, or is too small.
    """
    try:
        size = file.stat().st_size
        if not file.is_file():
            kind = "a folder" if file.is_dir() else "a device"
            raise InputError(f"'{file}' is {kind}; name a large file on the drive")
        if size < LEAST_BYTES:
            what = f"'{file}' has {size} bytes; name one of {LEAST_BYTES // MIB} MiB or more,"
            raise InputError(f"{what} best the model's own")
        os.close(os.open(file, os.O_RDONLY))
    except OSError as error:
        raise InputError(f"'{file}' cannot be read: {error.strerror}") from None
    paths = [path for path in PATHS if path != "direct" or _reads_directly(file)]
    settings = [
        (path, each, depth)
        for path in paths
        for each in SIZES
        for depth in (DEPTHS if path != "mmap" else (1,))
    ]
    random, share_ns = np.random.default_rng(seed), int(seconds * 1e9 / len(settings))
    for path, each, depth in settings:
        yield _rate(file, size, (path, each, depth), share_ns, random)


def _rate(
    file: Path,
    whole: int,
    setting: tuple[str, int, int],
    share_ns: int,
    random: np.random.Generator,
) -> Rate:
    """The rate of one ``setting`` (path, size, depth), in rounds of ``depth`` reads and more."""
    path, size, depth = setting
    descriptor = os.open(file, os.O_RDONLY | (_direct() if path == "direct" else 0))
    took: list[int] = []
    elapsed, count = 0, max(LEAST_READS, 2 * depth)
    try:
        with ThreadPoolExecutor(depth) as pool:
            while not took or elapsed < share_ns:
                places = (random.integers(whole // size, size=count) * size).tolist()
                if path != "direct":
                    _forget(descriptor)
                begin = perf_counter_ns()
                took += pool.map(lambda at: _read(descriptor, path, at, size), places)
                elapsed += perf_counter_ns() - begin
    finally:
        os.close(descriptor)
    return Rate(path, size, depth, len(took), elapsed, float(sorted(took)[len(took) // 2]))


def _read(descriptor: int, path: str, place: int, size: int) -> int:
    """Read, and say for how many ns."""
    if path == "mmap":
        begin = perf_counter_ns()
        with mmap.mmap(descriptor, size, prot=mmap.PROT_READ, offset=place) as mapped:
            sum(mapped[0 : size : mmap.PAGESIZE])
            return perf_counter_ns() - begin
    with mmap.mmap(-1, size) as buffer, memoryview(buffer) as view:  # pages, as direct reads need
        view[:: mmap.PAGESIZE] = bytes(len(range(0, size, mmap.PAGESIZE)))
        begin = perf_counter_ns()
        done = 0
        while done < size:
            more = os.preadv(descriptor, [view[done:]], place + done)
            if more == 0:
                break
            done += more
        return perf_counter_ns() - begin


def read_ahead_of(file: Path) -> int | None:
    """What Linux reads at a time around a page fault of ``file``, in bytes; None where nothing says
    so.
    """
    drive = _device(file)
    told = [at / QUEUE for at in (drive, drive.parent) if (at / QUEUE).is_file()]
    return int(told[0].read_text(encoding="ascii")) * KIB or None if told else None


def _device(file: Path) -> Path:
    """The folder of the drive, or of its partition, that has ``file``, below ``/sys``."""
    device = file.stat().st_dev
    return Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()


def _direct() -> int:
    return getattr(os, "O_DIRECT", 0)


def _reads_directly(file: Path) -> bool:
    """Whether reads past the system's cache work."""
    if not _direct():
        return False
    try:
        descriptor = os.open(file, os.O_RDONLY | _direct())
    except OSError:
        return False
    try:
        _read(descriptor, "direct", 0, SIZES[0])
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _forget(descriptor: int) -> None:
    """Ask the system to drop what it has cached of a file, where it can."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
