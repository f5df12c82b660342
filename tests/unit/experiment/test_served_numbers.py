"""What clients see of requests that are served: laws that hold of every run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moesim.config.errors import InputError
from moesim.engine.des.run import run_des
from moesim.engine.replay.run import run_replay
from moesim.experiment.building.build import build
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.loading.warnings import fewer_requests
from moesim.experiment.running.run import simulate
from moesim.metrics import served
from moesim.metrics.served import TIMES, served_keys, statistics_of
from moesim.report.run.rows import blocks
from moesim.workload.lengths import registry
from moesim.workload.serving.state import DONE, QUEUED
from moesim.workload.serving.trtllm import AttentionDp, Trtllm
from moesim.workload.speculation import Draft
from tests.reference.agreement import assert_same

SMALL = {"model": "small-moe", "hardware": "rtx-4060-8gb", "trace": "small-moe"}
LENGTHS = {"kind": "random", "input_len": 90, "output_len": 12, "range_ratio": 0.5}
POISSON = {"kind": "poisson", "request_rate": "300 requests/s"}
CLOSED = {"kind": "closed_loop", "max_concurrency": 3}


def experiment_of(arrivals: dict[str, Any], **choices: Any) -> Any:
    workload = {
        "requests": 12,
        "arrivals": arrivals,
        "lengths": LENGTHS,
        "routing": {"kind": "draw"},
        "batching": {
            "kind": "continuous",
            "scheduler": {"kind": "vllm", "max_num_batched_tokens": 64},
        },
    }
    given = {**SMALL, "records": "step", "workload": workload, **choices}
    return load_experiment(given).experiment


CASES = [
    (POISSON, "vllm"),
    (POISSON, "ideal"),
    (CLOSED, "vllm"),
    (CLOSED, "ideal"),
    ({"kind": "at_once"}, "vllm"),
]


@pytest.mark.parametrize(("arrivals", "software"), CASES)
def test_laws(arrivals: dict[str, Any], software: str) -> None:
    result = simulate(experiment_of(arrivals, software=software), check=True)
    numbers, table = result.summary, result.requests
    assert numbers["completed"] == 12 == len(table)
    tokens = numbers["total_input_tokens"] + numbers["total_output_tokens"]
    assert numbers["tokens"] == tokens - 12  # the last of an answer is in no pass
    steps = result.steps
    assert (steps.prompt_tokens + steps.decode_tokens == steps.tokens).all()
    assert steps.free_blocks.between(0, numbers["kv_blocks"]).all()
    held = numbers["kv_blocks"] - steps.free_blocks.min()
    assert numbers["kv_usage_max"] == pytest.approx(held / numbers["kv_blocks"])
    if "decided_ns" in steps:
        assert (steps.decided_ns <= steps.end_ns).all()
        assert (np.diff(steps.decided_ns) >= 0).all()
    # what the first token's time is made of adds up, to the nanosecond
    names = map(str, table.columns)
    parts = [name for name in names if name.startswith("ttft_") and name != "ttft_ms"]
    assert table[parts].sum(axis=1).to_numpy() == pytest.approx(table.ttft_ms, abs=1e-6)
    assert (table[parts] >= 0).all().all()
    # and so does what the others' is
    parts = [name for name in map(str, table.columns) if name.startswith("decode_")]
    decode_ms = (table.last_token_ns - table.first_token_ns) / 1e6
    assert table[parts].sum(axis=1).to_numpy() == pytest.approx(decode_ms, abs=1e-6)
    assert (table[[one for one in parts if one != "decode_rest_ms"]] >= 0).all().all()
    assert (table.decode_experts_ms > 0).all()
    # Little: clients that wait, over time, are all the time that they wait
    sent, last = table.arrival_ns.to_numpy(), table.last_token_ns.to_numpy()
    instants = np.unique(np.concatenate((sent, last)))
    waiting = [((sent <= t) & (last > t)).sum() for t in instants[:-1]]
    assert int(np.dot(waiting, np.diff(instants))) == int((last - sent).sum())
    assert (last - sent) / 1e6 == pytest.approx(table.e2el_ms)
    # as vLLM's client counts: whoever is there in any part of a second
    first, until = ((of - sent.min()) // 10**9 for of in (sent, last))
    seconds = range(int(until.max()) + 1)
    there = [int(((first <= at) & (until >= at)).sum()) for at in seconds]
    assert numbers["max_concurrent_requests"] == max(there) >= max(waiting)
    # all tokens of answers, over the time from the first request to the last token
    lasts = (last.max() - sent.min()) / 1e9
    assert numbers["output_throughput"] == pytest.approx(numbers["total_output_tokens"] / lasts)
    for name in ("ttft", "tpot", "e2el", "queue"):
        assert numbers[f"mean_{name}_ms"] == pytest.approx(table[f"{name}_ms"].mean())
    # a token comes at the end of a pass: none before its request, none at one time
    assert (table.first_token_ns > table.arrival_ns).all()
    assert (table.max_itl_ms > 0).all()


def test_most_tokens_of_a_second_are_those_of_requests_token_by_token() -> None:
    slow = {"kind": "poisson", "request_rate": "2 requests/s"}
    found = simulate(experiment_of(slow, records="layer"))
    seen = [
        row.first_token_ns + gaps.cumsum()
        for row in found.requests.itertuples()
        for gaps in [np.append(0, found.itl.itl_ns[found.itl.request_id == row.request_id])]
    ]
    seconds = (np.concatenate(seen) - found.requests.arrival_ns.min()) // 10**9
    assert len(set(seconds.tolist())) > 2
    most = np.unique(seconds, return_counts=True)[1].max()
    assert found.summary["max_output_tokens_per_s"] == most < len(seconds)


def test_misses_by_whose_tokens_need_the_expert() -> None:
    """They add up, and so do their bytes; what prompts push out, answers miss."""
    result = simulate(experiment_of(POISSON, experts={"capacity": "8 slots/layer"}))
    numbers, steps = result.summary, result.steps
    for what in ("misses", "bytes_h2d"):
        columns = [f"{mark}_{what}" for mark in ("decode", "prompt", "both")]
        assert (steps[columns].sum(axis=1) == steps[what]).all()
        assert [numbers[name] for name in columns] == steps[columns].sum().tolist()
        assert sum(numbers[name] for name in columns) == numbers[what]
    assert (steps[steps.phase == "decode"][["prompt_misses", "both_misses"]] == 0).all(axis=None)
    assert (steps[steps.phase == "prefill"][["decode_misses", "both_misses"]] == 0).all(axis=None)
    caused = steps.decode_misses_caused_by_prompts
    assert (caused <= steps.decode_misses).all()
    assert 0 < numbers["decode_misses_caused_by_prompts"] == caused.sum()
    assert 0 <= numbers["decode_hit_ratio"] <= 1


def test_gaps_between_tokens_by_whether_a_step_has_prompts() -> None:
    numbers = simulate(experiment_of(POISSON)).summary
    with_prompts, without = (
        numbers[f"mean_itl_{which}_prompts_ms"] for which in ("with", "without")
    )
    assert without < numbers["mean_itl_ms"] < with_prompts


def test_good_requests_keep_all_that_is_promised() -> None:
    plain = simulate(experiment_of(POISSON))
    ttft, tpot = plain.requests.ttft_ms.median(), plain.requests.tpot_ms.quantile(0.8)
    promised = {"slo": {"ttft": f"{ttft} ms", "tpot": f"{tpot} ms"}}
    one = simulate(experiment_of(POISSON, serving=promised))
    numbers, table = one.summary, one.requests
    kept = (table.ttft_ms <= ttft, table.tpot_ms <= tpot)
    assert (table.good == (kept[0] & kept[1])).all()
    assert 0 < table.good.sum() < len(table)
    share = numbers["slo_attainment"]
    assert share == {"all": table.good.mean(), "ttft": kept[0].mean(), "tpot": kept[1].mean()}
    whole = numbers["request_throughput"] / len(table)
    assert numbers["request_goodput"] == pytest.approx(whole * table.good.sum())
    assert plain.summary["request_goodput"] is plain.summary["slo_attainment"] is None


@pytest.mark.parametrize("warm_up", [0, 5])
def test_the_share_of_requests_that_came_once_others_left(warm_up: int) -> None:
    one = simulate(experiment_of(POISSON, serving={"warm_up": warm_up}))
    table = one.requests.sort_values("arrival_ns")[warm_up:]
    share = (table.arrival_ns >= one.requests.last_token_ns.min()).mean()
    assert one.summary["after_first_end_share"] == share
    slow = {"kind": "poisson", "request_rate": "0.1 requests/s"}
    apart = simulate(experiment_of(slow)).summary
    assert apart["after_first_end_share"] == 1 - 1 / apart["completed"]
    at_once = simulate(experiment_of({"kind": "at_once"})).summary
    assert at_once["after_first_end_share"] is None


def test_a_line_that_grows_is_told_and_one_that_is_served_is_not() -> None:
    slow = {"kind": "poisson", "request_rate": "0.1 requests/s"}
    assert not simulate(experiment_of(slow)).summary["saturated"]
    one = experiment_of({"kind": "poisson", "request_rate": "3000 requests/s"})
    scheduler = one.workload.batching.scheduler.model_copy(update={"max_num_seqs": 2})
    batching = one.workload.batching.model_copy(update={"scheduler": scheduler})
    workload = one.workload.model_copy(update={"batching": batching, "requests": 60})
    flood = simulate(one.model_copy(update={"workload": workload}), check=True)
    assert flood.summary["saturated"]
    steps = flood.steps
    assert steps.running.max() == 2
    assert steps.waiting.max() > 20
    assert (steps.cached_blocks <= steps.free_blocks).all()


def test_times_between_tokens_are_a_table() -> None:
    result = simulate(experiment_of(POISSON, records="layer"))
    gaps, numbers = result.itl, result.summary
    assert len(gaps) == numbers["total_output_tokens"] - numbers["completed"]
    assert gaps.itl_ns.mean() / 1e6 == pytest.approx(numbers["mean_itl_ms"])
    with_prompts = gaps[gaps.with_prompts].itl_ns.mean() / 1e6
    assert with_prompts == pytest.approx(numbers["mean_itl_with_prompts_ms"])


@pytest.mark.parametrize("serving", [{}, {"disaggregation": {"bandwidth": "1 GB/s"}}])
def test_times_of_requests_are_the_clients_alone(serving: dict[str, Any]) -> None:
    """Those of passes leave the queue out, so that none stands under the clients' names."""
    numbers = simulate(experiment_of(POISSON, serving=serving)).summary
    assert numbers["mean_ttft_ms"] > numbers["mean_queue_ms"]
    after = numbers["after_warm_up"]
    assert after["warm_up_steps"] > 0
    assert not [name for name in after if "ttft" in name or "tpot" in name]


