"""``moesim price`` and runs: of every operation that a run reports, what the run is charged."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import moesim
from moesim.calibrate.prices.arguments import Asking
from moesim.calibrate.prices.asked import ASKED, EXPERIMENT, MADE_OF, MEANINGS
from moesim.calibrate.prices.asking import asking_of
from moesim.calibrate.prices.price import price_table
from moesim.cli.main import main
from moesim.config.errors import InputError
from moesim.hardware import CostModel, load_hardware
from moesim.hardware.cost_model import registry
from moesim.hardware.load import as_run_by
from moesim.hardware.price_errors import Machine
from moesim.hardware.prices.arrays import Ints
from moesim.model import load_model
from moesim.model.drafting import Drafter
from moesim.model.spec import LayerSpec
from tests.unit.calibrate.test_one_price import shapes

DRAFT = "{kind: draft, model: llama-3.1-8b, num_speculative_tokens: 3, acceptance: 80 %}"
SIZES = np.array([1, 16, 100, 4096])
MOST = 5
"""Shapes of a call that are asked for again."""
RUNS: tuple[tuple[str, list[str]], ...] = (
    ("quickstart", []),
    ("gatings_and_kernels", ["gating.kind=static", "experts.kernels=batched"]),
    ("gatings_and_kernels", ["gating.kind=tutel", "experts.kernels=serial"]),
    ("layers-on-cpu", []),
    ("whole-layers-on-cpu", ["workload.requests=1"]),
    ("offloaded-layers", []),
    ("low_bit_on_ssd", []),
    ("near_memory", ["workload.phase=decode"]),
    ("many_nodes", ["parallelism.dense=tensor", "parallelism.expert=16"]),
    (
        "layers_over_gpus",
        ["parallelism.pipeline=3", "workload.requests=1", "experts.on_cpu.layers=0"],
    ),
    ("speculation", ["hardware=h100-sxm", f"workload.speculative={DRAFT}"]),
)
"""Shipped experiments that differ in what they price, and what of each is set."""
Call = tuple[str, tuple[Any, ...], Ints]


@contextmanager
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Call]]:
    """What ``CostModel`` is asked for, and the prices that it gives."""
    calls, price = list[Call](), CostModel.price

    def kept(costs: CostModel, kind: str, *shape: Any) -> Ints:
        found = price(costs, kind, *shape)
        calls.append((kind, shape, found))
        return found

    with monkeypatch.context() as patched:
        patched.setattr(CostModel, "price", kept)
        yield calls


def place_of(asking: Asking, layer: LayerSpec) -> dict[str, Any]:
    """The number of the first layer that is as ``layer`` is but for its place, and the variant."""
    alike, own = replace(layer, index=0), asking.costs.model.layers
    for variant, layers in ((None, own), *asking.variants.items()):
        for one in layers:
            if replace(one, index=0) == alike:
                return {"layer": one.index, "variant": variant}
    raise AssertionError(f"no layer is like {layer}")


def launches(rows: Any, starts: Any) -> list[list[int]]:
    ends = np.append(starts[1:], len(rows))
    return [np.asarray(rows)[a:b].tolist() for a, b in zip(starts, ends, strict=True)]


def columns_of(kind: str, asking: Asking, shape: tuple[Any, ...]) -> dict[str, Any]:
    """A call's shape as columns of a table."""
    asked, given = ASKED[kind], dict[str, Any]()
    for name, value in zip((*asked.arguments, *asked.more), shape, strict=False):
        if name == "layer":
            given |= place_of(asking, value)
        elif name == "sent":
            given["sent"] = [one.ravel().tolist() for one in np.asarray(value)]
        elif name == "rows":
            given["rows"] = launches(value, shape[2])
        elif name == "joining":
            given |= {"elements": value.elements, "bytes": value.size}
        elif name == "*sums":
            sums = np.broadcast_arrays(*shape[len(asked.arguments) - 1 :])
            given["sums"] = np.stack(sums, -1).tolist()
        elif name not in MADE_OF:
            given[name] = value if np.ndim(value) == 0 else np.asarray(value).tolist()
    return given


def table_of(asking: Asking, call: Call) -> pd.DataFrame:
    """Some elements of a call as rows, with what it gave."""
    kind, shape, charged = call[0], call[1], np.ravel(call[2])
    columns = columns_of(kind, asking, shape)
    each = {
        name: value if isinstance(value, list) else [value] * len(charged)
        for name, value in columns.items()
    }
    rows = pd.DataFrame({"op": kind, "charged": charged, **each}).query("charged > 0")
    return rows.iloc[np.unique(np.linspace(0, len(rows) - 1, MOST).astype(int))[: len(rows)]]


