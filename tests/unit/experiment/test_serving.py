"""Experiments whose requests are served by continuous batching."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from moesim.config.errors import InputError
from moesim.experiment.building.build import build
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.loading.warnings import borrowed_routing, fewer_requests, of_inputs
from moesim.experiment.running.engines import ready
from moesim.experiment.running.run import simulate
from moesim.trace.routing import Phase
from moesim.workload.served import PassPhase

SMALL = {"model": "qwen3-30b-a3b", "hardware": "h100-sxm", "trace": "qwen3-30b-a3b"}
ANSWERS = {"model": "gpt-oss-20b", "hardware": "h100-sxm", "trace": "quickstart"}


def experiment_of(of: dict[str, Any], *, scheduler: dict[str, Any] | None = None, **workload: Any):
    batching = {"kind": "continuous", "scheduler": {"kind": "vllm", **(scheduler or {})}}
    given = {**of, "records": "step", "workload": {"batching": batching, **workload}}
    return load_experiment(given).experiment


def drawn(**more: Any) -> dict[str, Any]:
    return {
        "requests": 6,
        "arrivals": {"kind": "closed_loop", "max_concurrency": 3},
        "lengths": {"kind": "random", "input_len": 40, "output_len": 8, "range_ratio": 0.5},
        "routing": {"kind": "draw"},
        **more,
    }


def problem(*args: Any, **given: Any) -> str:
    with pytest.raises(InputError) as caught:
        build(experiment_of(*args, **given))
    return str(caught.value)


def test_requests_of_the_trace_choose_the_experts_that_it_has():
    """As recorded, whatever the scheduler: every prompt token and every decode token once."""
    experiment = experiment_of(SMALL, scheduler={"max_num_batched_tokens": 5})
    built = build(experiment)
    assert sorted(built.case.schedule.rows.tolist()) == list(range(built.case.trace.tokens))
    assert built.routing["routing_share"] == {"recorded": 1.0, "repeated": 0.0, "borrowed": 0.0}
    summary = simulate(experiment).summary
    whole = load_experiment({**SMALL, "workload": {"phase": "all"}}).experiment
    assert summary["tokens"] == simulate(whole).summary["tokens"]
    phases = built.case.schedule.phase
    assert phases[:5].tolist() == [PassPhase.PREFILL] * 5
    assert set(phases[6:].tolist()) == {PassPhase.DECODE}


def test_a_closed_loop_whose_prompts_are_computed_elsewhere_is_refill():
    """As many in flight, and the same rows in the same passes, where ends are seen at once."""
    served = build(
        experiment_of(
            ANSWERS,
            scheduler={"async_scheduling": False},
            phase="decode",
            requests=9,
            arrivals={"kind": "closed_loop", "max_concurrency": 4},
        )
    ).case.schedule
    refill = {"phase": "decode", "requests": 9, "batching": {"kind": "refill", "batch_size": 4}}
    batches = build(load_experiment({**ANSWERS, "workload": refill}).experiment).case.schedule
    assert served.passes == batches.passes
    for one in range(served.passes):
        mine, theirs = (
            np.sort(of.rows[of.offsets[one] : of.offsets[one + 1]]) for of in (served, batches)
        )
        assert mine.tolist() == theirs.tolist()
    assert (served.phase == Phase.DECODE).all()


def test_such_a_loop_of_equal_answers_is_static():
    """All of a batch end at once, so that the next one begins with as many."""
    workload = {
        "phase": "decode",
        "requests": 8,
        "arrivals": {"kind": "closed_loop", "max_concurrency": 4},
        "lengths": {"kind": "fixed", "input_len": 1, "output_len": 9},
        "routing": {"kind": "draw", "prompts_from": "decode"},
    }
    served = build(experiment_of(ANSWERS, scheduler={"async_scheduling": False}, **workload))
    schedule = served.case.schedule
    assert np.diff(schedule.offsets).tolist() == [4] * 16  # two batches of eight passes of static
    of_batch = [set(schedule.request[4 * one : 4 * one + 4].tolist()) for one in range(16)]
    assert of_batch == [{0, 1, 2, 3}] * 8 + [{4, 5, 6, 7}] * 8


@pytest.mark.parametrize("kind", ["lru", "lfu", "fifo"])
def test_with_a_slot_for_each_expert_no_cache_changes_anything(kind):
    """Nothing is missed once all are there, whichever policy would evict."""
    asked = drawn(arrivals={"kind": "poisson", "request_rate": "50 requests/s"})
    found = []
    for policy, capacity in (("lru", "all"), (kind, "all"), (kind, "128 slots/layer")):
        experts = {"policy": {"kind": policy}, "capacity": capacity}
        found.append(simulate(experiment_of({**SMALL, "experts": experts}, **asked)).summary)
    assert [one["misses"] for one in found] == [0] * 3
    for name in ("duration_ms", "mean_ttft_ms", "p99_tpot_ms", "steps", "hits"):
        assert len({one[name] for one in found}) == 1


def test_both_engines_play_it_alike():
    one = experiment_of(SMALL, **drawn(), scheduler={"max_num_batched_tokens": 24})
    replay, des = (
        simulate(one.model_copy(update={"engine": engine})).summary for engine in ("replay", "des")
    )
    for key in ("tokens", "steps", "duration_ms", "hits", "misses", "mean_ttft_ms", "p99_tpot_ms"):
        assert replay[key] == des[key], key


def test_lengths_and_rows_do_not_change_when_the_scheduler_does():
    few, many = (
        build(experiment_of(SMALL, **drawn(), scheduler={"max_num_batched_tokens": most})).case
        for most in (7, 4096)
    )
    assert few.serving is not None
    assert many.serving is not None
    assert few.serving.served.asked.input_tokens.tolist() == (
        many.serving.served.asked.input_tokens.tolist()
    )
    assert sorted(few.schedule.rows.tolist()) == sorted(many.schedule.rows.tolist())


def test_a_budget_above_all_prompts_is_none():
    one, other = (
        build(experiment_of(SMALL, **drawn(), scheduler={"max_num_batched_tokens": most}))
        for most in (6 * 60, 100_000)
    )
    assert one.case.schedule.rows.tolist() == other.case.schedule.rows.tolist()
    assert one.case.schedule.offsets.tolist() == other.case.schedule.offsets.tolist()


def test_requests_of_two_gpus_are_shared_out_evenly():
    given: dict[str, Any] = {**SMALL, "parallelism": {"expert": 2}}
    schedule = build(experiment_of(given, **drawn())).case.schedule
    of_gpu = [set(schedule.request[schedule.gpu == gpu].tolist()) for gpu in (0, 1)]
    assert not of_gpu[0] & of_gpu[1]
    assert min(map(len, of_gpu)) >= 2


def test_a_trace_without_prompts_names_the_key_that_helps():
    assert "workload.routing.prompts_from: decode" in problem(ANSWERS, **drawn())
    borrowed = experiment_of(ANSWERS, **drawn(routing={"kind": "draw", "prompts_from": "decode"}))
    share = build(borrowed).routing["routing_share"]
    assert share["borrowed"] > share["recorded"] > 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"routing": {"kind": "own"}}, "routing 'own' takes the trace's requests as they are"),
        ({"routing": {"kind": "nearest"}, "lengths": {"kind": "trace"}}, "goes by lengths"),
        ({"lengths": {"kind": "arrivals"}}, "'closed_loop' reads none"),
        ({"phase": "prefill"}, "phase 'prefill' yet"),
        ({"context": "4k"}, "lengths say how long requests are"),
        ({"prefill": {"chunk": 8}}, "write scheduler.max_num_batched_tokens"),
        (
            {
                "speculative": {"kind": "ngram"},
                "batching": {"kind": "continuous", "scheduler": {"kind": "sglang"}},
            },
            "drafts under 'sglang' yet; write vllm",
        ),
        ({"routing": {"kind": "draw", "when_short": "error"}}, "write repeat, chain or truncate"),
        (
            {"arrivals": {"kind": "poisson", "request_rate": "0 requests/s"}},
            "is too small; more than 0",
        ),
        (
            {"lengths": {"kind": "fixed", "input_len": "1m", "output_len": 1}},
            "none is served: the shortest, of 1048577 tokens, is longer than the model's",
        ),
        (
            {
                "lengths": {"kind": "fixed", "input_len": 40, "output_len": 5},
                "batching": {
                    "kind": "continuous",
                    "scheduler": {
                        "kind": "vllm",
                        "enable_chunked_prefill": False,
                        "max_num_batched_tokens": 32,
                    },
                },
            },
            "of 45 tokens, is longer than the 33 that the scheduler ever takes with its keys",
        ),
        (
            {
                "lengths": {"kind": "fixed", "input_len": 40, "output_len": 5},
                "batching": {
                    "kind": "continuous",
                    "scheduler": {"kind": "vllm", "max_model_len": 44},
                },
            },
            (
                "the 44 that the scheduler ever takes with its keys; write shorter lengths, or "
                "keys that take longer requests (max_model_len, slot_context)"
            ),
        ),
        (
            {
                "batching": {
                    "kind": "continuous",
                    "scheduler": {"kind": "vllm", "max_model_len": 50_000},
                }
            },
            (
                "workload.batching.scheduler.max_model_len: 50,000 tokens are more than the "
                "40,960 of qwen3-30b-a3b; write 40960 or less"
            ),
        ),
        ({"batching": {"kind": "static"}}, "write batching: {kind: continuous}"),
    ],
)
def test_what_does_not_go_together_is_one_line(more, said):
    assert said in problem(SMALL, **drawn(**more))


def test_requests_whose_lengths_are_not_the_traces_are_drawn_from_it():
    workload = {key: value for key, value in drawn().items() if key != "routing"}
    assert experiment_of(SMALL, **workload) == experiment_of(SMALL, **drawn())
    own = experiment_of(SMALL, requests=2, arrivals=workload["arrivals"])
    assert own.workload.routing.kind == "own"


def test_requests_beyond_those_of_the_trace_are_drawn():
    assert "the trace has 1" in problem(SMALL, requests=2)


@pytest.mark.parametrize("rule", ["repeat", "chain", "truncate"])
def test_what_is_done_where_rows_end(rule):
    """The trace's request has 28 rows of its prompt and 128 of its answer."""
    lengths = {"kind": "fixed", "input_len": 30, "output_len": 140}
    built = build(
        experiment_of(
            SMALL,
            **drawn(requests=1, routing={"kind": "draw", "when_short": rule}, lengths=lengths),
        )
    )
    rows = built.case.schedule.rows.tolist()
    prompt, answer = list(range(28)), list(range(28, 156))
    share = built.routing["routing_share"]
    if rule == "truncate":
        assert rows == prompt + answer
        assert share["recorded"] == 1.0
    else:
        assert rows == prompt + prompt[:2] + answer + answer[:11]
        named = "repeated" if rule == "repeat" else "borrowed"
        assert share[named] == pytest.approx(13 / 169)


