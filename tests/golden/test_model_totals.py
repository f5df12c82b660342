"""Published sizes of the shipped models. A change of a number here is a breaking change."""

from __future__ import annotations

import pytest

from moesim.model import load_model, model_names

PARAMETERS = {
    "gpt-oss-20b": 20_914_757_184,
    "gpt-oss-120b": 116_829_156_672,
    "mixtral-8x7b": 46_702_792_704,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-235b-a22b": 235_093_634_560,
    "olmoe-1b-7b": 6_919_161_856,
    "deepseek-v2-lite": 15_706_484_224,
    "deepseek-v3": 671_026_419_200,
    "nllb-moe-54b": 54_500_569_088,
    "lm-52b": 51_831_371_776,
    "switch-base-128": 7_415_217_408,
    "llama-3.1-8b": 8_030_261_248,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "small-moe": 6_752_896,
    "deepseek-v3.2": 671_877_944_064,
    "deepseek-v4-flash": 284_332_241_239,
    "gemma-4-26b-a4b": 25_233_053_440,
    "glm-4.7-flash": 29_943_393_920,
    "glm-5": 743_911_218_432,
    "kimi-k2": 1_026_408_232_448,
    "llama-4-scout": 107_769_861_120,
    "minimax-m2.5": 228_689_764_864,
    "mixtral-8x22b": 140_620_634_112,
    "nemotron-3-nano": 31_577_940_288,
    "phi-3.5-moe": 41_873_121_280,
    "qwen3-coder-480b": 480_154_875_392,
    "qwen3-next-80b-a3b": 79_674_391_296,
    "qwen3.5-35b-a3b": 34_660_610_688,
    "qwen3.6-35b-a3b": 34_660_610_688,
    "qwen3.5-122b-a10b": 122_111_526_912,
    "deepseek-r1": 671_026_419_200,
    "glm-4.5-air": 106_852_251_264,
    "glm-4.5": 352_797_805_472,
    "glm-4.6": 352_797_805_472,
    "glm-5.3": 743_377_019_904,
    "kimi-k2.5": 1_026_408_232_448,
    "kimi-k3": 2_779_481_465_440,
    "mimo-v2-flash": 308_778_780_864,
    "minimax-m3": 426_174_572_928,
    "qwen3-vl-30b-a3b": 30_532_122_624,
    "step-3.7-flash": 195_832_712_256,
    "qwen3-30b-a3b-2507": 30_532_122_624,
    "qwen3-235b-a22b-2507": 235_093_634_560,
    "qwen3-coder-30b-a3b": 30_532_122_624,
    "ernie-4.5-21b-a3b": 21_825_437_888,
    "ernie-4.5-300b-a47b": 299_484_163_264,
    "hunyuan-a13b": 80_393_183_232,
    "qwen1.5-moe-a2.7b": 14_315_784_192,
    "qwen2-57b-a14b": 57_408_658_944,
    "deepseek-v2": 235_741_434_880,
    "moonlight-16b-a3b": 15_960_110_208,
    "mistral-large-3": 673_421_097_216,
    "mistral-small-4": 118_972_826_624,
    "dots-llm1": 142_774_381_696,
    "solar-open-100b": 102_651_799_552,
    "ling-flash-2.0": 102_889_697_280,
    "ling-mini-2.0": 16_255_638_528,
    "lfm2-8b-a1b": 8_339_930_560,
    "granite-4.0-h-small": 32_207_337_984,
    "kimi-linear-48b-a3b": 49_122_681_728,
    "ling-1t": 999_705_309_184,
    "qwen3.5-397b-a17b": 396_346_350_336,
    "llama-4-maverick": 400_711_848_960,
    "dbrx": 131_596_523_520,
}
BILLIONS = {
    "gpt-oss-20b": 20.9,
    "gpt-oss-120b": 116.8,
    "mixtral-8x7b": 46.7,
    "qwen3-30b-a3b": 30.5,
    "qwen3-235b-a22b": 235.1,
    "olmoe-1b-7b": 6.9,
    "deepseek-v2-lite": 15.7,
    "deepseek-v3": 671.0,
    "nllb-moe-54b": 54.5,
    "switch-base-128": 7.4,
    "llama-3.1-8b": 8.0,
    "qwen3-0.6b": 0.6,
    "qwen3-1.7b": 1.7,
    "gemma-4-26b-a4b": 25.2,
    "llama-4-scout": 107.8,
    "mixtral-8x22b": 140.6,
    "nemotron-3-nano": 31.6,
    "phi-3.5-moe": 41.9,
    "qwen3-next-80b-a3b": 79.7,
    "deepseek-v2": 235.7,
    "moonlight-16b-a3b": 16.0,
    "qwen1.5-moe-a2.7b": 14.3,
    "qwen2-57b-a14b": 57.4,
}
# billions, and whether the publisher counts the embedding table
ACTIVE = {
    "gpt-oss-20b": (3.61, False),
    "gpt-oss-120b": (5.13, False),
    "mixtral-8x7b": (12.9, True),
    "qwen3-30b-a3b": (3.3, True),
    "qwen3-235b-a22b": (22, True),
    "olmoe-1b-7b": (1.3, True),
    "deepseek-v2-lite": (2.4, False),
    "deepseek-v3": (37, False),
    "deepseek-v3.2": (37, False),
    "deepseek-v4-flash": (13, False),
    "gemma-4-26b-a4b": (3.8, False),
    "kimi-k2": (32.9, True),
    "llama-4-scout": (17.2, True),
    "mixtral-8x22b": (39.1, True),
    "nemotron-3-nano": (3.6, True),
    "phi-3.5-moe": (6.6, True),
    "qwen3-coder-480b": (35, True),
    "qwen3-next-80b-a3b": (3.9, True),
    "deepseek-r1": (37, False),
    "mimo-v2-flash": (15, False),
    "dbrx": (36, False),
    "deepseek-v2": (21, False),
    "dots-llm1": (14, True),
    "ernie-4.5-300b-a47b": (47, False),
    "hunyuan-a13b": (13, False),
    "ling-1t": (50, False),
    "ling-flash-2.0": (6.1, True),
    "ling-mini-2.0": (1.43, True),
    "granite-4.0-h-small": (9, False),
    "llama-4-maverick": (17.2, True),
    "mistral-large-3": (39, False),
    "mistral-small-4": (6, False),
    "qwen1.5-moe-a2.7b": (2.7, True),
    "qwen2-57b-a14b": (14, True),
    "qwen3.5-397b-a17b": (17.3, True),
    "solar-open-100b": (12, True),
}
# bytes of the weights in the published checkpoint
CHECKPOINT_BYTES = {
    "gpt-oss-20b": 13_761_264_768,
    "gpt-oss-120b": 65_248_815_744,
    "mixtral-8x7b": 93_405_585_408,
    "qwen3-30b-a3b": 61_064_245_248,
    "deepseek-v2-lite": 31_412_968_448,
}


