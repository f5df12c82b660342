"""Two complete timelines, every nanosecond worked by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from .reference import reference
from .reference_words import DECODE, PREFILL, Config, Kernels, Layer, Model, Software, Span, Trace


@dataclass(frozen=True)
class HandPrices:
    """Prices that are easy to add up."""

    cpu_start: int = 150

    def attention_ns(
        self, layer: Any, tokens: int, context_tokens: int, kv_tokens: int, *decoding: int
    ) -> int:
        return 100 + context_tokens

    def unpacking_ns(self, layer: Any, experts: int) -> int:
        return 0

    def cross_attention_ns(
        self, layer: Any, context_tokens: int, kv_tokens: int, projected_tokens: int
    ) -> int:
        return 80

    def dense_ns(self, layer: Any, tokens: int) -> int:
        return 50

    def gate_ns(self, layer: Any, tokens: int) -> int:
        return 10 * tokens

    def permute_ns(self, layer: Any, rows: int) -> int:
        return rows

    def shared_ns(self, layer: Any, tokens: int) -> int:
        return 5

    def experts_ns(self, layer: Any, rows: list[int], *tokens: int) -> int:
        return 20 + 30 * len(rows) + 2 * sum(rows)

    def cpu_expert_ns(self, layer: Any, rows: int) -> int:
        return self.cpu_start + 10 * rows

    def near_expert_ns(self, layer: Any, rows: int) -> int:
        return 15 + 3 * rows

    def head_ns(self, tokens: int) -> int:
        return 40

    def sampling_ns(self, tokens: int) -> int:
        return 0

    def drafting_ns(self, times: int, *numbers: int) -> int:
        raise AssertionError("nothing drafts here")

    def masks_ns(self, layer: Any, tokens: int, experts: int, capacity: int) -> int:
        return 60

    def combine_product_ns(self, layer: Any, tokens: int, experts: int, capacity: int) -> int:
        return 70

    def encode_ns(self, layer: Any, tokens: int, experts: int, capacity: int, rows: int) -> int:
        return 25 + rows

    def decide_ns(self) -> int:
        return 9

    def copy_ns(self, size: int, direction: str, pinned: bool = True, copies: int = 1) -> int:
        return 50 * copies + size if direction == "h2d" else 7

    def all_to_all_ns(self, matrix: list[list[int]]) -> int:
        """What GPU s sends counts s + 1 times."""
        pairs = [(s, r) for s in range(len(matrix)) for r in range(len(matrix)) if s != r]
        return 30 + sum((s + 1) * matrix[s][r] for s, r in pairs)

    def all_reduce_ns(self, gpus: int, size: int) -> int:
        return 90

    def gather_logits_ns(self, gpus: int, tokens: int) -> int:
        return 95

    def read_logits_ns(self, tokens: int, wait_ns: int) -> int:
        return 45 + wait_ns

    def step_inputs_ns(self, tokens: int, copies: int) -> int:
        return 35 * copies

    def storage_read_ns(self, size: int, reads: int, mapped: bool, queued: bool) -> int:
        return 300 if queued else 350


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
    verdict = reference(trace, model, config, HandPrices())
    # Step 0. N = {0, 1, 2}, rows 1, 2, 1. Launches [0, 1] and [2]: 2 takes 0's slot (lru, rule b).
    #   attention 100 + (11 + 21) = 132;                       t = 132, host = 2 + 4 = 6
    #   gate 10 x 2 + permute 4 = 24;                          t = 156, host = 8
    #   shared 5, until 161; counts known at 156 + (7 + 3) = 166: host +5 after the shared expert
    #   copies of 50 + 100 = 150, issued 171, 176, 181: expert 0 171-321, expert 1 321-471
    #   launch [0, 1] from 471 (stall 471 - 166 = 305), 20 + 60 + 6 = 86, until 557
    #   expert 2 waits for that launch: 557-707 (stall 150); launch [2] 20 + 30 + 2 = 52, until 759
    #   unpermute 4: 763; head 40: 803. host = 166 + 3 x 5 + 2 x 2 + 2 + 2 = 189 < 803
    # Step 1. Both hit, rows 2, 2.
    #   attention 100 + (12 + 22): 937; gate 24: 961; shared until 966; known 971
    #   launch [1, 2] 20 + 60 + 8 = 88: 1059; unpermute 4: 1063; head 40: 1103
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
    verdict = reference(trace, model, config, HandPrices())
    # Dense layer: 100 + 3 + 50 = 153 on both; host = 200 + 4 = 204.
    # attention: GPU 0 100 + 5: 258, GPU 1 100 + 10: 263; host 408
    # gate 10: 268 and 273; permute 2: 270 and 275; host 608; shared until 275 and 280
    # count exchange from 273 beside all that: 30 + 8 + 2 x 8 = 54: 327
    # the host has launched at 608 only: host 281; counts over at 618: host 10
    # dispatch: GPU 0 sends 1 row (expert 2) of 20 bytes, GPU 1 none: 618 + 30 + 20 = 668
    # copies of 2 x 50 + 100 = 200; the host needs 2 x 5 = 10 for each:
    #   GPU 0: expert 0 628-828 (stall 160); 20 + 30 + 2 = 52: 880
    #   GPU 1: expert 2 628-828 (stall 160); 20 + 30 + 4 = 54: 882
    #          expert 3 over 2 (b), issued 838, waits until 882: -1082 (stall 200); 52: 1134
    # host: GPU 0 828 + 200 + 200 = 1228; GPU 1 1082 + 2 x 200 + 200 = 1682
    # combine from 1134 (GPU 0 waits 254): GPU 1 sends 20 bytes, 30 + 2 x 20 = 70: 1204
    # unpermute 2: 1206; head 40: 1246; the host is at 1428 and 1882
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
        "dispatch_combine": (52 + 50 + 70 + 2) + (47 + 50 + 70 + 2),
        "experts": (5 + 52) + (5 + 54 + 52),
        "host": (281 + 10 + 182) + (281 + 10 + 636),
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
    verdict = reference(trace, model, config, HandPrices())
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


def test_a_capacity_is_agreed_on_before_rows_are_placed() -> None:
    """``no_drop``: 3 requests on 2 GPUs; GPU 0's two tokens want expert 0, so the capacity is 2."""
    trace = decode([[[0]], [[1]], [[0]]], first=[0, 0, 0])
    model = Model([Layer(0, moe=True)], 3, 1, 10, 2, expert_bytes=100)
    config = Config(batch_size=3, gpus=2, gating="no_drop", kernels="batched", software=SOFTWARE)
    verdict = reference(trace, model, config, HandPrices())
    # attention 102 and 101, host 6; gate 10 x 2: 122 and 121, host 8; shared until 127 and 126
    # largest count: 4 bytes each way from 122: 30 + 4 + 2 x 4 = 42: 164; read: 164 + 7 + 3 = 174
    # masks 60: 234. dispatch 30 + 1 x 2 x 20 + 2 x (2 x 2 x 20) = 230: 464
    # GPU 0: 2 experts of 4 rows: 20 + 60 + 16 = 96: 560; GPU 1: 20 + 30 + 8 = 58: 522, waits 38
    # combine, transposed: 30 + 80 + 2 x 40 = 190: 750; product 70; head 40
    assert verdict.duration_ns == 750 + 70 + 40
    assert verdict.time_ns["gate"] == 2 * (20 + 60)
    assert verdict.time_ns["host"] == 2 * 10
    assert verdict.barrier_ns == 38
    assert (verdict.rows_executed, verdict.rows_kept, verdict.dropped) == (12, 3, 0)


