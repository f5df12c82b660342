"""Layers split over GPUs: bytes of each GPU, time of a pass, what fits and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import moesim
from moesim.config.errors import InputError
from moesim.engine.case import Case
from moesim.engine.des.run import run_des
from moesim.engine.outcome import Outcome
from moesim.engine.replay.run import run_replay
from moesim.experiment.building.build import build
from moesim.experiment.building.built import Built
from moesim.experiment.questions.fit import largest_fit, slots_by_context
from moesim.experiment.schema.experiment import Experiment
from moesim.experiment.schema.layout import undivided_layers
from moesim.hardware import CostModel
from moesim.model import load_model
from moesim.report.drawing.sheet import drawn
from moesim.report.figures.time_breakdown import TimeBreakdown
from moesim.trace.parquet import load_trace
from moesim.trace.routing import Phase

LAYER, EXPERT, EMBEDDING, OTHER = 3_360_000, 98_304, 131_072, 512  # bytes of small-moe
MACHINE = {"gpu": "rtx-3090", "host": "ddr4-3200-2ch-64gb"}


def small(stages: int, passes: int | None = 20, **more: Any) -> Built:
    source = {
        "model": "small-moe",
        "hardware": MACHINE,
        "trace": "small-moe",
        "workload": {"phase": "decode", "requests": 2},
        "parallelism": {"pipeline": stages},
        **more,
    }
    return build(moesim.load_experiment(source).experiment, passes)


def large(stages: int, **more: Any) -> Experiment:
    source = {
        "model": "gpt-oss-20b",
        "hardware": MACHINE,
        "trace": "traces/quickstart.parquet",
        "workload": {"requests": 1},
        "parallelism": {"pipeline": stages},
        **more,
    }
    return moesim.load_experiment(source).experiment


@pytest.mark.parametrize(
    ("count", "layers", "weights"),
    [
        (2, [(0, 3), (4, 7)], [4 * LAYER + EMBEDDING, 4 * LAYER + EMBEDDING + OTHER]),
        (
            3,
            [(0, 2), (3, 5), (6, 7)],
            [3 * LAYER + EMBEDDING, 3 * LAYER, 2 * LAYER + EMBEDDING + OTHER],
        ),
    ],
)
def test_each_gpu_holds_its_own_layers(
    count: int, layers: list[tuple[int, int]], weights: list[int]
) -> None:
    """Also the embedding on the first, and on the last a copy of it as the tied head; 512 bytes a
    layer of every cached token.
    """
    whole, parts = small(1), small(count)
    assert [share.layers for share in parts.case.shares] == layers
    assert parts.footprint.parts["weights"][0].tolist() == weights
    tokens = whole.footprint.parts["kv_cache"][:, 0] // (8 * 512)
    held = np.array([last + 1 - first for first, last in layers])
    assert parts.footprint.parts["kv_cache"].tolist() == (tokens[:, None] * 512 * held).tolist()
    rows = parts.stages
    assert [(row["first_layer"], row["last_layer"]) for row in rows] == layers
    assert [row["peak_memory_bytes"] for row in rows] == parts.footprint.total.max(axis=0).tolist()


def test_logits_are_on_the_last_gpu_alone() -> None:
    """A token's logits are larger than its rows in the experts: 4 hidden rows and 201,088 values of
    4 bytes there, on the first the experts' moment.
    """
    parts = build(large(2), 3)
    live = parts.footprint.parts["activations"][0].tolist()
    row = 2880 * 2
    assert live[1] == 4 * row + 201_088 * 4
    assert live[0] == 4 * row + 4 * row + 4 * 2 * 2880 * 2  # hidden, outputs, inside of 4 experts


def test_slots_are_those_of_each_gpus_own_layers() -> None:
    """8 MiB divided over 4, 4 layers, or 3, 3 and 2: 21 and 21; 28, 28 and 32, all that it has."""
    parts = small(2, experts={"capacity": "8 MiB", "miss": {"kind": "cpu"}})
    assert parts.slots_per_layer == [21, 21]
    assert parts.footprint.parts["expert_slots"][0].tolist() == [4 * 21 * EXPERT] * 2
    assert parts.footprint.host == 8 * 32 * EXPERT
    parts = small(3, experts={"capacity": "8 MiB", "miss": {"kind": "cpu"}})
    assert parts.case.slots.tolist() == [[28] * 6 + [32] * 2]
    assert parts.slots_by_layer is None
    assert [row["slots_per_layer"] for row in parts.stages] == [28, 28, 32]
    assert parts.footprint.host == 6 * 32 * EXPERT
    assert parts.footprint.parts["expert_slots"][0].tolist() == [3 * 28 * EXPERT] * 2 + [0]


def test_auto_takes_what_is_left_of_each_gpu() -> None:
    parts = build(large(3, experts={"capacity": "auto"}, hardware="rtx-4060-8gb"), 3)
    held, limit = parts.footprint.total.max(axis=0), parts.limit_bytes
    for share, bytes_held, slots in zip(
        parts.case.shares, held, parts.slots_per_layer, strict=True
    ):
        each = sum(layer.moe.expert.bytes for layer in share.model.moe_layers if layer.moe)
        assert bytes_held <= limit
        assert slots == 32 or bytes_held + each > limit
    assert build(
        large(1, experts={"capacity": "auto"}, hardware="rtx-4060-8gb"), 3
    ).slots_per_layer[0] < min(parts.slots_per_layer)


def charged(outcome: Outcome, name: str) -> int:
    return int(outcome.charges[..., outcome.categories.index(name)].sum())


PLAYED: list[dict[str, Any]] = [
    {"capacity": "all"},
    {"capacity": "8 slots/layer"},
    {"capacity": "8 slots/layer", "miss": {"kind": "cpu"}, "initial": "most_used"},
    {"on_cpu": {"layers": 5}},
]


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("experts", PLAYED)
def test_time_is_that_of_one_gpu_and_the_handoffs(experts: dict[str, Any], count: int) -> None:
    """With the memory of ``count`` GPUs, whatever is offloaded; the same in both engines."""
    big = {"gpu": {"base": "rtx-3090", "memory": "96 GiB"}, "host": "ddr4-3200-2ch-64gb"}
    workload = {"requests": 2, "phase": "all", "prefill": {"chunk": 16}}
    one = build(large(1, experts=experts, hardware=big, workload=workload), 12).case
    several = build(large(count, experts=experts, workload=workload), 12).case
    alone = run_replay(one)
    for played in (run_replay(several), run_des(several, records="expert", check=True)):
        handed = charged(played, "send_recv")
        assert played.duration_ns == alone.duration_ns + handed
        assert handed == (count - 1) * passes_ns(several)
        assert np.array_equal(played.counts.activations, alone.counts.activations)
        assert np.array_equal(played.counts.missed, alone.counts.missed)


@pytest.mark.parametrize("way", ["cache", "bypass", "stream"])
def test_prompts_and_their_staging_buffers(way: str) -> None:
    """Prompts of 16 tokens at once; two buffers, of an expert or of a whole layer, on each GPU."""
    more: dict[str, Any] = {
        "workload": {"phase": "all", "requests": 2, "prefill": {"chunk": 16, "experts": way}},
        "experts": {"capacity": "8 slots/layer"},
    }
    one, several = small(1, None, **more), small(3, None, **more)
    assert (several.case.schedule.phase == Phase.PREFILL).any()
    alone, played = run_replay(one.case), run_des(several.case, records="expert", check=True)
    assert played.duration_ns == alone.duration_ns + charged(played, "send_recv")
    buffers = {"cache": 0, "bypass": 2, "stream": 2 * 32}[way]
    held = [(8 * layers + buffers) * EXPERT for layers in (3, 3, 2)]
    several.footprint.in_flight(played.largest_copy(several.case))
    parts = several.footprint.parts
    assert (parts["expert_slots"] + parts["copies_in_flight"]).tolist() == [held] * len(played.ends)
    assert set(np.unique(parts["copies_in_flight"]).tolist()) <= {0, EXPERT}
    assert parts["copies_in_flight"].any(axis=0).all()


def test_the_handoffs_are_a_bar_of_the_time(tmp_path: Path) -> None:
    moesim.run(large(3), out=tmp_path / "run", limit_steps=20)
    made = TimeBreakdown().prepare(tmp_path / "run")
    with drawn(TimeBreakdown(), made) as sheet:
        names = sheet.axes[0].get_legend_handles_labels()[1]
    assert "send recv" in names
    assert made["send_recv_share"][0] > 0


def passes_ns(case: Case) -> int:
    """Of one handoff in every pass: 40 us, and 5760 bytes a token at 26.2 GB/s."""
    tokens = np.diff(case.schedule.offsets).tolist()
    return sum(40_000 + -(-count * 5760 * 10 // 262) for count in tokens)


def test_a_handoff_by_hand() -> None:
    costs = CostModel(build(large(2), 1).hardware, load_model("gpt-oss-20b"))
    assert costs.price("send_recv", 2, np.array([0, 5760, 2 * 5760])).tolist() == [
        0,
        40_220,
        40_440,
    ]
    assert costs.price("send_recv", 4, 5760).tolist() == 3 * 40_000 + 660  # 659.54, rounded up once
    assert costs.price("send_recv", 1, 5760).tolist() == 0


def test_a_run_says_what_each_gpu_holds() -> None:
    found = moesim.run(large(2), limit_steps=30)
    rows = found.summary["stages"]
    assert max(row["peak_memory_bytes"] for row in rows) == found.summary["peak_memory_bytes"]
    assert found.summary["time_share"]["send_recv"] > 0
    assert sum(found.summary["time_share"].values()) == pytest.approx(1)
    memory = found.memory
    assert memory is not None
    parts = memory[list(found.summary["memory_bytes"])].sum(axis=1)
    assert parts.max() == found.summary["peak_memory_bytes"]
    alone = moesim.run(large(1), limit_steps=30)
    assert "stages" not in alone.summary
    assert "send_recv" not in alone.summary["time_share"]


def test_what_does_not_fit_names_the_gpu_and_its_layers() -> None:
    found = moesim.run(large(2, hardware={"gpu": "rtx-3070", "host": "ddr4-3200-2ch-64gb"}))
    assert found.summary["status"] == "ok"
    tight = {"gpu": {"base": "rtx-3070", "memory": "6 GiB"}, "host": "ddr4-3200-2ch-64gb"}
    found = moesim.run(large(2, hardware=tight))
    assert found.summary["status"] == "out_of_memory"
    assert "GPU 1 of 2 (layers 12 to 23) needs" in found.summary["reason"]


def test_what_does_not_fit_names_the_request_that_is_longest_there() -> None:
    """A step's number alone says nothing of whose keys and values are too many."""
    small = "{base: rtx-4060-8gb, gpu: {memory: 522 MiB, context_reserve: 500 MiB}}"
    found = moesim.run({
        "model": "small-moe", "hardware": small, "trace": "traces/small-moe.parquet",
        "experts": {"capacity": "26 slots/layer"},
        "workload": {"requests": 3, "phase": "decode", "batching": {"kind": "static"}},
    })  # fmt: skip
    said = re.search(r"at step \d+ of \d+ \(1 request, request (\d+) at its token (\d+)\)",
                     found.summary["reason"])  # fmt: skip
    assert said, found.summary["reason"]
    trace = load_trace(Path("traces/small-moe.parquet"))
    last = {one: int(trace.position[trace.request_id == one].max()) + 1
            for one in np.unique(trace.request_id)[:3].tolist()}  # fmt: skip
    assert last[int(said[1])] == int(said[2]) == max(last.values())


