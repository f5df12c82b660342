import numpy as np
import pandas as pd
import pytest

from moesim.calibrate.collect.choice import points_of
from moesim.calibrate.collect.plan import Plan
from moesim.calibrate.collect.shapes import SMALL, AttentionShape, ExpertShape, shapes_for
from moesim.config.errors import InputError
from moesim.hardware.measurements.columns import SHAPES
from moesim.hardware.measurements.validate import LINE, valid


def plan(kind="cpu", shapes=SMALL, gpus=0, memory=2**36, dtypes=("fp32",)):
    return Plan(kind, shapes, dtypes, gpus, 4, 2**25, memory)


def one_server():
    return plan("cuda", shapes_for([], "cuda"), 8, dtypes=("bf16",))


@pytest.mark.parametrize("made", [plan, one_server])
def test_every_row_that_is_planned_is_a_valid_row_of_the_table(made):
    points = points_of(made())
    table = pd.DataFrame([dict(point.columns) for point in points])
    table[LINE] = np.arange(len(table))
    table["latency_ns"] = 1e6
    _, findings = valid(table)
    assert findings == []
    assert len({point.key for point in points}) == len(points)
    assert [point.priority for point in points] == sorted(point.priority for point in points)


def test_a_server_measures_every_op_and_a_cpu_all_but_those_between_gpus():
    assert {point.columns["op"] for point in points_of(one_server())} == set(SHAPES)
    between = {"copy_p2p", "all_reduce", "all_to_all"}
    assert {point.columns["op"] for point in points_of(plan())} == set(SHAPES) - between


def test_all_gpus_copy_at_once_and_each_pair_of_them_alone():
    points = [point.columns for point in points_of(one_server())]
    assert {c["gpus"] for c in points if c["op"] == "copy_h2d"} == {1, 8}
    assert {c["pinned"] for c in points if c["op"] == "copy_d2h"} == {True, False}
    assert len({c["pair"] for c in points if c["op"] == "copy_p2p"}) == 56
    assert {c["gpus"] for c in points if c["op"] == "all_to_all"} == {2, 4, 8}


def test_the_kernels_of_experts():
    def kernels(points):
        return {c.columns["kernel_source"] for c in points if c.columns["op"] == "moe"}

    assert kernels(points_of(plan())) == {"torch-serial", "torch-grouped"}
    overlapped = {"torch-serial", "torch-grouped", "torch-serial+copy"}
    assert kernels(points_of(one_server())) == overlapped


def test_shapes_are_those_of_the_model():
    shapes = shapes_for(["qwen3-30b-a3b"], "cpu")
    assert shapes.experts == (ExpertShape(2048, 768, 128, 8, gated=True),)
    assert shapes.attention == (AttentionShape(32, 4, 128),)
    assert {(4096, 2048), (512, 2048), (5120, 2048), (2048, 4096), (151936, 2048)} <= set(
        shapes.products
    )
    points = points_of(plan(shapes=shapes), ["copy_h2d"])
    assert {2048 * 768 * 4, 3 * 2048 * 768 * 4} <= {p.columns["bytes"] for p in points}


def test_only_some_ops():
    points = points_of(plan(), ["gate,permute", "launch"])
    assert {point.columns["op"] for point in points} == {"gate", "permute", "launch"}
    with pytest.raises(InputError, match=r"'gates' is no op; allowed: .* did you mean 'gate'"):
        points_of(plan(), ["gates"])


def test_a_run_that_is_cut_short_has_something_of_each_op():
    first = [point.columns["op"] for point in points_of(plan())[:40]]
    assert {"moe", "gemm", "attention_decode", "gate", "permute", "launch", "copy_h2d"} <= set(
        first
    )


def test_operands_that_would_fill_the_memory_are_left_out():
    small = points_of(plan(memory=2**26), ["gemm"])
    assert max(point.operand_bytes for point in small) <= 2**23
    assert len(small) < len(points_of(plan(), ["gemm"]))