def test_a_file_of_arrivals_that_is_not_there_is_named():
    said = problem(SMALL, **drawn(arrivals={"kind": "azure", "file": "none.csv"}))
    assert "workload.arrivals.file: there is no file 'none.csv'; looked in" in said


def test_what_is_said_of_routing_that_is_borrowed():
    one = experiment_of(SMALL, **drawn())
    (line,) = borrowed_routing(one, {"routing_share": {"recorded": 0.3}})
    assert "30% of the tokens" in line
    assert borrowed_routing(one, {"routing_share": {"recorded": 0.5}}) == []
    assert borrowed_routing(one, {}) == []


def test_fewer_requests_than_are_asked_for_are_told_before_a_run(tmp_path):
    """Of a file, of a trace in batches; a run has as many as are said."""
    file = tmp_path / "three.csv"
    file.write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n0,20,3\n1,9,3\n2,9,3\n")
    arrivals = {"kind": "csv", "file": str(file)}
    short, whole = (experiment_of(SMALL, **drawn(arrivals=arrivals, requests=n)) for n in (60, 3))
    told = "warning: workload.requests: 60 are asked for, and the run has 3, as many as there are"
    assert [line[: len(told)] for line in fewer_requests([short, whole, short])] == [told]
    assert told in "".join(of_inputs([short]))
    assert simulate(short).summary["requests"] == 3
    few = load_experiment({**SMALL, "workload": {"requests": 2}}).experiment
    (line,) = fewer_requests([few])
    assert "2 are asked for, and the run has 1" in line
    assert simulate(few).summary["requests"] == 1