@pytest.mark.parametrize(("name", "settings"), RUNS, ids=[" ".join([n, *s]) for n, s in RUNS])
def test_what_a_run_is_charged_is_what_price_says(
    monkeypatch: pytest.MonkeyPatch, name: str, settings: list[str]
) -> None:
    """Each operation that it reports, in shapes that it asked for."""
    file = f"experiments/{name}.yaml"
    with recorded(monkeypatch) as calls:
        run = moesim.run(file, overrides=settings, records="layer", limit_steps=20)
    asking, _ = asking_of(file, "auto", overrides=settings)
    asked = pd.concat([table_of(asking, call) for call in calls], ignore_index=True)
    priced = moesim.price(file, asked, overrides=settings)
    assert priced["price_ns"].tolist() == asked["charged"].tolist()
    assert set(run.operations["operation"]) - {""} <= set(asked["op"])
    assert len(asked) > len(set(asked["op"]))


def test_every_operation_has_a_row_and_its_price() -> None:
    """Also those that no experiment above reports, each of a model that has it."""
    model = load_model("nllb-moe-54b")
    profile = as_run_by("{base: a100-pcie-40gb, near_memory: monde, storage: nvme-pcie4}", None)
    layer = next(one for one in model.moe_layers if one.cross_attention)
    shared = load_model("deepseek-v3")
    costs, other = CostModel(profile, model), CostModel(profile, shared)
    drafter = Drafter.of_model(load_model("llama-3.1-8b"), 3)
    asked = {
        **shapes(model, layer),
        "dense": (model.decoder_layers[0], SIZES),
        "drafting": (drafter, *[SIZES] * 6, *[SIZES * 9] * 2),
        "near_expert": (layer, SIZES),
        "storage_read": (SIZES * 4096, 3, False, True),
    }
    assert asked.keys() == ASKED.keys() == registry.components.keys()
    for kind, shape in (*asked.items(), ("shared", (shared.moe_layers[0], SIZES))):
        of = other if kind == "shared" and shape[0] in shared.layers else costs
        asking = Asking(of, Machine("", ""), EXPERIMENT, drafter)
        table = table_of(asking, (kind, shape, of.price(kind, *shape)))
        found = price_table(profile, table.assign(_line=1), asking=asking)
        assert found.price_ns.tolist() == table["charged"].tolist(), kind


def test_an_operation_of_a_model_is_priced_without_an_experiment(tmp_path: Path) -> None:
    """Of the whole model; choices spread evenly over experts; a copy and a start need no model."""
    ops = [
        "op,tokens,context_tokens,kv_tokens,layer,bytes,gpus,direction",
        *("attention,16,16000,16000,3,,,", "experts,16,,,,,,", "head,16,,,,,,"),
        *("copy,,,,,1000000,,h2d", "decide,,,,,,,", "all_to_all,,,,,800000,8,"),
    ]
    table, out = tmp_path / "ops.csv", tmp_path / "out.csv"
    table.write_text("\n".join(ops))
    model = load_model("qwen3-30b-a3b")
    asked = ["price", "h100-sxm", "--ops", str(table), "--out", str(out)]
    assert main([*asked, "--model", model.name]) == 0
    found, costs = pd.read_csv(out), CostModel(load_hardware("h100-sxm"), model)
    sixteen = np.array([16])
    expected = [
        costs.attention_ns(model.layers[3], sixteen, 1000 * sixteen, 1000 * sixteen)[0],
        costs.experts_ns(model.layers[0], np.ones(128, int), np.zeros(1, int))[0],
        costs.head_ns(sixteen)[0],
        costs.copy_ns(1_000_000, "h2d"),
        costs.price("decide"),
        costs.all_to_all_ns(np.full((1, 8, 8), 100_000))[0],
    ]
    assert found["price_ns"].tolist() == expected
    assert found["price_source"].tolist()[1:5] == ["measured", "fitted", "datasheet", "datasheet"]
    assert (found["low_ns"] <= found["price_ns"]).all()
    assert (found["price_ns"] <= found["high_ns"]).all()


