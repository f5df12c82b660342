"""Drafts that decode steps verify: by hand, laws, and what it is refused with."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moesim.config.errors import InputError
from moesim.experiment.building.build import build
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.running.run import run
from moesim.hardware import CostModel, load_hardware
from moesim.model import load_model
from moesim.model.drafting import Drafter
from moesim.trace import read_trace, write_trace
from moesim.workload.batching.static import Static
from moesim.workload.requests import Requests
from moesim.workload.schedule import AttentionSums, Schedule, requests_of_steps
from moesim.workload.speculation import Ngram, Tree, speculated

ONE: dict[str, Any] = {
    "model": "gpt-oss-20b",
    "hardware": "rtx-4090",
    "trace": "traces/quickstart.parquet",
    "workload": {"requests": 1},
    "records": "summary",
}
TRACE = read_trace(Path(__file__).parents[3] / "traces" / "quickstart.parquet")


def with_drafts(capacity: str = "all", **speculative: Any) -> dict[str, Any]:
    workload = ONE["workload"] | ({"speculative": speculative} if speculative else {})
    return ONE | {"workload": workload, "experts": {"capacity": capacity}}


def ngram(drafts: int, acceptance: Any, capacity: str = "all") -> dict[str, Any]:
    chosen = {"kind": "ngram", "num_speculative_tokens": drafts, "acceptance": acceptance}
    return with_drafts(capacity, **chosen)


def ngrams(drafts: int, acceptance: Any) -> Ngram:
    return Ngram(num_speculative_tokens=drafts, acceptance=acceptance)


def steps_of(requests: Requests, request: int) -> list[list[tuple[int, bool]]]:
    """By step, the rows of ``request`` from its first on, and whether each is kept."""
    assert requests.kept is not None
    mine = (requests.request == request) & (requests.decode_index >= 0)
    rows, kept, step = (x[mine] for x in (requests.rows, requests.kept, requests.decode_index))
    begin = rows.min()
    return [
        list(zip((rows[step == s] - begin).tolist(), kept[step == s].tolist(), strict=True))
        for s in range(int(step.max()) + 1)
    ]


def test_steps_by_hand() -> None:
    """All or none right: steps of three rows, the last as long as what is left."""
    plain = Requests.of(TRACE, "decode", 1)
    few = replace(plain, rows=plain.rows[:5], request=plain.request[:5],
                  decode_index=plain.decode_index[:5], decode_tokens=np.array([5]))  # fmt: skip
    every = ngrams(2, "100 %")
    none = ngrams(2, "0 %")
    found = speculated(few, TRACE, every, 0)
    assert steps_of(found, 0) == [[(0, True), (1, True), (2, True)], [(3, True), (4, True)]]
    assert found.decode_tokens.tolist() == [2]
    found = speculated(few, TRACE, none, 0)
    assert [[row for row, _ in one] for one in steps_of(found, 0)] == [
        [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4], [4]
    ]  # fmt: skip
    assert [sum(kept for _, kept in one) for one in steps_of(found, 0)] == [1] * 5


def test_attention_reads_a_cache_once_a_step() -> None:
    requests = speculated(
        Requests.of(TRACE, "decode", 2), TRACE, Ngram(num_speculative_tokens=3), 0
    )
    schedule = Schedule.of(requests, Static(batch_size=2).seats(requests), TRACE, 1)
    for window in (None, 4):
        sums = AttentionSums.of(schedule, TRACE, 1, window)
        rows = schedule.rows[: schedule.offsets[1]]
        last = TRACE.position[[rows[3], rows[7]]] + 1
        read = last if window is None else np.minimum(last, window + 3)
        assert int(sums.kv_tokens[0, 0]) == int(read.sum())
        assert int(sums.tokens[0, 0]) == 8
    assert requests_of_steps(schedule, 1)[:, 0].max() == 2


def test_no_drafts_are_no_speculation() -> None:
    """To the nanosecond, and without a number more."""
    plain, none = (run(one, limit_steps=30).summary for one in (with_drafts(), ngram(0, "80 %")))
    for one in (plain, none):
        one.pop("engine_wall_s")
    assert none == plain


@pytest.mark.parametrize("capacity", ["all", "8 slots/layer"])
def test_drafts_that_are_never_right_only_cost(capacity: str) -> None:
    plain, wrong = (run(one).summary for one in (with_drafts(capacity), ngram(3, "0 %", capacity)))
    assert (wrong["tokens"], wrong["steps"]) == (plain["tokens"], plain["steps"])
    assert wrong["output_throughput"] < plain["output_throughput"]
    assert wrong["mean_acceptance_length"] == 1
    assert wrong["draft_acceptance_rate"] == 0
    assert wrong["distinct_experts_per_pass"] <= 4 * 4


def test_slices_of_an_expert_are_one_expert() -> None:
    """On each of two GPUs half of every expert runs."""
    whole = ngram(3, "80 %")
    sliced = whole | {"hardware": "h100-sxm", "parallelism": {"expert": 2, "experts": "tensor"}}
    one, two = (run(each).summary for each in (whole | {"hardware": "h100-sxm"}, sliced))
    assert one["distinct_experts_per_pass"] == pytest.approx(two["distinct_experts_per_pass"])


def test_tokens_that_share_their_experts_are_as_many_times_as_fast(tmp_path: Path) -> None:
    """All resident, all right and no expert more: a step reads what one token reads."""
    same = np.broadcast_to(TRACE.expert_ids[:1], TRACE.expert_ids.shape).copy()
    path = tmp_path / "same.parquet"
    write_trace(replace(TRACE, expert_ids=same), path)
    plain, right = (
        run(one | {"trace": str(path)}).summary for one in (with_drafts(), ngram(3, "100 %"))
    )
    gain = right["output_throughput"] / plain["output_throughput"]
    assert 3.6 < gain <= 4.0001
    assert right["mean_acceptance_length"] == pytest.approx(4, rel=0.01)
    assert right["distinct_experts_per_pass"] == 4


def test_acceptance_is_what_it_was_asked_to_be() -> None:
    """1 + p + p^2 + p^3 tokens a step, and the same luck for fewer drafts."""
    requests = Requests.of(TRACE, "decode")
    three = speculated(requests, TRACE, ngrams(3, "70 %"), 0)
    length = int(requests.decode_tokens.sum()) / int(three.decode_tokens.sum())
    assert length == pytest.approx(1 + 0.7 + 0.49 + 0.343, rel=0.03)
    falling = ngrams(3, ("70 %", "0 %"))
    one = speculated(requests, TRACE, ngrams(1, "70 %"), 0)
    first = speculated(requests, TRACE, falling, 0)
    assert first.decode_tokens.tolist() == one.decode_tokens.tolist()


def test_a_tree_verifies_more_and_keeps_as_many() -> None:
    requests = Requests.of(TRACE, "decode", 2)
    line = speculated(requests, TRACE, Ngram(num_speculative_tokens=2), 0)
    tree = speculated(requests, TRACE, Tree(num_speculative_tokens=2, width=3), 0)
    assert tree.decode_tokens.tolist() == line.decode_tokens.tolist()
    first = [np.count_nonzero((x.request == 0) & (x.decode_index == 0)) for x in (line, tree)]
    assert first == [3, 7]


def test_a_draft_model_is_read_once_a_draft() -> None:
    """8 GB less a table of 1 GB at 90 % of 1008 GB/s, twice, and the starts of its kernels."""
    smaller, hardware = load_model("llama-3.1-8b"), load_hardware("rtx-4090")
    drafter = Drafter.of_model(smaller, 2)
    costs = CostModel(hardware, load_model("gpt-oss-20b"))
    read = 2 * (smaller.bytes - smaller.embedding_bytes) / (0.9 * 1008e9) * 1e9
    starts = 2 * (8 * 32 + 3) * 4000
    assert costs.price("drafting", drafter, [0, 1, 5]).tolist() == [0, *[round(read + starts)] * 2]
    model = {"kind": "draft", "model": "llama-3.1-8b", "num_speculative_tokens": 2}
    free = {"kind": "ngram", "num_speculative_tokens": 2}
    drafted, looked_up = (
        run(with_drafts("4 slots/layer", **one), limit_steps=5).summary for one in (model, free)
    )
    more = drafted["duration_ms"] - looked_up["duration_ms"]
    assert more == pytest.approx(5 * (read + starts) / 1e6)
    held = drafted["peak_memory_bytes"] - looked_up["peak_memory_bytes"]
    assert held == smaller.bytes
    assert drafted["time_share"]["drafting"] == pytest.approx(more / drafted["duration_ms"])


def test_an_mtp_layer_reads_its_experts_and_the_head() -> None:
    model = load_model("deepseek-v3")
    one, moe = Drafter.of_mtp(model, 1), model.moe_layers[-1].moe
    assert moe is not None
    assert one.held_bytes == model.mtp_bytes
    assert one.fixed_bytes > model.head_matrix_bytes() > 0
    costs = CostModel(load_hardware("h200-sxm"), model)
    alone, together, all_of_them = costs.price("drafting", one, [1, 2, 1000]).tolist()
    assert together - alone == pytest.approx(8 * moe.expert.bytes / (0.9 * 4800), rel=1e-3)
    assert all_of_them - alone == pytest.approx((together - alone) * 31, rel=0.01)


@pytest.mark.parametrize(("slices", "ranks"), [(8, 1), (1, 8)])
def test_gpus_share_what_drafts(slices: int, ranks: int) -> None:
    """Eight hold an MTP layer once together, and each reads an eighth of what one would."""
    whole = Drafter.of_mtp(load_model("deepseek-v3"), 1)
    each = whole.of_each(8, slices, ranks)
    assert 8 * each.held_bytes == pytest.approx(whole.held_bytes, rel=1e-6)
    assert 8 * each.fixed_bytes == pytest.approx(whole.fixed_bytes, rel=1e-6)
    costs = CostModel(load_hardware("h200-sxm"), load_model("deepseek-v3"))
    starts = costs.price("drafting", whole, [0, 1])[1] - whole.fixed_bytes / (0.9 * 4800)
    starts -= 8 * whole.expert_bytes / (0.9 * 4800)
    for requests in (1, 4, 1000):
        one, shared = (int(costs.price("drafting", by, [requests])[0]) for by in (whole, each))
        assert shared - starts == pytest.approx((one - starts) / 8, rel=1e-3)


def test_both_gpus_of_a_pair_read_half_of_a_draft_model() -> None:
    """Both draft for all requests, whichever has them: neither waits for the other."""
    model = {"kind": "draft", "model": "llama-3.1-8b", "num_speculative_tokens": 2}
    asked = with_drafts("all", **model) | {"hardware": "h100-sxm"}
    pair = asked | {"parallelism": {"expert": 2, "dense": "tensor", "experts": "tensor"}}
    both, alone = (run(one, limit_steps=5).summary for one in (pair, asked))
    stepped = run(pair | {"engine": "des"}, limit_steps=5).summary
    assert (stepped["duration_ms"], stepped["time_share"]) == (
        both["duration_ms"], both["time_share"]
    )  # fmt: skip
    told = [one["time_share"]["drafting"] * one["duration_ms"] / 5 for one in (both, alone)]
    drafter = replace(Drafter.of_model(load_model("llama-3.1-8b"), 2), fixed_bytes=0)
    starts = CostModel(load_hardware("h100-sxm"), load_model("gpt-oss-20b")).price(
        "drafting", drafter, [1]
    )[0]
    assert told[0] - starts / 1e6 == pytest.approx((told[1] - starts / 1e6) / 2, rel=1e-3)
    assert both["time_share"]["waiting_for_gpus"] < 0.01


@pytest.mark.parametrize(
    ("workload", "what"),
    [
        ({"speculative": {"kind": "mtp"}}, "gpt-oss-20b has no MTP layer"),
        ({"speculative": {"kind": "draft", "model": "olmoe-1b-7b"}}, "name a dense model"),
        (
            {"speculative": {"kind": "draft", "model": "no-such"}},
            "workload.speculative.model: model 'no-such'",
        ),
        ({"speculative": {"kind": "ngram"}, "phase": "prefill"}, "leave it out"),
        ({"speculative": {"kind": "ngram", "acceptance": ["9 %", "x"]}}, "'x' is not a share"),
        ({"speculative": {"kind": "lookup"}}, "ngram"),
    ],
)
def test_mistakes(workload: dict[str, Any], what: str) -> None:
    with pytest.raises(InputError, match=what) as error:
        run(ONE | {"workload": workload})
    assert len(error.value.problems) == 1


@pytest.mark.parametrize(
    ("acceptance", "message"),
    [
        ("180 %", "workload.speculative.acceptance: '180 %' is more than 100 %"),
        (["50 %", "190 %"], "workload.speculative.acceptance: '190 %' is more than 100 %"),
        ([], "workload.speculative.acceptance: the list is empty"),
    ],
)
def test_a_wrong_acceptance_is_one_error(acceptance: object, message: str) -> None:
    speculative = {"kind": "ngram", "acceptance": acceptance}
    given = {"model": "gpt-oss-20b", "hardware": "rtx-4090"}
    with pytest.raises(InputError) as error:
        load_experiment({**given, "workload": {"speculative": speculative}})
    assert len(error.value.problems) == 1
    assert re.search(message, str(error.value))


def served_with(rejected: str, acceptance: str) -> Schedule:
    chosen = {"kind": "ngram", "num_speculative_tokens": 2, "acceptance": acceptance}
    source = ONE | {
        "workload": {
            "requests": 6,
            "lengths": {"kind": "fixed", "input_len": 20, "output_len": 12},
            "arrivals": {"kind": "at_once"},
            "routing": {"kind": "draw", "prompts_from": "decode"},
            "batching": {"kind": "continuous", "scheduler": {"kind": "vllm"}},
            "speculative": chosen | {"rejected": rejected},
        }
    }
    return build(load_experiment(source).experiment).case.schedule


def test_rejected_drafts_of_requests_that_are_served_may_need_the_experts_of_other_tokens() -> None:
    """Those of another token of their answer each; what is kept has its own rows."""
    own, other = served_with("continuation", "0 %"), served_with("other", "0 %")
    assert own.kept is not None
    assert own.served is not None
    gone = ~own.kept
    assert np.array_equal(own.routing_rows[~gone], other.routing_rows[~gone])
    assert (own.routing_rows[gone] != other.routing_rows[gone]).all()
    assert gone.sum() > 60
    for request in range(6):
        mine = other.request == request
        answer = own.routing_rows[mine & own.kept & own.served.decodes]
        assert np.isin(other.routing_rows[mine & gone], answer).all()
        assert len(np.unique(other.routing_rows[mine & gone])) > 4
    right, as_right = (served_with(one, "100 %").routing_rows for one in ("continuation", "other"))
    assert np.array_equal(right, as_right)
