"""Every two of these concepts in one experiment: both engines say the same, or one line says no.

A pair that is neither in ``REFUSED`` nor runs is a mistake, and so is one that has begun to run
without leaving that list.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from moesim.config.errors import InputError
from moesim.experiment.loading.once import read_once
from moesim.experiment.running.run import run

Part = dict[str, Any]
STEPS = 6
BASE: Part = {
    "model": "gpt-oss-20b",
    "hardware": {"base": "rtx-4090", "storage": "nvme-pcie4"},
    "trace": "traces/quickstart.parquet",
    "workload": {"requests": 1},
    "experts": {"capacity": "4 slots/layer"},  # so that every pass evicts
}
VARIANTS = {
    "high": {"capacity": "3 slots/layer"},
    "low": {"format": "q2_k", "capacity": "2 slots/layer"},
}


def ahead(**choices: Any) -> Part:
    return {"experts": {"prefetch": {"kind": "oracle", **choices}}}


def room(**choices: Any) -> Part:
    return {"experts": {"host": {"capacity": "30 %", **choices}}}


CONCEPTS: dict[str, Part] = {
    "offload_layers": {"offload_layers": 3},
    "host_layers": {"host_layers": 3, "experts": {"capacity": "all"}},
    "unpacking": {"software": "mixtral-offloading"},
    "variants": {"experts": {"variants": VARIANTS, "choose": {"kind": "hot_cold"}}},
    "parts": {"experts": {"parts": {"hot": {"rows": "25 %", "resident": "100 %"}, "rest": {}}}},
    "quality": {"quality": {"table": "quality.csv"}},
    "hobbit": {"experts": {"policy": {"kind": "hobbit", "scope": "global"}}},
    "order": {"experts": {"policy": {"kind": "stream"}, "order": "least_makespan"}},
    "energy": {"energy": {"cpu": "120 W", "other": "40 W"}},
    "cost": {"cost": {"gpu": "2 $/h", "electricity": "0.3 $/kWh"}},
    "speculative": {"workload": {"speculative": {"kind": "ngram", "num_speculative_tokens": 2}}},
    "one memory": {"hardware": {"base": "gb10"}},
    "storage": room(),
    "nothing in host memory": room(capacity="none"),
    "cxl": {"hardware": {"storage": "cxl-ddr5-x8"}, **room(chunk="1 MiB")},
    "sliced": {"parallelism": {"expert": 2, "experts": "tensor"}},
    "recall": ahead(layers=2, recall=["90 %", "60 %"], precision="50 %", stop="first_missing"),
    "before a pass": ahead(when="before_pass", cost="50 us"),
    "pipeline": {"parallelism": {"pipeline": 2}},
    "on the CPU": {"experts": {"miss": {"kind": "cpu"}, "initial": "most_used"}},
}


REFUSED: dict[str, set[str]] = {
    "offload_layers": {
        *("host_layers", "variants", "parts", "hobbit", "one memory", "storage"),
        *("nothing in host memory", "cxl", "sliced", "recall", "before a pass", "pipeline"),
    },
    "host_layers": {
        *("variants", "parts", "hobbit", "energy", "cost", "one memory", "sliced", "recall"),
        *("before a pass", "pipeline"),
    },
    "unpacking": {"parts", "recall", "on the CPU"},
    "variants": {
        "sliced",  # q2_k has blocks of 256 channels, of which these experts have no equal parts
        *("parts", "order", "pipeline"),
    },
    "parts": {"speculative", "sliced", "on the CPU"},
    "hobbit": {"pipeline"},
    "order": {"recall", "before a pass"},
    "one memory": {
        *("storage", "nothing in host memory", "cxl", "sliced", "pipeline", "on the CPU"),
    },
    "sliced": {"pipeline"},
    "recall": {"before a pass"},
}
"""What each concept does not go with, of those after it in ``CONCEPTS``."""
UNSEEN = {("host_layers", "on the CPU"): {"on the CPU"}, ("storage", "cxl"): {"storage"}}
"""What changes no number beside another: all other experts are resident; it is a part of it."""


def joined(one: Part, other: Part, *, over: bool = False) -> Part | None:
    """``one`` with the keys of ``other``; None where both have another value for a key, unless
    ``other`` goes ``over`` it.
    """
    made = dict(one)
    for key, value in other.items():
        mine = made.get(key)
        if isinstance(mine, dict) and isinstance(value, dict):
            if (value := joined(mine, value, over=over)) is None:
                return None
        elif mine is not None and mine != value and not over:
            return None
        made[key] = value
    return made


PAIRS = {
    (one, other): both
    for one, other in combinations(CONCEPTS, 2)
    if (both := joined(CONCEPTS[one], CONCEPTS[other])) is not None
}


@pytest.fixture(scope="module", autouse=True)
def _once(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Models and machines are read once; the table of quality is there."""
    with read_once(), pytest.MonkeyPatch.context() as patch:
        folder: Path = tmp_path_factory.mktemp("table")
        (folder / "quality.csv").write_text("lowered_share,perplexity\n0,5\n1,7\n")
        patch.chdir(folder)
        yield


def said(part: Part, engine: str, records: str) -> dict[str, Any] | str:
    """The numbers of a short run with ``part``, or the line that refuses it."""
    experiment = joined(BASE, part, over=True) or {}
    try:
        summary = run(
            {**experiment, "engine": engine, "records": records}, limit_steps=STEPS
        ).summary
    except InputError as error:
        (line,) = [str(problem) for problem in error.problems]
        assert "\n" not in line
        return line
    own = ("engine", "engine_reason", "engine_wall_s", "intervals")
    return {key: value for key, value in summary.items() if key not in own}


@cache
def alone(concept: str) -> Any:
    """The numbers of a short run with one concept."""
    return said(CONCEPTS[concept], "des", "layer")


@pytest.mark.parametrize("pair", PAIRS, ids=", ".join)
def test_two_concepts_run_alike_in_both_engines_or_are_refused(pair: tuple[str, str]) -> None:
    """Whatever is recorded; and what runs shows both in its numbers."""
    one, other = pair
    des = said(PAIRS[pair], "des", "layer")
    assert isinstance(des, str) == (other in REFUSED.get(one, ())), des
    if isinstance(des, dict):
        assert said(PAIRS[pair], "replay", "summary") == des
        unseen = {name for name, beside in (pair, pair[::-1]) if des == alone(beside)}
        assert unseen == UNSEEN.get(pair, set())
