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
from moesim.model.spread import Spread
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
    """To the nanosecond; beside others with drafts each step keeps its one token."""
    plain, none = (run(one, limit_steps=30).summary for one in (with_drafts(), ngram(0, "80 %")))
    for one in (plain, none):
        for key in ("engine_wall_s", "after_warm_up"):
            one.pop(key)
    assert none.pop("mean_acceptance_length") == 1
    assert none.pop("draft_acceptance_rate") is None
    assert none.pop("distinct_experts_per_pass") == 4  # of one request a step
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


def drafted(requests: int, tokens: int, context: int) -> list[Any]:
    """What drafting goes by, on GPUs that share attention."""
    own, few = np.array([tokens]), np.array([requests])
    return [own, own, own, few, few, few, own * context, few * context]


def priced(costs: CostModel, *asked: tuple[Any, ...]) -> int:
    """The sum of prices of these operations."""
    return sum(int(np.sum(costs.price(kind, *shape))) for kind, *shape in asked)


def test_a_draft_model_takes_what_its_layers_take() -> None:
    """The first draft runs over all nine tokens, the other two over one of each of three."""
    smaller, hardware = load_model("llama-3.1-8b"), load_hardware("rtx-4090")
    costs, own = CostModel(hardware, load_model("gpt-oss-20b")), CostModel(hardware, smaller)
    layer, ends = smaller.layers[0], [("head", 3), ("sampling", 3)]
    first = [("attention", layer, 9, 9000, 3000), ("dense", layer, 9)]
    further = [("attention", layer, 3, 3004, 3004), ("dense", layer, 3)]
    expected = 32 * (priced(own, *first) + 2 * priced(own, *further)) + 3 * priced(own, *ends)
    found = costs.price("drafting", Drafter.of_model(smaller, 3), *drafted(3, 9, 1000))
    assert found[0] == pytest.approx(expected, rel=1e-5)


def test_a_draft_model_is_held_and_keeps_keys_and_values() -> None:
    smaller = load_model("llama-3.1-8b")
    model = {"kind": "draft", "model": "llama-3.1-8b", "num_speculative_tokens": 2}
    free = {"kind": "ngram", "num_speculative_tokens": 2}
    made, looked_up = (
        build(load_experiment(with_drafts("4 slots/layer", **one)).experiment, 5)
        for one in (model, free)
    )
    weights = made.case.model.bytes - looked_up.case.model.bytes
    assert weights == smaller.bytes
    cached = [one.footprint.parts["kv_cache"] for one in (made, looked_up)]
    own = 32 * smaller.layers[0].attention.kv_bytes_per_token
    tokens = cached[1] // sum(
        one.attention.kv_bytes_per_token for one in load_model(ONE["model"]).layers
    )
    assert (cached[0] - cached[1] >= own * tokens).all()
    assert cached[1].min() > 0


def test_small_dense_cards_draft() -> None:
    """A head tied to the embedding is read as the head; the larger card takes longer."""
    asked = {"kind": "draft", "num_speculative_tokens": 2}
    small, large = (
        run(with_drafts("all", **asked, model=f"qwen3-{size}"), limit_steps=5).summary
        for size in ("0.6b", "1.7b")
    )
    told = [one["time_share"]["drafting"] * one["duration_ms"] / 5 for one in (small, large)]
    read = load_model("qwen3-0.6b").bytes * 2 / (0.9 * 1008e9) * 1e3
    assert read < told[0] < told[1]


def test_what_a_run_takes_more_is_drafting() -> None:
    model = {"kind": "draft", "model": "llama-3.1-8b", "num_speculative_tokens": 2}
    free = {"kind": "ngram", "num_speculative_tokens": 2}
    made, looked_up = (
        run(with_drafts("4 slots/layer", **one), limit_steps=5).summary for one in (model, free)
    )
    more = made["duration_ms"] - looked_up["duration_ms"]
    assert made["time_share"]["drafting"] == pytest.approx(more / made["duration_ms"])