def test_fit_counts_by_gpu() -> None:
    """Half the layers a GPU: half the cache a request, and far fewer layers on the CPU."""
    one, two = (largest_fit(large(n, hardware="rtx-4060-8gb"), [4096], [1]) for n in (1, 2))
    assert not one["fits"]
    assert two["fits"]
    assert largest_fit(large(2, hardware="rtx-4060-8gb"))["largest_batch"] > 100
    (row,) = two["slots_by_context"]
    assert (row["slots_per_layer"], row["cpu_layers"]) == (32, 0)
    assert one["slots_by_context"][0]["cpu_layers"] > 10
    rows = {row["batch"]: row for row in two["memory_by_batch"]}
    assert rows[2]["kv_cache_bytes"] == 2 * rows[1]["kv_cache_bytes"]


def test_the_layers_on_the_cpu_are_those_of_a_run() -> None:
    """The least number that fits runs with the layers divided anew; one fewer does not."""
    tight = {"gpu": {"base": "rtx-3070", "memory": "6 GiB"}, "host": "ddr4-3200-2ch-64gb"}
    experiment = large(2, hardware=tight)
    built = build(experiment)
    context = int(built.case.trace.position[built.case.schedule.rows].max()) + 1
    (row,) = slots_by_context(built, [context], [1])
    least = row["cpu_layers"]
    assert least is not None
    assert 0 < least < 10
    for layers, fits in ((least - 1, False), (least, True)):
        run = build(large(2, hardware=tight, experts={"on_cpu": {"layers": layers}}))
        assert (run.out_of_memory is None) is fits


