"""Plain files in, whole files out."""

import errno
import os
import re
import stat
from pathlib import Path

import pytest

import moesim
from moesim.config.errors import InputError
from moesim.config.files import files
from moesim.config.files.files import check_regular, read_file, replacing, write_whole


def pipe(folder):
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


def names(folder):
    return [path.name for path in folder.iterdir()]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (pipe, "is a pipe; name the model"),
        (lambda folder: folder, "is a folder; name the model"),
        (lambda folder: Path("/dev/null"), "is a device; name the model"),
        (lambda folder: folder / "none", "there is no such file"),
        (lambda folder: folder / ("n" * 300), "cannot be read"),
        (lambda folder: folder / "a\0b", "cannot be read"),
    ],
)
def test_only_plain_files_are_opened(tmp_path, path, words):
    with pytest.raises(InputError, match=words):
        read_file(path(tmp_path), "model")


def test_a_link_to_a_file_is_one(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    check_regular(tmp_path / "link")
    assert read_file(tmp_path / "link") == b"x"


def test_a_file_is_replaced_in_one_go_and_keeps_its_mode(tmp_path):
    path = tmp_path / "new" / "f.csv"
    write_whole(path, "é")
    path.chmod(0o640)
    before = path.stat().st_ino
    write_whole(path, b"second")
    assert path.read_bytes() == b"second"
    assert path.stat().st_ino != before
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert names(path.parent) == ["f.csv"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "link").symlink_to("file")
    write_whole(tmp_path / "link", "x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize("path", [pipe, lambda folder: folder, lambda folder: Path("/dev/null")])
def test_what_is_no_plain_file_is_never_replaced(tmp_path, path, monkeypatch):
    monkeypatch.setattr(Path, "replace", None)
    with pytest.raises(InputError, match=r"^--out: '.*' is a (pipe|folder|device); name a file"):
        write_whole(path(tmp_path), "x")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_what_cannot_be_written_is_one_line_and_leaves_the_old_file(tmp_path, monkeypatch, code):
    (tmp_path / "f").write_text("old")

    def fail(_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files, "_flush", fail)
    with pytest.raises(
        InputError, match=rf"^--plan: '.*/f' cannot be written \({os.strerror(code)}"
    ):
        write_whole(tmp_path / "f", "new", "--plan")
    assert (tmp_path / "f").read_text() == "old"
    assert names(tmp_path) == ["f"]


def test_a_file_that_may_not_be_written_is_not_replaced(tmp_path, monkeypatch):
    (tmp_path / "f").write_text("old")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everything
    with pytest.raises(InputError, match="Permission denied"):
        write_whole(tmp_path / "f", "new")
    assert (tmp_path / "f").read_text() == "old"


def half_written(path):
    with replacing(path) as temporary:
        assert temporary.suffix == path.suffix
        temporary.write_text("half")
        raise ZeroDivisionError


def test_a_mistake_while_writing_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        half_written(tmp_path / "f.png")
    assert names(tmp_path) == []


WRITERS = {
    "config/files/files.py",
    "report/drawing/sheet.py",  # into memory
    "report/drawing/style.py",  # to the name that ``replacing`` gives
    "report/page/parts.py",  # into memory
    "results/folder.py",  # into a folder that appears whole
    "trace/mapped.py",  # likewise
}


def test_nothing_else_writes_files():
    root = Path(moesim.__file__).parent
    pattern = re.compile(r"\.(write_text|write_bytes|savefig)\(|\.to_csv\((path|[^)]*\.csv)")
    found = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if pattern.search(path.read_text(encoding="utf-8"))
    }
    assert found == WRITERS