def rows_of_a_model(count: int) -> pd.DataFrame:
    """Of three operations and two layers, in turns; of one some more columns are given."""
    tokens, sizes = np.random.default_rng(0), np.arange(count)
    table = pd.DataFrame({"op": np.array(["attention", "head", "dense", "gate"])[sizes % 4]})
    table["tokens"] = tokens.integers(0, 3000, count)
    table["context_tokens"] = table["tokens"] * tokens.integers(1, 4000, count)
    table["kv_tokens"] = table["context_tokens"] // 2
    table["layer"] = np.where(table["op"] == "attention", sizes % 3, np.nan)
    padded = (table["op"] == "attention") & (sizes % 8 == 0)
    for name in ("served_tokens", "served_context_tokens", "served_kv_tokens"):
        table[name] = np.where(padded, 1, np.nan)
    return table


def test_rows_that_are_alike_are_priced_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one by one: their prices, what these rest on, and the ranges; a third of the time."""
    table, calls = rows_of_a_model(48), list[tuple[Any, ...]]()
    attention, head = (registry.components[kind] for kind in ("attention", "head"))
    parts = head.parts

    def counted(*shape: Any) -> Any:
        calls.append(shape)
        return parts(*shape)

    monkeypatch.setattr(head, "parts", counted)
    whole = moesim.price("h100-sxm", table, model="deepseek-v3")
    assert attention.by_part
    assert len(calls) == 2, "for their prices, and for what these rest on"
    apart = [
        moesim.price("h100-sxm", table.iloc[[n]].dropna(axis=1), model="deepseek-v3")
        for n in range(len(table))
    ]
    one_by_one = pd.concat(apart, ignore_index=True)
    added = ["price_ns", "price_source", "outside", "low_ns", "high_ns"]
    pd.testing.assert_frame_equal(whole[added], one_by_one[added])
    assert len(set(whole["price_source"])) > 1


def test_the_line_of_a_row_without_a_price_is_told_among_others() -> None:
    """Of what is priced at once, too."""
    table = pd.DataFrame({"op": "head", "tokens": [5, 10**12, 7, None, 9]})
    with pytest.raises(InputError) as caught:
        moesim.price("h100-sxm", table, model="deepseek-v3")
    told = [str(one) for one in caught.value.problems]
    assert [one.split(":")[1] for one in told] == ["2", "4"]
    assert "no operation takes an hour" in told[0]


def test_an_experiment_s_choices_stay_by_another_method() -> None:
    costs = CostModel(
        load_hardware("h100-sxm"), load_model("qwen3-30b-a3b"), serial=True, gpus_per_node=2
    )
    for method in ("fit", "datasheet"):
        other = costs.by(method).operations["experts"]
        assert (other.serial, other.batched, other.gpus_per_node) == (True, False, 2)
        assert other.measured is (method != "fit")


def test_a_range_is_that_of_the_run() -> None:
    """As its ``price_interval`` has it: of the GPU's datasheet, and of the link."""
    file = "experiments/quickstart.yaml"
    factors = moesim.run(file, limit_steps=20).summary["price_interval"]["factors"]
    rows = pd.DataFrame({"op": ["head", "copy"], "tokens": [9, None], "bytes": [None, 10**9]})
    priced = moesim.price(file, rows.assign(direction="h2d"))
    for kind, one in zip(("datasheet", "link"), priced.itertuples(), strict=True):
        (row,) = (row for row in factors if str(row["of"]).startswith(kind))
        assert one.low_ns == pytest.approx(row["low"] * one.price_ns, abs=1)
        assert one.high_ns == pytest.approx(row["high"] * one.price_ns, abs=1)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"op": "head"}, "table:1: has no 'tokens'; 'head' is asked by it"),
        ({"op": "head", "tokens": -1}, "'tokens' is -1, no whole number from 0 to below"),
        ({"op": "head", "tokens": 1.5}, "'tokens' is 1.5, no whole number"),
        ({"op": "experts"}, "has no 'rows', nor 'tokens'; 'experts' is asked by it"),
        (
            {
                "op": "attention",
                "tokens": 9,
                "context_tokens": 9,
                "kv_tokens": 9,
                "served_tokens": 1,
            },
            "has 'served_tokens' and no 'served_context_tokens', 'served_kv_tokens'; give all, or",
        ),
        ({"op": "all_to_all", "gpus": 8}, "has no 'sent', nor 'bytes' and 'gpus'"),
        ({"op": "all_to_all", "sent": [[1, 2, 3]]}, "has 3 numbers, which are no square"),
        ({"op": "copy", "bytes": 9}, "has no 'direction'; 'copy' is asked by it"),
        ({"op": "copy", "bytes": 9, "direction": "up"}, "'direction' is 'up'; allowed: d2h"),
        (
            {"op": "copy", "bytes": 9, "direction": "h2d", "copies": 2},
            "has 'copies' and no 'pinned'; give both, or neither",
        ),
        (
            {"op": "copy", "bytes": 9, "direction": "h2d", "pinned": "maybe"},
            "'pinned' is maybe; write true or false",
        ),
        ({"op": "gate", "tokens": 1, "layer": 99}, "'layer' is 99; deepseek-v3 has those from 0"),
        (
            {"op": "gate", "tokens": 1, "layer": 0},
            "only each from 3 to 60 of deepseek-v3 has routed",
        ),
        (
            {"op": "dense", "tokens": 1, "layer": 9},
            "only each from 0 to 2 of deepseek-v3 has a dense",
        ),
        ({"op": "cross_attention"}, "no layer of deepseek-v3 has cross attention; leave"),
        ({"op": "gate", "tokens": 1, "variant": "low"}, "'variant' is 'low'; none is allowed"),
        ({"op": "drafting", "tokens": 1}, "'drafting' is of an experiment that drafts"),
        ({"op": "heads", "tokens": 1}, "'heads' is no op; .*did you mean 'head'"),
    ],
)
def test_what_a_row_lacks_is_told(given: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        moesim.price("h100-sxm", pd.DataFrame([given]), model="deepseek-v3")
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("h100-sxm", {}, "'head' is of a model; name one by --model, or an experiment instead"),
        ("h100-sxm", {"overrides": ["seed=1"]}, "--set 'seed=1': 'h100-sxm' is a profile"),
        ("experiments/quickstart.yaml", {"model": "olmoe-1b-7b"}, "--model .* names its own"),
        ("experiments/quickstart.yaml", {"software": "vllm"}, "--software .* names its own"),
    ],
)
def test_whose_operation_it_is_is_asked_for(name: str, given: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        moesim.price(name, pd.DataFrame({"op": ["head"], "tokens": 1}), **given)


@pytest.mark.parametrize(
    ("op", "given"),
    [
        ("attention", ["--set", "context_tokens=16000", "--set", "kv_tokens=16000"]),
        ("experts", ["--set", "layer=3"]),
        ("head", []),
        ("send_recv", ["--set", "stages=2", "--set", "bytes=4096"]),
    ],
)
def test_an_operation_of_a_run_is_explained(
    capsys: pytest.CaptureFixture[str], op: str, given: list[str]
) -> None:
    """Its parts add up to what ``moesim price`` says."""
    asked = ["explain", "h100-sxm", "--op", op, "--model", "qwen3-30b-a3b", "--tokens", "16"]
    assert main([*asked, *given, "--json"]) == 0
    told = {one["term"]: one["us"] for one in json.loads(capsys.readouterr().out)["parts"]}
    row = {"op": op, "tokens": 16, **dict(one.split("=") for one in given[1::2])}
    priced = moesim.price("h100-sxm", pd.DataFrame([row]), model="qwen3-30b-a3b")
    price = float(told.pop("price"))
    assert price == pytest.approx(priced["price_ns"][0] / 1e3, abs=1e-3)
    parts = [float(us) for term, us in told.items() if us and not term.startswith(" ")]
    assert sum(parts) == pytest.approx(price, abs=0.01)


def test_the_help_and_the_page_list_every_operation(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["price", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"one of a run: {', '.join(ASKED)}." in shown
    page = (Path(__file__).parents[3] / "docs" / "calibration.md").read_text()
    assert [line for line in lines_of_page() if f"{line}\n" not in page] == []


def lines_of_page() -> Iterator[str]:
    """What ``docs/calibration.md`` says of operations and their columns."""
    for kind, asked in ASKED.items():
        columns = [*columns_in(asked.arguments), *(f"[`{one}`]" for one in asked.more)]
        yield f"| `{kind}` | {' '.join(columns)} |"
    for name, meaning in MEANINGS.items():
        yield f"| `{name}` | {meaning} |"


def columns_in(arguments: Iterable[str]) -> Iterator[str]:
    for name in arguments:
        if name == "layer":
            yield "[`layer`]"
        yield from (f"`{one}`" for one in MADE_OF.get(name, ((name,),))[0])
