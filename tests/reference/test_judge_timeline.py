"""Two complete timelines, every nanosecond worked by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from .judge import judge
from .judge_words import DECODE, Config, Kernels, Layer, Model, Software, Span, Trace


@dataclass(frozen=True)
class HandPrices:
    """Prices that are easy to add up."""

    cpu_start: int = 150

    def attention_ns(self, layer: Any, tokens: int, context_tokens: int, kv_tokens: int) -> int:
        return 100 + context_tokens

    def dense_ns(self, layer: Any, tokens: int) -> int:
        return 50

    def gate_ns(self, layer: Any, tokens: int) -> int:
        return 10 * tokens

    def permute_ns(self, layer: Any, rows: int) -> int:
        return rows

    def shared_ns(self, layer: Any, tokens: int) -> int:
        return 5

    def experts_ns(self, layer: Any, rows: list[int]) -> int:
        return 20 + 30 * len(rows) + 2 * sum(rows)

    def cpu_expert_ns(self, layer: Any, rows: int) -> int:
        return self.cpu_start + 10 * rows

    def head_ns(self, tokens: int) -> int:
        return 40

    def masks_ns(self, layer: Any, tokens: int, experts: int, capacity: int) -> int:
        return 60

    def combine_product_ns(self, layer: Any, tokens: int, experts: int, capacity: int) -> int:
        return 70

    def decide_ns(self) -> int:
        return 9

    def copy_ns(self, size: int, direction: str, pinned: bool = True, copies: int = 1) -> int:
        return 50 * copies + size if direction == "h2d" else 7

    def all_to_all_ns(self, matrix: list[list[int]]) -> int:
        """What GPU s sends counts s + 1 times."""
        pairs = [(s, r) for s in range(len(matrix)) for r in range(len(matrix)) if s != r]
        return 30 + sum((s + 1) * matrix[s][r] for s, r in pairs)


def decode(requests: list[list[list[int]]], first: list[int]) -> Trace:
    """One MoE layer: requests[r][n] are the experts of its n-th token, from position first[r]."""
    trace: Trace = {"expert_ids": [], "request_id": [], "position": [], "phase": []}
    for number, tokens in enumerate(requests):
        for n, ids in enumerate(tokens):
            trace["expert_ids"].append([ids])
            trace["request_id"].append(number)
            trace["position"].append(first[number] + n)
            trace["phase"].append(DECODE)
    return trace


SOFTWARE = Software(
    kernels=Kernels(1, 1, 1, 1, 1, 1),
    launch_ns=2,
    host_per_layer_ns=4,
    host_per_copy_ns=5,
    synchronisation_ns=3,
)


def test_one_gpu() -> None:
    """Two requests, two steps, 3 experts in 2 slots; the host decides (offloaded and uneven)."""
    trace = decode([[[0, 1], [1, 2]], [[1, 2], [1, 2]]], first=[10, 20])
    model = Model([Layer(0, moe=True)], 3, 2, 10, 2, expert_bytes=100)
    config = Config(batch_size=2, slots=2, policy="lru", software=SOFTWARE)
    verdict = judge(trace, model, config, HandPrices())
    # Step 0. N = {0, 1, 2}, rows 1, 2, 1. Waves [0, 1] and [2]: 2 takes 0's slot (lru, rule b).
    #   attention 100 + (11 + 21) = 132;                       t = 132, host = 2 + 4 = 6
    #   gate 10 x 2 + permute 4 = 24;                          t = 156, host = 8
    #   shared 5, until 161; counts known at 156 + (7 + 3) = 166: host +5 after the shared expert
    #   copies of 50 + 100 = 150, issued 171, 176, 181: expert 0 171-321, expert 1 321-471
    #   wave [0, 1] from 471 (stall 471 - 166 = 305), 20 + 60 + 6 = 86, until 557
    #   expert 2 waits for that wave: 557-707 (stall 150); wave [2] 20 + 30 + 2 = 52, until 759
    #   restore 4: 763; head 40: 803. host = 166 + 3 x 5 + 2 x 2 + 2 + 2 = 189 < 803
    # Step 1. Both hit, rows 2, 2.
    #   attention 100 + (12 + 22): 937; gate 24: 961; shared until 966; known 971
    #   wave [1, 2] 20 + 60 + 8 = 88: 1059; restore 4: 1063; head 40: 1103
    assert [(s["start_ns"], s["end_ns"]) for s in verdict.steps] == [(0, 803), (803, 1103)]
    assert verdict.spans == [
        Span(0, 0, 0, "copy_in", (0,), 171, 321),
        Span(0, 0, 0, "copy_in", (1,), 321, 471),
        Span(0, 0, 0, "compute", (0, 1), 471, 557),
        Span(0, 0, 0, "copy_in", (2,), 557, 707),
        Span(0, 0, 0, "compute", (2,), 707, 759),
        Span(1, 0, 0, "compute", (1, 2), 971, 1059),
    ]
    assert verdict.time_ns == {
        "attention": 132 + 40 + 134 + 40,
        "gate": 24 + 24,
        "dispatch_combine": 4 + 4,
        "experts": 5 + 86 + 52 + 5 + 88,
        "host": 5 + 5,
        "waiting_for_weights": 305 + 150,
        "waiting_for_gpus": 0,
        "waiting_for_cpu": 0,
        "idle": 0,
    }
    assert (verdict.hits, verdict.misses, verdict.bytes_h2d) == (2, 3, 300)
    assert (verdict.accesses, verdict.access_hits) == (8, 4)
    assert [r["tpot_ns"] for r in verdict.requests] == [Fraction(300), Fraction(300)]
    assert verdict.output_throughput == Fraction(4 * 10**9, 1103)


def test_two_gpus() -> None:
    """A dense layer (window 3), then 4 experts on 2 GPUs, 1 slot each; slow, blocking host."""
    trace = decode([[[0, 2]], [[2, 3]]], first=[4, 9])
    layers = [Layer(0, moe=False, window=3), Layer(1, moe=True)]
    model = Model(layers, 4, 2, 10, 2, expert_bytes=100)
    software = replace(SOFTWARE, launch_ns=200, blocking=True, copies_per_expert=2)
    config = Config(batch_size=2, gpus=2, slots=1, kernels="serial", software=software)
    verdict = judge(trace, model, config, HandPrices())
    # Dense layer: 100 + 3 + 50 = 153 on both; host = 200 + 4 = 204.
    # attention: GPU 0 100 + 5: 258, GPU 1 100 + 10: 263; host 408
    # gate 10 + permute 2: 270 and 275; host 608; shared until 275 and 280
    # count exchange from 275 (GPU 0's shared expert fills its wait): 30 + 8 + 2 x 8 = 54: 329
    # the host has launched at 608 only: host 279; counts over at 618: host 10
    # dispatch: GPU 0 sends 1 row (expert 2) of 20 bytes, GPU 1 none: 618 + 30 + 20 = 668
    # copies of 2 x 50 + 100 = 200; the host needs 2 x 5 = 10 for each:
    #   GPU 0: expert 0 628-828 (stall 160); 20 + 30 + 2 = 52: 880
    #   GPU 1: expert 2 628-828 (stall 160); 20 + 30 + 4 = 54: 882
    #          expert 3 over 2 (b), issued 838, waits until 882: -1082 (stall 200); 52: 1134
    # host: GPU 0 828 + 200 + 200 = 1228; GPU 1 1082 + 2 x 200 + 200 = 1682
    # combine from 1134 (GPU 0 waits 254): GPU 1 sends 20 bytes, 30 + 2 x 20 = 70: 1204
    # restore 2: 1206; head 40: 1246; the host is at 1428 and 1882
    (step,) = verdict.steps
    assert (step["start_ns"], step["end_ns"]) == (0, 1882)
    assert verdict.spans == [
        Span(0, 0, 0, "copy_in", (0,), 628, 828),
        Span(0, 0, 0, "compute", (0,), 828, 880),
        Span(0, 0, 1, "copy_in", (2,), 628, 828),
        Span(0, 0, 1, "compute", (2,), 828, 882),
        Span(0, 0, 1, "copy_in", (3,), 882, 1082),
        Span(0, 0, 1, "compute", (3,), 1082, 1134),
    ]
    assert verdict.time_ns == {
        "attention": (153 + 105 + 40) + (153 + 110 + 40),
        "gate": 12 + 12,
        "dispatch_combine": (54 + 50 + 70 + 2) + (49 + 50 + 70 + 2),
        "experts": (5 + 52) + (5 + 54 + 52),
        "host": (279 + 10 + 182) + (279 + 10 + 636),
        "waiting_for_weights": 160 + 360,
        "waiting_for_gpus": 254,
        "waiting_for_cpu": 0,
        "idle": 1882 - 1428,
    }
    assert [(r["gpu"], r["start_ns"], r["end_ns"], r["stall_ns"]) for r in verdict.layers] == [
        (0, 153, 1206, 160),
        (1, 153, 1206, 360),
    ]
    # Rows: GPU 0 runs 1, GPU 1 runs 2 + 1: mean 2 over largest 3.
    assert verdict.balancedness == Fraction(2, 3)
    assert [r["tpot_ns"] for r in verdict.requests] == [None, None]


def test_static_gating_pays_for_the_largest_sender_and_pads() -> None:
    """3 requests on 2 GPUs: GPU 0 has two tokens, GPU 1 one; capacity ceil(0.5 x 2) = 1."""
    trace = decode([[[0]], [[1]], [[0]]], first=[0, 0, 0])
    model = Model([Layer(0, moe=True)], 3, 1, 10, 2, expert_bytes=100)
    config = Config(batch_size=3, gpus=2, gating="static", capacity_fraction=0.5)
    verdict = judge(trace, model, config, HandPrices())
    # GPU 0 has experts 0, 1 and the tokens of requests 0 and 2, which both want 0: one is dropped.
    # attention 102 and 101; gate 10 x 2 + masks 60 = 80: 182, 181; shared until 187, 186
    # no count exchange. dispatch from 182: 0 -> 1: 1 expert x 1 x 20, 1 -> 0: 2 x 1 x 20:
    #   30 + 20 + 2 x 40 = 130: 312
    # GPU 0: 2 experts of 2 rows: 20 + 60 + 8 = 88: 400; GPU 1: 20 + 30 + 4 = 54: 366, waits 34
    # combine, transposed: 0 -> 1 40, 1 -> 0 20: 30 + 40 + 40 = 110: 510; product 70; head 40
    assert verdict.duration_ns == 510 + 70 + 40
    assert verdict.barrier_ns == 34  # at dispatch the shared expert covers the wait
    assert (verdict.rows_executed, verdict.rows_kept, verdict.dropped) == (6, 2, 1)
    assert verdict.padding_ratio == Fraction(2, 3)
    assert verdict.hits == 3
    assert verdict.misses == 0