def test_tutel_encodes_and_decodes_kept_rows() -> None:
    """The capacity and drops of static gating, without its masks."""
    trace = decode([[[0]], [[1]], [[0]]], first=[0, 0, 0])
    model = Model([Layer(0, moe=True)], 3, 1, 10, 2, expert_bytes=100)
    config = Config(batch_size=3, gpus=2, gating="tutel", capacity_fraction=0.5)
    verdict = reference(trace, model, config, HandPrices())
    # as under static gating, but gate 10 x 2 + encode 25 + 1 = 46: 148; dispatch 130: 278;
    # GPU 0's kernel 88: 366; combine 110: 476; decode 1; head 40
    assert verdict.duration_ns == 476 + 1 + 40
    assert (verdict.rows_executed, verdict.rows_kept, verdict.dropped) == (6, 2, 1)


def test_empty_experts_are_called_one_by_one() -> None:
    """Two of 3 resident experts have rows; all 3 are launched, each 200 ns. Either way the host
    waits for the counts before it calls the first one.
    """
    trace = decode([[[0, 1]]], first=[0])
    model = Model([Layer(0, moe=True)], 3, 2, 10, 2, expert_bytes=100)
    launching = replace(SOFTWARE, launch_ns=200)
    ends = []
    for calls_empty in (False, True):
        software = replace(launching, calls_empty=calls_empty)
        config = Config(kernels="serial", software=software)
        ends.append(reference(trace, model, config, HandPrices()).duration_ns)
    # host: attention 204, gate 200, counts 7 + 3, experts 2 or 3 x 200, combine 200, head 200
    assert ends == [204 + 200 + 10 + 400 + 400, 204 + 200 + 10 + 600 + 400]


