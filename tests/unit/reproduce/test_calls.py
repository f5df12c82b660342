"""SiDA-MoE's saving (arXiv 2310.18859): the host's time of every call that is not made."""

from __future__ import annotations

import pytest

import moesim
from moesim.hardware.load import load_software
from moesim.reproduce.systems import load_system
from moesim.reproduce.systems.load import systems_folder

FOLDER = systems_folder() / "sida"
LAYERS, EXPERTS, SENTENCES = 6, 128, 3


def test_it_saves_the_price_of_every_call_that_it_does_not_make():
    points = load_system("sida").runs[0].points
    every, used = (
        moesim.run(
            FOLDER / "experiment.yaml",
            overrides=[*points[name], "routing=[]", f"workload.requests={SENTENCES}"],
        ).summary
        for name in ("all called", "SiDA, all resident")
    )
    software = load_software(str(FOLDER / "switch-sida.yaml"))
    call_ms = software.kernels.expert * software.launch_ns / 1e6
    saved = LAYERS * EXPERTS * SENTENCES - used["hits"]
    assert saved > 0
    difference = every["duration_ms"] - used["duration_ms"]
    assert difference == pytest.approx(saved * call_ms, abs=1e-6)