def test_sglang_cuts_no_prompt_where_its_line_says_so():
    """``--chunked-prefill-size -1`` of SGLang; null does the same."""
    found = {}
    for size in (-1, None, 16):
        scheduler = {"kind": "sglang", "chunked_prefill_size": size}
        batching = {"kind": "continuous", "scheduler": scheduler}
        summary = simulate(experiment_of(SMALL, **drawn(batching=batching))).summary
        found[size] = (summary["steps"], summary["duration_ms"])
    assert found[-1] == found[None] != found[16]


NGRAM = {"kind": "ngram", "num_speculative_tokens": 3}


def test_served_steps_without_drafts_keep_one_token():
    drafts = {**NGRAM, "num_speculative_tokens": 0}
    summary = simulate(experiment_of(SMALL, **drawn(speculative=drafts))).summary
    assert summary["mean_acceptance_length"] == 1
    assert summary["draft_acceptance_rate"] is None
    plain = simulate(experiment_of(SMALL, **drawn())).summary
    assert summary["output_throughput"] == plain["output_throughput"]
    assert "mean_acceptance_length" not in plain


@pytest.mark.parametrize("acceptance", ["0 %", "60 %", "100 %"])
@pytest.mark.parametrize("kind", ["at_once", "poisson"])
def test_drafts_are_verified_in_steps(kind, acceptance):
    """Answers are as long as ever; each engine, and each way to know the passes, gives the same."""
    rate = {"request_rate": "100 requests/s"} if kind == "poisson" else {}
    drafts = {**NGRAM, "acceptance": acceptance}
    given = drawn(arrivals={"kind": kind, **rate}, speculative=drafts)
    summary = simulate(experiment_of(SMALL, **given), check=True).summary
    plain = simulate(experiment_of(SMALL, **drawn(arrivals={"kind": kind, **rate}))).summary
    same = ("completed", "total_input_tokens", "total_output_tokens", "tokens")
    assert [summary[key] for key in same] == [plain[key] for key in same]
    assert summary["distinct_experts_per_pass"] is not None
    if acceptance == "0 %":
        assert summary["mean_acceptance_length"] == 1
        assert kind != "at_once" or summary["steps"] == plain["steps"]
    else:
        assert 1 < summary["mean_acceptance_length"] <= 4
        assert summary["steps"] < plain["steps"]
    if acceptance == "100 %":
        assert summary["draft_acceptance_rate"] == 1


