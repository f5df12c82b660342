"""Records that take much memory: said by ``check``, refused by a run that cannot have it."""

from __future__ import annotations

from typing import Any

import pytest

import moesim
from moesim.config.errors import InputError
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.running import large_records as said
from moesim.experiment.running import record_memory as refused
from moesim.experiment.running.large_records import large_records
from moesim.experiment.running.record_memory import LAYER_BYTES, SPAN_BYTES

BASE = {
    "name": "base",
    "model": "gpt-oss-20b",
    "hardware": "rtx-4090",
    "trace": "traces/quickstart.parquet",
    "workload": {"requests": 2},
    "experts": {"capacity": "8 slots/layer"},
}


def say_from(size: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many bytes are worth saying."""
    for one in (said, refused):
        monkeypatch.setattr(one, "WORTH_SAYING", size)


def lines(records: str) -> list[str]:
    return large_records([load_experiment(BASE | {"records": records}).experiment])


def test_what_is_said_is_what_the_run_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = len(moesim.run(BASE).layers) * LAYER_BYTES
    say_from(kept, monkeypatch)
    assert lines("layer") == []
    say_from(kept - 1, monkeypatch)
    (line,) = lines("layer")
    assert line.startswith("warning: records: 'layer' takes about 0.0 GiB of memory")
    assert lines("summary") == lines("step") == []
    assert "'expert'" in lines("expert")[0]


def test_a_pass_of_many_tokens_has_no_more_activations_than_experts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The timeline of 20 steps of a service, prompts among them, was to take 35 GiB."""
    prompts = BASE | {"model": "small-moe", "trace": "small-moe"}
    prompts |= {
        "workload": {
            "requests": 8,
            "phase": "prefill",
            "batching": {"kind": "static", "batch_size": 8},
        }
    }
    result = moesim.run(prompts | {"records": "expert"})
    rows = len(result.layers) * LAYER_BYTES + len(result.spans) * SPAN_BYTES
    tokens = int(result.steps["tokens"].sum())
    assert tokens * 8 * 4 * SPAN_BYTES > 4 * rows
    say_from(0, monkeypatch)
    monkeypatch.setattr(refused, "available_bytes", lambda: rows + len(result.spans) * SPAN_BYTES)
    assert moesim.run(prompts | {"records": "expert"}).summary["status"] == "ok"


def test_a_run_that_has_no_room_for_its_records_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    say_from(0, monkeypatch)
    monkeypatch.setattr(refused, "available_bytes", lambda: 1000)
    with pytest.raises(InputError, match=r"records: 'layer' takes .* are free; records: step or"):
        moesim.run(BASE)
    assert moesim.run(BASE, records="summary").summary["status"] == "ok"


def served(arrivals: dict[str, Any], requests: int = 150, **others: Any) -> dict[str, Any]:
    """More tokens are answered than the trace has; no run is played again for intervals."""
    workload = {
        "requests": requests,
        "arrivals": arrivals,
        "lengths": {"kind": "random", "input_len": 100, "output_len": 60, "range_ratio": 0.5},
        "routing": {"kind": "draw"},
        "batching": {"kind": "continuous"},
    }
    named: dict[str, Any] = {"model": "small-moe", "trace": "small-moe", "hardware": "rtx-4060-8gb"}
    named |= {"name": "served", "records": "layer"}
    return {**named, "workload": workload, "serving": {"price_interval": "never"}, **others}


def told(experiment: dict[str, Any]) -> list[str]:
    return large_records([load_experiment(experiment).experiment])


def test_requests_that_come_by_the_clock_may_each_be_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """9 GB of 139,982 steps were not told: all were counted as if they came at once."""
    rare, often = (
        served({"kind": "poisson", "request_rate": f"{rate} requests/s"}) for rate in (2, 4000)
    )
    result = moesim.run(rare)
    kept = len(result.layers) * LAYER_BYTES
    say_from(kept, monkeypatch)
    (line,) = told(rare)
    assert line.startswith("warning: records: 'layer' takes about ")
    (line,) = told(rare | {"serving": {"replicas": 2}})
    assert line.startswith("warning: records: 'layer' takes up to about ")
    assert "if few requests are answered at once; records: step" in line
    assert told(often) == []
    assert told(served({"kind": "at_once"})) == []
    say_from(kept * 1.1, monkeypatch)
    assert told(rare) == []
    monkeypatch.setattr(refused, "available_bytes", lambda: kept // 2)
    say_from(0, monkeypatch)
    assert moesim.run(rare).summary["status"] == "ok", "it may take less"


@pytest.mark.parametrize(
    ("rate", "others"),
    [(2, {}), (200, {}), (1000, {}), (8000, {}), (8000, {"memory": {"kv": "40 blocks"}})],
)
def test_the_more_requests_a_step_answers_the_less_is_told(
    rate: int, others: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to 90 times what was kept was told of a service under load, as of answers one by one."""
    arrivals = {"kind": "poisson", "request_rate": f"{rate} requests/s"}
    asked = served(arrivals, requests=300, **others)
    kept = len(moesim.run(asked).layers) * LAYER_BYTES
    say_from(kept / 3, monkeypatch)
    assert len(told(asked)) == 1
    say_from(3 * kept, monkeypatch)
    assert told(asked) == []


@pytest.mark.parametrize("capacity", ["all", "8 slots/layer"])
@pytest.mark.parametrize("rate", [20, 1000])
def test_spans_of_a_service_are_told_by_what_misses(
    rate: int, capacity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5 to 8 times what was kept was told under load: 600 bytes of each activation, of which those
    that are there share a span.
    """
    asked = served({"kind": "poisson", "request_rate": f"{rate} requests/s"}, requests=12)
    asked |= {"records": "expert", "experts": {"capacity": capacity}}
    result = moesim.run(asked)
    kept = len(result.layers) * LAYER_BYTES + len(result.spans) * SPAN_BYTES
    say_from(kept / 2, monkeypatch)
    (line,) = told(asked)
    assert line.startswith("warning: records: 'expert' takes about ")
    say_from(2 * kept, monkeypatch)
    assert told(asked) == []


@pytest.mark.parametrize(
    ("arrivals", "replicas"),
    [({"kind": "closed_loop", "max_concurrency": 4}, 1),
     ({"kind": "closed_loop", "max_concurrency": 8}, 2)],
)  # fmt: skip
def test_clients_that_wait_answer_as_many_at_once_as_they_are(
    arrivals: dict[str, Any], replicas: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = served(arrivals, serving={"replicas": replicas})
    kept = len(moesim.run(asked).layers) * LAYER_BYTES
    say_from(kept * 0.9, monkeypatch)
    (line,) = told(asked)
    assert line.startswith("warning: records: 'layer' takes about ")
    say_from(kept * 1.1, monkeypatch)
    assert told(asked) == []
