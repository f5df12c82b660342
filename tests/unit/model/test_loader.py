"""Names and paths of models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from moesim.config.errors import InputError
from moesim.model import ModelSpec, load_model
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


def test_what_a_family_does_not_know_is_said(tmp_path: Path) -> None:
    """Of a model whose family is known, too, 'every part is understood' has to be true."""
    keys = json.loads((CARDS / "qwen3-30b-a3b.json").read_text(encoding="utf-8"))
    path, plain = tmp_path / "config.json", load_model("qwen3-30b-a3b")

    def read(**changes: Any) -> ModelSpec:
        path.write_text(json.dumps({**keys, **changes}), encoding="utf-8")
        return load_model(str(path))

    assert read().notes == ()
    packed = read(quantization_config={"quant_method": "vptq"})
    assert "quantization 'vptq' is not known" in packed.notes[0]
    assert packed.bytes == plain.bytes
    types = ["full_attention", "hyena"] * (len(plain.layers) // 2)
    assert "attention 'hyena' is not known" in read(layer_types=types).notes[0]
    linear = read(
        layer_types=["linear_attention"] * len(plain.layers),
        linear_num_key_heads=16,
        linear_num_value_heads=32,
        linear_key_head_dim=128,
        linear_value_head_dim=128,
    )
    assert {layer.attention.kind for layer in linear.layers} == {"gated delta net"}