def test_an_mtp_layer_is_one_more_layer_and_its_head() -> None:
    model, hardware = load_model("deepseek-v3"), load_hardware("h200-sxm")
    one, layer = Drafter.of_mtp(model, 1), model.moe_layers[-1]
    assert layer.moe is not None
    assert one.held_bytes == model.mtp_bytes
    costs = CostModel(hardware, model)
    rows, starts = np.ones(32, np.int64), np.array([0])
    expected = priced(
        costs, ("attention", layer, 4, 4000, 2000), ("gate", layer, 4), ("shared", layer, 4),
        ("permute", layer, 32), ("permute", layer, 32), ("experts", layer, rows, starts),
        ("joining", one.joining, 4), ("head", 2), ("sampling", 2),
    )  # fmt: skip
    found = costs.price("drafting", one, *drafted(2, 4, 1000))[0]
    assert found == pytest.approx(expected, rel=1e-5)


def test_the_product_before_an_mtp_layer_reads_its_weights() -> None:
    """Two widths to one in the checkpoint's 8 bits: their bytes, the vectors, and four starts."""
    model, hardware = load_model("deepseek-v3"), load_hardware("rtx-4090")
    joining = Drafter.of_mtp(model, 1).joining
    assert joining.size == pytest.approx(2 * model.hidden_size**2, rel=0.01)
    found = CostModel(hardware, model).price("joining", joining, np.array([1, 0]))
    moved = 9 * model.hidden_size * 2
    assert found[0] == pytest.approx((joining.size + moved) / 907.2 + 4 * 4000, rel=1e-3)
    assert found[1] == 0


@pytest.mark.parametrize("spread", [Spread(8, 8, 8), Spread(8, 8, 1, reduces=True), Spread(8)])
def test_gpus_share_what_drafts_and_meet_over_it(spread: Spread) -> None:
    """Attention and experts end with an all-reduce, or experts are exchanged there and back."""
    model, hardware = load_model("deepseek-v3"), load_hardware("h200-sxm")
    whole = Drafter.of_mtp(model, 1)
    each, costs = whole.of_each(spread), CostModel(hardware, model)
    if spread.group == 8:  # but for the product before the layer, which each has whole
        held = 8 * each.held_bytes - 7 * each.joining.held_bytes
        assert held == pytest.approx(whole.held_bytes, rel=0.01)
    parts = costs.operations["drafting"].parts(each, *drafted(2, 4, 1000))
    names = [part.name for part in parts]
    reduced = [float(part.time_ns[0]) for part in parts if part.name == "all_reduce"]
    size = 4 * model.hidden_size * 2
    if spread.group == 8:
        own = costs.price("all_reduce", 8, np.array([size, size, size]))
        assert reduced == pytest.approx(own.tolist(), abs=1)
        assert "all_to_all" not in names
        assert "gather_logits" in names
    else:
        assert (reduced, names.count("all_to_all")) == ([], 3)


def test_drafts_are_dispatched_as_the_model_dispatches() -> None:
    """Of 64 tokens of a GPU and even choices 1 - (7/8)^8 have experts on each other one: 43 rows
    in 8 bits there, as many in 16 back, and four bytes for each of its experts.
    """
    model, hardware = load_model("deepseek-v3"), load_hardware("h200-sxm")
    spread = Spread(8, once=True, dispatch_dtype="fp8_block")
    each, costs = Drafter.of_mtp(model, 1).of_each(spread), CostModel(hardware, model)
    parts = costs.operations["drafting"].parts(each, *drafted(512, 512, 1000))
    found = [float(part.time_ns[0]) for part in parts if part.name == "all_to_all"]
    others = 1 - np.eye(8, dtype=np.int64)
    sizes = [43 * (7168 + 56 * 4), 43 * 7168 * 2, 4 * 32]
    own = costs.price("all_to_all", np.array(sizes)[:, None, None] * others)
    assert found == pytest.approx(own.tolist(), abs=1)


def test_both_gpus_of_a_pair_draft_for_all_requests() -> None:
    """Neither waits for the other, and both engines say the same."""
    model = {"kind": "draft", "model": "llama-3.1-8b", "num_speculative_tokens": 2}
    asked = with_drafts("all", **model) | {"hardware": "h100-sxm"}
    pair = asked | {"parallelism": {"expert": 2, "dense": "tensor", "experts": "tensor"}}
    both, alone = (run(one, limit_steps=5).summary for one in (pair, asked))
    stepped = run(pair | {"engine": "des"}, limit_steps=5).summary
    assert (stepped["duration_ms"], stepped["time_share"]) == (
        both["duration_ms"], both["time_share"]
    )  # fmt: skip
    told = [one["time_share"]["drafting"] * one["duration_ms"] for one in (both, alone)]
    assert told[0] < told[1] < 2 * told[0]
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
