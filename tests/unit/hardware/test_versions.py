"""Software by the version that people have, and which profile prices it."""

from __future__ import annotations

import pytest

from moesim.config.errors import InputError
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.loading.warnings import other_versions
from moesim.hardware import load_software, software_names
from moesim.hardware.described.versions import priced_as, version_of


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("b6512", (6512,)),
        ("v0.19.1", (0, 19, 1)),
        ("2025-05", (2025, 5)),
        ("b7xxx", (7000,)),
        ("0.4.6.post1", (0, 4, 6, 1)),
        ("nightly", None),
        ("main", None),
        ("", None),
    ],
)
def test_numbers_of_a_version(text: str, version: tuple[int, ...] | None) -> None:
    assert version_of(text) == version


@pytest.mark.parametrize(
    ("name", "profile", "said"),
    [
        ("llama.cpp@b6500", "llama.cpp@b6xxx", "at or before it"),
        ("llama.cpp@b6000", "llama.cpp@b6xxx", "at or before it"),
        ("llama.cpp@b5999", "llama.cpp@b5xxx", "at or before it"),
        ("llama.cpp@b7123", "llama.cpp@b6xxx", "at or before it"),
        ("LLAMA.CPP@b8000", "llama.cpp@b8xxx", "at or before it"),
        ("llama.cpp@b99999", "llama.cpp", "at or before it"),
        ("llama.cpp@b3000", "llama.cpp@b5xxx", "the oldest"),
        ("llama.cpp@b2050", "llama.cpp@b5xxx", "the oldest"),
        ("ik_llama.cpp@2025", "ik_llama.cpp", "at or before it"),
        ("vllm@0.19.0", "vllm@0.19", "at or before it"),
        ("vllm@0.20", "vllm@0.19", "at or before it"),
        ("vllm@0.11", "vllm@0.14", "the oldest"),
        ("sglang@0.5", "sglang", "at or before it"),
        ("ik_llama.cpp@2025-09", "ik_llama.cpp", "at or before it"),
        ("ktransformers", "ktransformers@0.7", "youngest"),
        ("imp", "imp@1365", "youngest"),
        ("llama.cpp@b5xxx", "llama.cpp@b5xxx", None),
        ("vllm", "vllm", None),
    ],
)
def test_a_version_goes_by_the_latest_before_it(name: str, profile: str, said: str | None) -> None:
    assert load_software(name).name == profile
    one = load_experiment({"model": "gpt-oss-20b", "hardware": "rtx-4090", "software": name})
    told = other_versions([one.experiment])
    assert told == (
        [] if said is None else [f"note: software: {priced_as(name, software_names())}"]
    )
    assert all(str(said) in line and f"'{profile}'" in line for line in told)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ollama", "runs llama.cpp's kernels"),
        ("MLX", "nobody has counted"),
        ("vllm@main", "'main' is no version of vllm"),
        ("llama.cpp@2026-10", "'2026-10' is no version of llama.cpp, whose are as b5000"),
        ("ik_llama.cpp@b4123", "'b4123' is no version of ik_llama.cpp, whose are as 2025-03"),
        ("lama.cpp", "did you mean 'llama.cpp'"),
    ],
)
def test_what_no_profile_prices(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_experiment({"model": "gpt-oss-20b", "hardware": "rtx-4090", "software": name})