def test_latencies_leave_the_warm_up_out() -> None:
    whole = simulate(experiment_of(POISSON))
    later = simulate(experiment_of(POISSON, serving={"warm_up": 5}))
    behind = whole.requests.sort_values("arrival_ns").iloc[5:]
    assert later.summary["mean_ttft_ms"] == pytest.approx(behind.ttft_ms.mean())
    assert later.summary["completed"] == 12
    assert later.summary["latency_intervals"]["warm_up_requests"] == 5


def test_a_warm_up_leaves_requests_that_count() -> None:
    with pytest.raises(InputError, match=r"serving.warm_up: 12 of 12 requests are left out"):
        simulate(experiment_of(POISSON, serving={"warm_up": 12}))
    last = simulate(experiment_of(POISSON, serving={"warm_up": 11}))
    behind = last.requests.sort_values("arrival_ns").iloc[11:]
    assert last.summary["mean_e2el_ms"] == behind.e2el_ms.mean()


def test_requests_of_sessions_are_there_once_in_the_plan(tmp_path: Path) -> None:
    """What follows another is at the start with all others, and does not come again at its end."""
    one = '{"input_toks": 10, "output_toks": 3}'
    line = f'{{"arrival_time_ns": 0, "sub_requests": [{", ".join([one] * 4)}]}}'
    (tmp_path / "sessions").write_text("\n".join([line] * 5), encoding="utf-8")
    arrivals = {"kind": "jsonl", "file": str(tmp_path / "sessions")}
    asked = experiment_of(arrivals)
    workload = {"requests": 20, "lengths": registry.get("arrivals")()}
    asked = asked.model_copy(update={"workload": asked.workload.model_copy(update=workload)})
    serving = build(asked).case.serving
    assert serving is not None
    serving.as_if_at_once()
    assert serving.planned is not None
    state = serving.planned[0]
    assert state.numbers[QUEUED] == state.numbers[DONE] == 20 == len(state.coming)
    assert simulate(asked).summary["completed"] == 20


