import pytest


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory with a file that stands for a trace."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.parquet").touch()
    return tmp_path


@pytest.fixture
def required(folder):
    return {"model": "gpt-oss-20b", "hardware": "rtx-4060-8gb", "trace": "t.parquet"}