def test_every_card_has_a_golden_total() -> None:
    assert model_names() == sorted(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_exact(name: str) -> None:
    assert load_model(name).parameters == PARAMETERS[name]


@pytest.mark.parametrize("name", BILLIONS)
def test_parameters_are_the_published_billions(name: str) -> None:
    assert round(load_model(name).parameters / 1e9, 1) == BILLIONS[name]


@pytest.mark.parametrize(("name", "billions"), [("glm-4.5-air", 110), ("glm-4.6", 357)])
def test_parameters_with_the_layer_that_predicts_are_those_of_the_files(
    name: str, billions: int
) -> None:
    model = load_model(name)
    assert (model.parameters + model.mtp_parameters) / 1e9 == pytest.approx(billions, rel=0.01)


def test_the_study_rounds_its_model_to_52_billion() -> None:
    assert round(load_model("lm-52b").parameters / 1e9) == 52


@pytest.mark.parametrize("name", ACTIVE)
def test_active_parameters_are_the_published_ones(name: str) -> None:
    published, with_table = ACTIVE[name]
    model = load_model(name)
    counted = model.active_parameters + (model.embedding_parameters if with_table else 0)
    assert counted / 1e9 == pytest.approx(published, rel=0.022)  # publishers round to two digits


@pytest.mark.parametrize("name", CHECKPOINT_BYTES)
def test_bytes_are_the_checkpoint(name: str) -> None:
    assert load_model(name).bytes == CHECKPOINT_BYTES[name]


def test_cached_bytes_a_token_are_the_published_ones() -> None:
    # arXiv 2505.09343, table 1: DeepSeek-V3 keeps 70.272 KB a token in bf16
    layers = load_model("deepseek-v3").layers
    assert sum(layer.attention.kv_bytes_per_token for layer in layers) == 70_272