@pytest.mark.parametrize("serving", [{}, {"replicas": 2, "router": {"kind": "session"}}])
def test_requests_of_a_session_are_its_turns(tmp_path: Path, serving: dict[str, Any]) -> None:
    """Each but the first is sent as long after the one before has its answer as the file says."""
    one = '{"input_toks": 10, "output_toks": 3, "tool_duration_ns": 4000}'
    lines = [
        f'{{"arrival_time_ns": {n}, "sub_requests": [{", ".join([one] * turns)}]}}'
        for n, turns in enumerate((3, 1, 2))
    ]
    (tmp_path / "sessions").write_text("\n".join(lines), encoding="utf-8")
    asked = experiment_of({"kind": "jsonl", "file": str(tmp_path / "sessions")}, serving=serving)
    workload = {"requests": 6, "lengths": registry.get("arrivals")()}
    asked = asked.model_copy(update={"workload": asked.workload.model_copy(update=workload)})
    requests = simulate(asked).requests
    assert requests.session.tolist() == [0, 0, 0, 1, 2, 2]
    assert requests.turn.tolist() == [0, 1, 2, 0, 0, 1]
    for _, chat in requests.groupby("session"):
        assert chat.arrival_ns.tolist()[1:] == (chat.last_token_ns + 4000).tolist()[:-1]