def test_whole_sequences_launch_their_own_attention() -> None:
    trace = decode([[[0, 1]]], first=[0])
    trace["phase"] = [PREFILL]
    model = Model([Layer(0, moe=True)], 3, 2, 10, 2, expert_bytes=100)
    kernels = replace(SOFTWARE.kernels, sequence=7)
    config = Config(phase="prefill", software=replace(SOFTWARE, launch_ns=200, kernels=kernels))
    # host: attention 7 x 200 + 4, gate, grouped, combine, head
    assert reference(trace, model, config, HandPrices()).duration_ns == 1404 + 4 * 200


def test_a_gating_has_its_own_launches() -> None:
    trace = decode([[[0, 1]]], first=[0])
    model = Model([Layer(0, moe=True)], 3, 2, 10, 2, expert_bytes=100)
    kernels = Kernels(1, 1, 1, 1, 1, 1, reorder=10, gate_by_gating={"static": 20})
    software = replace(SOFTWARE, launch_ns=200, kernels=kernels)
    ends = {
        gating: reference(
            trace, model, Config(gating=gating, software=software), HandPrices()
        ).duration_ns
        for gating in ("dynamic", "static", "gshard")
    }
    # 204 of attention, three more launches, and those of the gate
    assert ends == {"dynamic": 804 + 11 * 200, "static": 804 + 20 * 200, "gshard": 804 + 200}


def test_the_rule_decides_whose_gate_weight_is_lost() -> None:
    """Three tokens want expert 0 (rank 0, 1, 0), two want 2 (rank 0, 1); one row for each."""
    trace = decode([[[0, 1]], [[2, 0]], [[0, 2]]], first=[0, 0, 0])
    trace["gate_weights"] = [[[0.5, 0.5]], [[0.125, 0.75]], [[0.25, 1.0]]]
    model = Model([Layer(0, moe=True)], 6, 2, 10, 2, expert_bytes=100)
    lost = {}
    for drop in ("first_come", "highest_gate_first", "batch_prioritised"):
        config = Config(batch_size=3, gating="gshard", factor=0.1, min_capacity=1, drop=drop)
        verdict = reference(trace, model, config, HandPrices())
        assert verdict.dropped == 3
        assert verdict.weight == round(3.125 * 2**24)
        lost[drop] = verdict.lost_weight / 2**24
    # expert 0 keeps .5, .75 or .25 (whose token's largest is 1); expert 2 keeps .125, 1 or .125
    assert lost == {
        "first_come": 1.0 + 1.0,
        "highest_gate_first": 0.75 + 0.125,
        "batch_prioritised": 1.25 + 1.0,
    }
