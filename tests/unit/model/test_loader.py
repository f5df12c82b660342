"""Names and paths of models."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from moesim.config.errors import InputError
from moesim.model import load_model
from moesim.model.loader import CARDS


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "mine").mkdir()
    return Path(shutil.copy(CARDS / "olmoe-1b-7b.json", tmp_path / "mine" / "config.json"))


def test_names_ignore_case() -> None:
    assert load_model("GPT-OSS-20B") == load_model("gpt-oss-20b")


def test_a_folder_and_its_file_are_the_same_model(config: Path) -> None:
    model = load_model(str(config))
    assert model == load_model(str(config.parent))
    assert (model.name, model.parameters) == ("mine", load_model("olmoe-1b-7b").parameters)


def test_a_relative_path_is_found_in_the_given_folders_first(config: Path, monkeypatch) -> None:
    monkeypatch.chdir(config.parent)
    Path("mine").mkdir()
    shutil.copy(CARDS / "mixtral-8x7b.json", "mine/config.json")
    assert load_model("mine", [config.parent.parent]).family == "olmoe"
    assert load_model("mine").family == "mixtral"


def test_architectures_stand_in_for_a_missing_model_type(config: Path) -> None:
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace('"model_type": "olmoe",', ""), encoding="utf-8")
    assert load_model(str(config)).family == "olmoe"


@pytest.mark.parametrize("name", ["mixtrl-8x7b", "", "no/such/config.json", "x\0y", "a" * 5000])
def test_an_unknown_name_is_one_error(name: str) -> None:
    with pytest.raises(InputError, match=r"shipped card|cannot be read|is a folder with neither"):
        load_model(name)


def test_a_misspelt_name_suggests_the_nearest_card() -> None:
    with pytest.raises(InputError, match="did you mean 'mixtral-8x7b'"):
        load_model("mixtrl-8x7b")