def test_a_request_that_follows_none_is_a_session_of_its_own() -> None:
    """The columns that docs/results.md names first are there, in its words, whatever is asked."""
    table = simulate(experiment_of(POISSON)).requests
    named = "request_id session turn replica rank gpu arrival_ns first_scheduled_ns first_token_ns"
    named += " last_token_ns input_tokens output_tokens cached_tokens chunks preemptions"
    assert [*table.columns[: len(named.split())]] == named.split()
    assert table.session.tolist() == table.request_id.tolist()
    assert set(table.turn) == set(table.replica) == {0}


def test_more_requests_than_memory_holds_are_told_at_once() -> None:
    asked = experiment_of(POISSON)
    many = asked.workload.model_copy(update={"requests": 10**12})
    with pytest.raises(InputError, match=r"workload.requests: 1,000,000,000,000 requests take"):
        simulate(asked.model_copy(update={"workload": many}))


def test_requests_that_are_rejected_at_the_end_are_asked_for(tmp_path: Path) -> None:
    """Of two, of which the second is too long, the run 'had 1, as many as there are to come'."""
    lines = ["arrived_at,num_prefill_tokens,num_decode_tokens", "0,20,3", "1,2000,3"]
    (tmp_path / "two.csv").write_text("\n".join(lines), encoding="utf-8")
    one = experiment_of({"kind": "csv", "file": str(tmp_path / "two.csv")})
    update = {"requests": 2, "lengths": registry.components["arrivals"]()}
    workload = one.workload.model_copy(update=update)
    one = one.model_copy(update={"workload": workload})
    numbers = simulate(one).summary
    assert (numbers["requests"], numbers["completed"], numbers["rejected"]) == (2, 1, 1)
    assert fewer_requests([one]) == []


