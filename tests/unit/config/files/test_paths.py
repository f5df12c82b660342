from pathlib import Path

import pytest

from moesim.config.errors import InputError
from moesim.config.files.paths import expanded, find, look_up, lookup_folders, shipped_folder


def test_the_files_folder_comes_first_then_the_working_one_then_the_shipped_data(
    tmp_path, monkeypatch
):
    own, working, shipped = (tmp_path / name for name in ("own", "working", "shipped"))
    for folder in (own, working, shipped):
        (folder / "traces").mkdir(parents=True)
        (folder / "traces" / "t.parquet").touch()
    monkeypatch.setattr("moesim.config.files.paths.shipped_folder", lambda: shipped)
    monkeypatch.chdir(working)
    folders = lookup_folders(own / "experiment.yaml")
    for folder in (own, working, shipped):
        assert find("traces/t.parquet", folders) == folder / "traces/t.parquet"
        (folder / "traces" / "t.parquet").unlink()
    with pytest.raises(InputError) as error:
        find("traces/t.parquet", folders)
    assert all(str(folder) in str(error.value) for folder in (own, working, shipped))


def test_an_absolute_path_is_itself(tmp_path):
    (tmp_path / "t").touch()
    assert find(tmp_path / "t") == tmp_path / "t"
    with pytest.raises(InputError, match=r"there is no file '/none/such'$"):
        find("/none/such")


def test_strange_paths_are_not_found():
    assert look_up("a\0b") is None
    assert look_up("x" * 5000) is None


def test_the_shipped_data_of_a_checkout_is_its_root():
    root = Path(__file__).resolve().parents[4]
    assert shipped_folder() == root
    assert (shipped_folder() / "moesim" / "config").is_dir()


def test_the_shipped_data_of_a_wheel_is_inside_the_package(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.setattr("moesim.config.files.paths._PACKAGE", tmp_path)
    assert shipped_folder() == tmp_path / "data"


def test_a_home_that_nobody_has_is_a_name_like_any_other() -> None:
    assert look_up("~nobody-has-this-name/model.gguf") is None
    assert expanded("~nobody-has-this-name/x") == Path("~nobody-has-this-name/x")
    assert expanded("~/x") == Path.home() / "x"