def test_acceptance_depends_on_no_schedule():
    """As many drafts are kept behind each token, whatever the batch."""
    asked = {**drawn(speculative=NGRAM, arrivals={"kind": "at_once"}), "phase": "decode"}
    found = []
    for seqs in (1, 6):
        built = build(experiment_of(SMALL, scheduler={"max_num_seqs": seqs}, **asked))
        schedule = built.case.schedule
        assert schedule.kept is not None
        order = np.lexsort((schedule.pass_of_token(), schedule.request))
        found.append([schedule.request[order], schedule.rows[order], schedule.kept[order]])
    assert [one.tolist() for one in found[0]] == [one.tolist() for one in found[1]]


def test_a_policy_that_looks_ahead_is_refused_before_the_clock_runs():
    routing = {"kind": "draw", "prompts_from": "decode"}
    ahead = {"capacity": "16 slots/layer", "policy": {"kind": "min"}}
    of = {**ANSWERS, "software": "ideal", "experts": ahead}
    ready(experiment_of(of, **drawn(routing=routing)))
    timed = drawn(routing=routing, arrivals={"kind": "poisson", "request_rate": "4 requests/s"})
    with pytest.raises(InputError, match="'min' looks ahead, but this batching reads the clock"):
        ready(experiment_of(of, **timed))