def test_longer_requests_than_may_come_are_rejected_and_counted() -> None:
    """The printed room is for the longest that may: vLLM's "Maximum concurrency"."""
    batching = {"kind": "continuous", "scheduler": {"kind": "vllm", "max_model_len": 100}}
    workload = {**experiment_of(POISSON).workload.model_dump(mode="json"), "batching": batching}
    memory = {"kv": "21 blocks"}
    one = load_experiment({**SMALL, "records": "step", "workload": workload, "memory": memory})
    numbers = simulate(one.experiment).summary
    serving = build(experiment_of(POISSON)).case.serving
    assert serving is not None
    asked = serving.served.asked
    longer = int((asked.input_tokens + asked.output_tokens > 100).sum())
    assert 0 < longer < 12
    assert (numbers["rejected"], numbers["completed"]) == (longer, 12 - longer)
    assert numbers["requests"] == 12, "though the last ones may be rejected"
    assert numbers["kv_max_concurrency"] == 21 / 7  # blocks of 16 tokens
    (row,) = (one for one in blocks(numbers) if one[0] == "KV cache of a rank")
    assert row[1].startswith("21 blocks, 336 tokens, 3.00 x the longest request allowed; at most ")


def test_schedules_that_differ_have_other_digests_from_there_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of runs in which the last of the requests differ, the first steps are the same."""
    monkeypatch.setattr(served, "DIGESTED", 10)
    found = []
    for count in (12, 11):
        one = experiment_of({"kind": "poisson", "request_rate": "20 requests/s", "rescale": False})
        workload = one.workload.model_copy(update={"requests": count})
        summary = simulate(one.model_copy(update={"workload": workload}), check=True).summary
        found.append(summary["checks"]["schedule_digests"])
        assert len(found[-1]) == -(-summary["steps"] // 10)
    assert found[0][:3] == found[1][:3]
    assert found[0][-1] != found[1][-1]
    assert "checks" not in simulate(experiment_of(POISSON)).summary


@pytest.mark.parametrize("drafts", [0, 2])
@pytest.mark.parametrize("slots", ["all", "8 slots/layer"])
def test_both_engines_say_the_same(slots: str, drafts: int) -> None:
    """Host times, captured passes and a small cache of keys and values among it."""
    choices = {"experts": {"capacity": slots}, "memory": {"kv": "20 blocks"}}
    experiment = experiment_of(POISSON, software="vllm", **choices)
    if drafts:
        asked = Draft(model="llama-3.1-8b", num_speculative_tokens=drafts)
        workload = experiment.workload.model_copy(update={"speculative": asked})
        experiment = experiment.model_copy(update={"workload": workload})
    case = build(experiment).case
    des = run_des(case, check=True)
    assert_same(run_replay(case), des)
    assert case.serving is not None
    assert case.serving.state is not None
    assert case.serving.state.ranks[0].tolist() == [20]  # all blocks are free again


def test_both_engines_say_the_same_where_prompts_wait_for_other_ranks() -> None:
    """What is decided ahead counts the steps that they wait, and is taken back with them."""
    apart = {"parallelism": {"expert": 2, "dense": "data"}, "software": "vllm"}
    plain = experiment_of(POISSON, **apart)
    cases = []
    for balances in (False, True):
        dp = AttentionDp(enable_balance=balances, timeout_iters=4, batching_wait_iters=1)
        scheduler = Trtllm(attention_dp_config=dp)
        batching = plain.workload.batching.model_copy(update={"scheduler": scheduler})
        workload = plain.workload.model_copy(update={"batching": batching})
        cases.append(build(plain.model_copy(update={"workload": workload})).case)
    played = [run_des(case, check=True) for case in cases]
    for case, des in zip(cases, played, strict=True):
        assert_same(run_replay(case), des)
    assert played[0].ends.max() != played[1].ends.max()


def test_the_host_is_in_the_way_of_what_is_scheduled_synchronously() -> None:
    """Each pass waits for what the host does after the one before it, and before it."""
    one = experiment_of({"kind": "at_once"}, software="vllm")
    scheduler = one.workload.batching.scheduler.model_copy(update={"async_scheduling": False})
    batching = one.workload.batching.model_copy(update={"scheduler": scheduler})
    workload = one.workload.model_copy(update={"batching": batching})
    result = simulate(one.model_copy(update={"workload": workload}))
    steps = result.steps
    alive = steps.live_requests.to_numpy()
    # the front end apart: host time of vLLM's profile
    before, after = 250_000 + 10_000 * alive, 250_000 + 10_000 * alive
    waited = before + np.concatenate(([0], after[:-1]))
    begins, ends = steps.start_ns.to_numpy(), steps.end_ns.to_numpy()
    # the requests are on their way first; then the wait for the host belongs to each pass
    assert begins.tolist() == [2_000_000, *ends[:-1].tolist()]
    assert (steps.host_ns.to_numpy() >= waited).all()
    idle = result.summary["time_share"]["idle"] * result.summary["duration_ms"]
    assert idle == pytest.approx(2)


def test_known_passes_are_those_that_are_decided_as_the_clock_goes() -> None:
    """Where all come at once no clock matters, though the host takes time."""
    one = experiment_of({"kind": "at_once"}, software="vllm")
    case = build(one).case
    assert case.scheduler is not None
    known = case.schedule
    steps = simulate(one).steps
    assert steps.tokens.tolist() == np.diff(known.offsets).tolist()


def test_statistics() -> None:
    found = statistics_of("ttft", np.array([1.0, np.nan, 3.0, 2.0]))
    assert found["mean_ttft_ms"] == found["median_ttft_ms"] == found["p50_ttft_ms"] == 2
    assert found["p90_ttft_ms"] == pytest.approx(2.8)
    assert set(statistics_of("ttft", np.zeros(0)).values()) == {None}
    assert len(served_keys()) == 19 + 4 + 7 * len(TIMES)


WAYS = """\
end_mark: "..."
title: "a way of its own"
base: ideal
sources: {case: "this case's"}
frontend: {value: 1 ms, source: case}
tokenize: {value: 200 us, source: case}
per_prompt_token: {value: 3 us, source: case}
...
"""


def test_an_offline_batch_begins_with_tokens() -> None:
    at_once = {"kind": "at_once"}
    table = simulate(experiment_of(at_once, software="vllm")).requests
    assert table.first_scheduled_ns.min() == 2_000_000  # the front end alone


@pytest.mark.parametrize("arrivals", [POISSON, CLOSED, {**CLOSED, "max_concurrency": 1}])
def test_prompts_are_made_tokens_on_their_way(arrivals: dict[str, Any], tmp_path: Any) -> None:
    (tmp_path / "ways.yaml").write_text(WAYS, encoding="utf-8")
    experiment = experiment_of(arrivals, software=str(tmp_path / "ways.yaml"))
    table = simulate(experiment, check=True).requests
    way_ns = 1_000_000 + 200_000 + 3_000 * table.input_tokens
    first = table.ttft_queue_ms * 1e6 + table.arrival_ns + way_ns
    assert first.to_numpy() == pytest.approx(table.first_scheduled_ns.to_numpy())
    assert (table.ttft_frontend_ms * 1e6).to_numpy() == pytest.approx(way_ns + 1_000_000)
    if arrivals.get("max_concurrency") == 1:  # each is sent as the answer before is there
        ends = table.arrival_ns + table.e2el_ms * 1e6
        assert table.arrival_ns[1:].to_numpy() == pytest.approx(ends[:-1].to_numpy())
        assert (table.ttft_queue_ms == 0).all()


@pytest.mark.parametrize(("written", "count"), [(3, 3), ("3 requests", 3), ("1 request", 1)])
def test_the_warm_up_is_so_many_requests(written, count):
    assert experiment_of(POISSON, serving={"warm_up": written}).serving.warm_up == count


@pytest.mark.parametrize("written", ["3 seconds", "-1 requests", -1, "requests"])
def test_other_warm_ups_are_refused(written):
    with pytest.raises(InputError, match=r"serving\.warm_up: "):
        experiment_of(POISSON, serving={"warm_up": written})
