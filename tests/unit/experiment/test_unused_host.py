"""What says how host memory keeps and reads experts is told where it holds all of them."""

from __future__ import annotations

from typing import Any

import pytest

from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.loading.warnings import of_inputs
from moesim.experiment.schema.experiment import Experiment

DRIVE = {"gpu": "rtx-4060-8gb", "storage": "nvme-pcie4"}
ONE_MEMORY = {"base": "m4-max-128gb", "storage": "nvme-pcie4"}


def made(hardware: Any, **host: Any) -> Experiment:
    experts = {"capacity": "8 slots/layer", "host": host}
    content = {"model": "gpt-oss-20b", "hardware": hardware, "experts": experts}
    return load_experiment(content | {"trace": "gpt-oss-20b"}).experiment


def told(*experiments: Experiment) -> list[str]:
    """The keys of ``experts.host`` that are said to be without effect."""
    lines = [line for line in of_inputs(experiments) if "experts.host." in line]
    assert all("write its room, as in 'capacity: 48 GiB'" in line for line in lines)
    return [line.removeprefix("warning: experts.host.").split(":")[0] for line in lines]


@pytest.mark.parametrize(
    ("hardware", "host", "keys"),
    [
        (DRIVE, {"layers_ahead": 2, "policy": "lfu"}, ["layers_ahead", "policy"]),
        (DRIVE, {"reads": 3, "path": "direct", "chunk": "1 MiB"}, ["chunk", "path", "reads"]),
        (DRIVE, {"reads": 3, "capacity": "4 GiB"}, []),
        (DRIVE, {"reads": 3, "capacity": "none"}, []),
        (DRIVE, {"policy": "lru"}, []),
        (ONE_MEMORY, {"reads": 3}, []),
    ],
)
def test_keys_without_effect(hardware: Any, host: dict[str, Any], keys: list[str]) -> None:
    assert told(made(hardware, **host)) == keys


def test_one_point_that_reads_is_enough() -> None:
    everything, some = made(DRIVE, reads=3), made(DRIVE, reads=3, capacity="4 GiB")
    assert told(everything, some) == []
    assert told(everything, made(DRIVE, capacity="4 GiB")) == ["reads"]
