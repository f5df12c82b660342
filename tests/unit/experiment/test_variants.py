"""Several formats of every expert, from an experiment to its result."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from moesim.config.errors import InputError
from moesim.experiment.building.build import build
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.questions.fit import largest_fit
from moesim.experiment.running.run import run
from moesim.experiment.schema.experiment import Experiment
from moesim.memory.footprint.footprint import expert_bytes
from moesim.metrics.fates import FATE_KEYS
from moesim.model import load_model
from moesim.results import Result

BASE: dict[str, Any] = {
    "model": "gpt-oss-20b",
    "hardware": "rtx-4090",
    "trace": "traces/quickstart.parquet",
    "workload": {"batching": {"kind": "static", "batch_size": 4}, "requests": 4},
    "records": "summary",
}
HIGH, LOW = {"capacity": "6 slots/layer"}, {"format": "q2_k", "capacity": "4 slots/layer"}
CHOOSE = {"kind": "gate_cumulative", "high": "60 %", "low": "90 %"}


def experiment(**experts: Any) -> Experiment:
    given = {"capacity": "8 slots/layer", "variants": {"high": HIGH, "low": LOW}, "choose": CHOOSE}
    return load_experiment({**BASE, "experts": given | experts}).experiment


def result(**experts: Any) -> Result:
    return run(experiment(**experts))


def single(slots: int) -> dict[str, Any]:
    return run({**BASE, "experts": {"capacity": f"{slots} slots/layer"}}).summary


SAME = ("duration_ms", "hits", "misses", "bytes_h2d", "stall_ms", "time_share", "mean_tpot_ms")


def test_all_high_is_the_run_of_one_format_to_the_nanosecond() -> None:
    one, many = single(6), result(choose={**CHOOSE, "high": "100 %", "low": "100 %"}).summary
    assert {key: many[key] for key in SAME} == {key: one[key] for key in SAME}
    assert many["gate_weight_shares"] == {"full": 1.0, "low": 0.0, "skipped": 0.0}
    assert (many["lowered_share"], many["misses_low"]) == (0.0, 0)


ON_CPU = {"miss": {"kind": "cpu"}, "initial": "most_used"}


def test_all_high_on_the_cpu_is_the_run_of_one_format_too() -> None:
    """Slots of the low variant, which serve nothing, change no decision."""
    one = run({**BASE, "experts": {"capacity": "6 slots/layer", **ON_CPU}}).summary
    many = result(choose={**CHOOSE, "high": "100 %", "low": "100 %"}, **ON_CPU).summary
    assert {key: many[key] for key in SAME} == {key: one[key] for key in SAME}
    assert many["misses_on_cpu"] == one["misses_on_cpu"] > many["misses_low_on_cpu"] == 0


def test_the_cpu_computes_in_the_wanted_variant() -> None:
    """In fewer bits it is done sooner; nothing is copied, and no decision depends on the format."""
    choose = {**CHOOSE, "low": "100 %"}
    low, same = (result(choose=choose, variants={"high": HIGH, "low": {**LOW, **of}}, **ON_CPU)
                 .summary for of in ({}, {"format": None}))  # fmt: skip
    for one in (low, same):
        assert one["misses_on_cpu"] == one["misses"] > one["misses_low_on_cpu"] > 0
        assert one["misses_low"] == 0
    assert low["misses_low_on_cpu"] == same["misses_low_on_cpu"]
    assert low["time_share"]["waiting_for_cpu"] < same["time_share"]["waiting_for_cpu"]
    assert low["duration_ms"] < same["duration_ms"]


@pytest.mark.parametrize("whole", [False, True])
def test_layers_on_the_cpu_have_no_slots_in_any_variant(whole: bool) -> None:
    """Their experts are computed in the wanted variant; with all of them in the best one it is the
    run without variants.
    """
    given: dict[str, Any] = {"workload": {"requests": 1, "phase": "decode"}}
    given |= {"host_layers": 3} if whole else {}
    room = ON_CPU | ({} if whole else {"on_cpu": {"layers": [3, 5]}})
    choose = {**CHOOSE, "high": "100 %", "low": "100 %"}
    many = {"capacity": "8 slots/layer", "variants": {"high": HIGH, "low": LOW}, **room}
    alone = run({**BASE, **given, "experts": {"capacity": "6 slots/layer", **room}}, limit_steps=9)
    best, mixed = (
        run({**BASE, **given, "experts": {**many, "choose": one}}, limit_steps=9)
        for one in (choose, {**choose, "high": "60 %"})
    )
    assert {key: best.summary[key] for key in SAME} == {key: alone.summary[key] for key in SAME}
    assert mixed.summary["misses_low_on_cpu"] > 0
    assert mixed.summary["duration_ms"] < best.summary["duration_ms"]


def test_each_replica_is_in_the_variant_that_its_own_tokens_want() -> None:
    """With all in the best one it is the run of one format; else both engines agree, and what
    became of all choices adds up.
    """
    given: dict[str, Any] = {"hardware": "h100-sxm", "parallelism": {"expert": 2}}
    given |= {"placement": {"kind": "eplb", "redundant": 2}}
    best, mixed = ({**CHOOSE, "high": high, "low": "100 %"} for high in ("100 %", "60 %"))
    room = {"capacity": "8 slots/layer", "variants": {"high": HIGH, "low": LOW}}

    def summary(engine: str, **experts: Any) -> dict[str, Any]:
        one = {**BASE, **given, "engine": engine, "experts": experts}
        return run(one, limit_steps=9).summary

    one, many = summary("des", capacity="6 slots/layer"), summary("des", **room, choose=best)
    assert {key: many[key] for key in SAME} == {key: one[key] for key in SAME}
    found = [summary(engine, **room, choose=mixed) for engine in ("des", "replay")]
    for key in (*SAME, *FATE_KEYS, "misses_low"):
        assert found[0][key] == found[1][key], key
    assert found[0]["choice_shares"]["low"] > 0
    assert sum(found[0]["choice_shares"].values()) == pytest.approx(1)


def test_the_format_of_the_low_variant_changes_no_decision() -> None:
    """Bytes are those of the same misses; pools and host hold what the format takes."""
    low, same = (result(variants={"high": HIGH, "low": {**LOW, **of}}).summary
                 for of in ({}, {"format": None}))  # fmt: skip
    for key in ("hits", "misses", "misses_low", "misses_skipped", *FATE_KEYS):
        assert low[key] == same[key], key
    (own,) = set(expert_bytes(load_model("gpt-oss-20b")))
    (of_low,) = set(expert_bytes(load_model("gpt-oss-20b@experts=q2_k")))
    fewer = (own - of_low) * low["misses_low"]
    assert same["bytes_h2d"] - low["bytes_h2d"] == fewer > 0
    slots, layers, experts = 4, 24, 32
    assert same["host_memory_bytes"] - low["host_memory_bytes"] == layers * experts * (own - of_low)
    assert same["peak_memory_bytes"] - low["peak_memory_bytes"] == layers * slots * (own - of_low)


def test_the_ledger_has_the_slots_of_each_and_the_host_every_form() -> None:
    built = build(experiment())
    (own,) = set(expert_bytes(load_model("gpt-oss-20b")))
    (low,) = set(expert_bytes(load_model("gpt-oss-20b@experts=q2_k")))
    assert built.footprint.at_peak()["expert_slots"] == 24 * (6 * own + 4 * low)
    assert built.footprint.host == 24 * 32 * (own + low)


def test_parts_of_a_capacity_are_parts_of_its_bytes() -> None:
    """8 slots of 24 layers, 70 % of them high, and as many low ones as 30 % hold."""
    parts = {"high": {"capacity": "70 %"}, "low": {"format": "q2_k", "capacity": "30 %"}}
    built = build(experiment(variants=parts))
    sizes = [sum(expert_bytes(load_model(f"gpt-oss-20b{of}"))) for of in ("", "@experts=q2_k")]
    room = 8 * sizes[0]
    expected = [int(room * 0.7) // sizes[0], int(room * 0.3) // sizes[1]]
    assert built.case.variants is not None
    assert built.case.variants.slots[:, 0].tolist() == [[one] * 24 for one in expected]


def test_one_variant_may_have_the_rest() -> None:
    written = {"high": {"capacity": "70 %"}, "low": {"format": "q2_k", "capacity": "30 %"}}
    rest = {"high": {"capacity": "70 %"}, "low": {"format": "q2_k"}}
    slots = [build(experiment(variants=one)).case.variants for one in (written, rest)]
    assert [one.slots.tolist() for one in slots if one] == [slots[0].slots.tolist()] * 2  # type: ignore[union-attr]


def test_a_low_variant_that_is_all_there_is_resident_from_the_start() -> None:
    """Nothing but the high variant is ever loaded."""
    low = {**LOW, "capacity": "32 slots/layer"}
    summary = result(variants={"high": HIGH, "low": low}).summary
    assert summary["misses_low"] == summary["misses_skipped"] == 0 < summary["misses"]


def test_high_for_all_misses_nothing() -> None:
    high = {"capacity": "32 slots/layer"}
    summary = result(variants={"high": high, "low": LOW}).summary
    assert summary["duration_ms"] == single(32)["duration_ms"]
    assert (summary["misses"], summary["lowered_share"]) == (0, 0.0)


def test_a_skip_never_adds_bytes() -> None:
    """The fewer the better: skipped is what would have been loaded in low."""
    wanted = [("100 %", 0), ("90 %", 0), ("60 %", 0), ("30 %", 0)]
    skipping = [result(choose={**CHOOSE, "high": "30 %", "low": low}).summary for low, _ in wanted]
    loading = result(choose={**CHOOSE, "high": "30 %", "low": "30 %", "beyond": "low"}).summary
    assert "misses_skipped" not in loading
    for fewer in skipping[1:]:
        assert fewer["bytes_h2d"] < loading["bytes_h2d"] == skipping[0]["bytes_h2d"]


def test_bytes_are_the_misses_of_each_variant_times_its_size() -> None:
    one = {"capacity": "1 slots/layer"}
    summary = result(variants={"high": one, "low": {**one, "format": "q2_k"}}).summary
    (own,) = set(expert_bytes(load_model("gpt-oss-20b")))
    (low,) = set(expert_bytes(load_model("gpt-oss-20b@experts=q2_k")))
    high = summary["misses"] - summary["misses_low"] - summary["misses_skipped"]
    assert summary["bytes_h2d"] == high * own + summary["misses_low"] * low


def test_shares_add_up_by_layer_and_by_request() -> None:
    played = result()
    summary, requests = played.summary, played.requests
    by_layer = summary["gate_weight_shares_by_layer"]
    assert len(by_layer) == 24
    for shares in (summary["gate_weight_shares"], summary["choice_shares"], *by_layer):
        assert sum(shares.values()) == pytest.approx(1)
    columns = [name for name in requests.columns if name.startswith("gate_weight_")]
    assert columns == ["gate_weight_full", "gate_weight_low", "gate_weight_skipped"]
    np.testing.assert_allclose(requests[columns].sum(axis=1), 1)
    skipped = summary["gate_weight_shares"]["skipped"]
    assert skipped == summary["skipped_gate_weight_share"] > 0
    assert summary["lowered_share"] == summary["gate_weight_shares"]["low"] > 0


def test_one_that_does_not_fit_has_the_same_keys() -> None:
    large = {"capacity": "31 slots/layer", "format": "fp32"}
    summary = result(variants={"high": large, "low": large}).summary
    assert summary["status"] == "out_of_memory"
    assert {key: summary[key] for key in FATE_KEYS} == dict.fromkeys(FATE_KEYS)


@pytest.mark.parametrize(
    ("experts", "said"),
    [
        ({"capacity": "all"}, "with room for a part of the experts"),
        (
            {"on_cpu": {"layers": 2}},
            "with layers on the CPU where it computes what else is missing",
        ),
        ({"miss": {"kind": "zero_copy"}}, "that the CPU computes, 'load' or 'cpu'"),
        (
            {"miss": {"kind": "cpu"}, "prefetch": {"kind": "oracle"}},
            "without prefetches where the CPU computes what is missing",
        ),
        ({"prefetch": {"kind": "history"}}, "and not how much; write prefetch: {variant: low}"),
        (
            {
                "prefetch": {"kind": "oracle"},
                "choose": {"kind": "resident_else", "then": "skip"},
            },
            "since nothing is loaded that is in no slot",
        ),
        (
            {"variants": None, "choose": None, "prefetch": {"kind": "oracle", "variant": "low"}},
            "in which variant experts are prefetched, and there are none",
        ),
        ({"policy": {"kind": "min"}}, "with policies that know them, not 'min'"),
        ({"policy": {"kind": "stream"}}, "not 'stream'"),
        ({"slots": {"kind": "by_layer"}}, "with equal slots"),
        ({"variants": None}, "says which variant is wanted, and there are none"),
        ({"variants": {"high": HIGH, "middle": LOW, "low": LOW}}, "names middle where"),
        ({"variants": {"high": HIGH, "low": {**LOW, "format": "int5"}}}, "no format of one class"),
        ({"variants": {"high": HIGH, "low": {**LOW, "format": "q2_k@"}}}, "no format's name"),
        ({"variants": {"high": HIGH, "low": {**LOW, "format": None, "group": 64}}}, "is of a form"),
        ({"variants": {"high": HIGH, "low": {**LOW, "group": 64}}}, "of the integer formats"),
        ({"variants": {"high": {**HIGH, "nested": True}, "low": LOW}}, "high is a slice of no"),
        (
            {
                "variants": {
                    "high": {**HIGH, "format": "int4"},
                    "low": {**LOW, "format": "int4", "nested": True},
                }
            },
            "of a slice, and 12856320 bytes are none of the 12856320",
        ),
        (
            {
                "variants": {
                    "high": {**HIGH, "format": "int4"},
                    "low": {**LOW, "format": "int8"},
                }
            },
            r"low has 25\d+ bytes an expert, more than the 12856320 of high, .* write the best",
        ),
        (
            {
                "variants": {
                    "high": {**HIGH, "format": "int8"},
                    "middle": {**LOW, "format": "int2"},
                    "low": {**LOW, "format": "int4"},
                },
                "choose": {**CHOOSE, "middle": "80 %"},
            },
            r"low has 12856320 bytes an expert, more than the \d+ of middle",
        ),
        (
            {"variants": {"high": HIGH, "low": {**LOW, "format": None, "rank": 8, "nested": True}}},
            "of a slice of bits, which products of low rank have none of",
        ),
        (
            {
                "variants": {
                    "high": {**HIGH, "rank": 512},
                    "low": {**LOW, "format": "int4", "rank": 8, "nested": True},
                }
            },
            "of a slice of bits, which products of low rank have none of",
        ),
        ({"variants": {"high": HIGH}}, "low"),
        ({"variants": {"high": {"capacity": "auto"}, "low": LOW}}, "no part of experts.capacity"),
        ({"variants": {"high": {}, "low": {"format": "q2_k"}}}, "only one variant has the rest"),
        ({"variants": {"high": HIGH, "low": {"format": "q2_k"}}}, "where the others are parts"),
        (
            {"variants": {"high": {"capacity": "80 %"}, "low": {"capacity": "30 %"}}},
            "more than 100 % together",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(
    experts: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said) as error:
        experiment(**experts)
    assert len(error.value.problems) == 1


def test_gate_weights_have_to_be_there(tmp_path: Any) -> None:
    from dataclasses import replace

    from moesim.trace import read_trace, write_trace

    bare = tmp_path / "bare.parquet"
    write_trace(replace(read_trace("traces/quickstart.parquet"), gate_weights=None), bare)
    given = {"capacity": "8 slots/layer", "variants": {"high": HIGH, "low": LOW}}
    with pytest.raises(InputError, match=r"experts.choose.*'gate_cumulative' reads gate weights"):
        run({**BASE, "trace": str(bare), "experts": given})
    by_use = run({**BASE, "trace": str(bare), "experts": {**given, "choose": {"kind": "hot_cold"}}})
    assert by_use.summary["gate_weight_shares"]["full"] is None
    assert by_use.summary["lowered_share"] == by_use.summary["choice_shares"]["low"] > 0


def test_hobbit_plays_with_variants_in_one_pool_and_prefetches() -> None:
    given = {"policy": {"kind": "hobbit", "scope": "global"}, "choose": {**CHOOSE, "beyond": "low"}}
    alone = result(**given).summary
    assert 0 < alone["misses_low"] < alone["misses"]
    ahead = {"kind": "oracle", "layers": 3, "recall": "90 %", "stop": "first_missing"}
    summary = result(**given, prefetch=ahead).summary
    assert 0 < summary["prefetches_used"] <= summary["prefetches"]
    assert summary["duration_ms"] < alone["duration_ms"]


NESTED = {
    "high": {**HIGH, "format": "int8"},
    "low": {"format": "int4", "capacity": "20 slots/layer"},
}


def test_an_upgrade_copies_the_difference_from_a_slice() -> None:
    """The same decisions; what is in a slot as four bits of eight is not copied, nor kept twice."""
    low = {**NESTED["low"], "nested": True}
    apart, inside = (
        result(variants={**NESTED, "low": one}).summary for one in (NESTED["low"], low)
    )
    upgraded = inside["misses_high_from_low"]
    assert 0 < upgraded < inside["misses"]
    for key in ("hits", "misses", "misses_low", "misses_skipped", *FATE_KEYS):
        assert inside[key] == apart[key], key
    (size,) = set(expert_bytes(load_model("gpt-oss-20b@experts=int4")))
    assert apart["bytes_h2d"] - inside["bytes_h2d"] == upgraded * size
    assert apart["host_memory_bytes"] - inside["host_memory_bytes"] == 24 * 32 * size
    assert inside["peak_memory_bytes"] == apart["peak_memory_bytes"]
    assert inside["duration_ms"] < apart["duration_ms"]


def test_substituting_decides_as_skipping_where_each_token_has_one_that_is_wanted() -> None:
    """And loses no gate weight: rows go to another expert, whose kernel takes them."""
    skipping, other = (result(choose={**CHOOSE, "beyond": how}).summary
                       for how in ("skip", "substitute"))  # fmt: skip
    assert other["misses_substituted"] == skipping["misses_skipped"] > 0
    for key in ("hits", "misses", "misses_low", "bytes_h2d", "lowered_share"):
        assert other[key] == skipping[key], key
    share = skipping["gate_weight_shares"]["skipped"]
    assert other["gate_weight_shares"]["substituted"] == share > 0
    assert other["skipped_gate_weight_share"] == other["skipped_choices"] == 0
    assert other["duration_ms"] >= skipping["duration_ms"]


def test_nothing_is_substituted_where_nothing_is_there() -> None:
    """The first pass of cold slots loads its experts, in the low variant."""
    cold = run(
        experiment(choose={"kind": "resident_else", "then": "substitute"}), limit_steps=1
    ).summary
    assert cold["misses_substituted"] == 0 < cold["misses_low"] == cold["misses"]


def test_what_fits_is_asked_of_one_format() -> None:
    with pytest.raises(InputError, match="leave variants out"):
        largest_fit(experiment())


ON_DRIVE = {"hardware": {"base": "rtx-4090", "storage": "nvme-pcie4"}}
SIZES = [set(expert_bytes(load_model(f"gpt-oss-20b{of}"))) for of in ("", "@experts=q2_k")]


def below(variants: dict[str, Any], **host: Any) -> dict[str, Any]:
    """The numbers of a run above a drive."""
    experts = {"capacity": "8 slots/layer", "variants": variants, "choose": CHOOSE}
    given = {**BASE, **ON_DRIVE, "experts": {**experts, "host": host}}
    return run(given, limit_steps=40).summary


@pytest.mark.parametrize(
    ("given", "experts", "said"),
    [
        (
            {},
            {"miss": {"kind": "cpu"}},
            "that the CPU computes and that are read from",
        ),
        ({}, {"prefetch": {"kind": "oracle"}}, "where experts are read from"),
        (
            {"parallelism": {"expert": 2}, "placement": {"kind": "eplb", "redundant": 2}},
            {},
            "replicas where experts are read from",
        ),
    ],
)
def test_what_does_not_go_above_a_drive_is_refused_in_one_line(
    given: dict[str, Any], experts: dict[str, Any], said: str
) -> None:
    room = {"capacity": "8 slots/layer", "variants": {"high": HIGH, "low": LOW}, "choose": CHOOSE}
    host = {"host": {"capacity": "50 %"}}
    with pytest.raises(InputError, match=f"variants work without .*{said} storage") as error:
        load_experiment({**BASE, **ON_DRIVE, **given, "experts": {**room, **experts, **host}})
    assert len(error.value.problems) == 1


def test_memory_for_all_variants_reads_nothing_and_less_reads_what_it_lacks() -> None:
    variants = {"high": HIGH, "low": LOW}
    whole, half, none = (below(variants, capacity=of) for of in ("100 %", "50 %", "none"))
    assert "bytes_storage" not in whole
    for key in ("hits", "misses", "misses_low", "bytes_h2d", *FATE_KEYS):
        assert whole[key] == half[key] == none[key], key
    assert 0 < half["bytes_storage"] < none["bytes_storage"] == none["bytes_h2d"]
    ((own,), (low,)) = SIZES
    assert half["host_memory_bytes"] == 24 * 32 * (own + low) // 2
    assert half["duration_ms"] < none["duration_ms"]


def test_one_format_in_two_variants_reads_what_it_does_alone() -> None:
    """All want the high one, whose host has as many bytes."""
    one = {"capacity": "8 slots/layer"}
    high = {"high": one, "low": {"format": "q2_k", "capacity": "1 slots/layer"}}
    choose = {**CHOOSE, "high": "100 %", "low": "100 %"}
    host = {"capacity": "4 GiB"}
    both = run({**BASE, **ON_DRIVE, "experts": {**one, "variants": high, "choose": choose,
                                                "host": host}}, limit_steps=40).summary  # fmt: skip
    alone = run({**BASE, **ON_DRIVE, "experts": {**one, "host": host}}, limit_steps=40).summary
    ((own,), _) = SIZES
    assert both["bytes_storage"] == both["bytes_h2d"] - own * both["host_hits"]
    assert (both["host_hits"], both["duration_ms"]) == (alone["host_hits"], alone["duration_ms"])
    assert both["bytes_storage"] == alone["bytes_storage"] > 0


def test_a_slice_is_kept_and_read_once() -> None:
    """Of all that a nested variant brings, the rest and the slice are read apart."""
    slots = {"capacity": "1 slots/layer"}
    variants = {"high": {**slots, "format": "int8"}, "low": {**slots, "format": "int4"}}
    nested = {**variants, "low": {**variants["low"], "nested": True}}
    apart, inside = (below(one, capacity="none") for one in (variants, nested))
    assert inside["misses_high_from_low"] > 0
    assert inside["bytes_storage"] == inside["bytes_h2d"] < apart["bytes_storage"]


def test_one_memory_reads_each_variant_into_its_slot() -> None:
    given = {"capacity": "8 slots/layer", "variants": {"high": HIGH, "low": LOW}, "choose": CHOOSE}
    machine = {"hardware": {"base": "m4-max-128gb", "storage": "nvme-pcie4"}}
    summary = run({**BASE, **machine, "experts": given}, limit_steps=20).summary
    ((own,), (low,)) = SIZES
    high = summary["misses"] - summary["misses_low"] - summary["misses_skipped"]
    assert summary["bytes_storage"] == high * own + summary["misses_low"] * low > 0
    assert summary["bytes_h2d"] == 0


def test_gpus_that_slice_experts_hold_a_part_of_every_variant() -> None:
    """All high is the sliced run of one format; low ones copy their parts, on each GPU."""
    both = {"parallelism": {"expert": 2, "experts": "tensor"}}
    one = run({**BASE, **both, "experts": {"capacity": "6 slots/layer"}}, limit_steps=20).summary
    int2 = {**LOW, "format": "int2", "group": 32}
    given = {"capacity": "8 slots/layer", "variants": {"high": HIGH, "low": int2}}
    all_high = {**CHOOSE, "high": "100 %", "low": "100 %"}
    many = run({**BASE, **both, "experts": {**given, "choose": all_high}}, limit_steps=20).summary
    assert {key: many[key] for key in SAME} == {key: one[key] for key in SAME}
    mixed = run({**BASE, **both, "experts": {**given, "choose": CHOOSE}}, limit_steps=20).summary
    built = build(load_experiment({**BASE, **both, "experts": given}).experiment, 1).case
    assert built.variants is not None
    own, low = (experts[0].bytes for experts in built.variants.experts)
    (whole,), (whole_low,) = SIZES[0], set(expert_bytes(load_model("gpt-oss-20b@experts=int2_g32")))
    assert 2 * own >= whole > own
    assert 2 * low >= whole_low > low
    high = mixed["misses"] - mixed["misses_low"] - mixed["misses_skipped"]
    assert mixed["bytes_h2d"] == high * own + mixed["misses_low"] * low
    assert mixed["misses_low"] > 0