def test_slots_by_layer_share_out_each_gpus_own_slots() -> None:
    experts = {"capacity": "8 slots/layer", "slots": {"kind": "by_layer"}}
    parts = small(3, None, experts=experts)
    assert parts.slots_by_layer is not None
    assert [sum(slots) for slots in parts.slots_by_layer] == [24, 24, 16]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"parallelism": {"pipeline": 2, "expert": 2}}, "do not go together with expert: 2 yet"),
        (
            {"parallelism": {"pipeline": 2, "dense": "tensor"}},
            "with dense: tensor yet; write dense",
        ),
        ({"parallelism": {"pipeline": 9}}, "8 GPUs at most; write 8 or less"),
        (
            {"parallelism": {"pipeline": 9}, "hardware": "dgx-h200"},
            "'dgx-h200' has 8 GPUs at most; write 8 or less",
        ),
        (
            {"host_layers": 3, "workload": {"phase": "decode"}},
            "of one GPU yet; write pipeline: 1, or experts.on_cpu",
        ),
        (
            {"experts": {"policy": {"kind": "lru", "scope": "global"}}},
            "pipeline: 2 has on several GPUs; write scope: layer",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(more: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as error:
        large(2, **more)
    (problem,) = error.value.problems
    assert words in problem.what


def test_layers_that_cannot_be_divided_are_refused() -> None:
    model = load_model("small-moe")
    assert undivided_layers(model, 8) is None
    what = "9 stages for the 8 layers of small-moe; write 8 or less"
    assert undivided_layers(model, 9) == what
    encodes = undivided_layers(load_model("switch-base-128"), 2)
    assert encodes is not None
    assert encodes.startswith("switch-base-128 has an encoder")
