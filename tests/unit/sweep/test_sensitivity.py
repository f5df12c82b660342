"""Sensitivity: every input moves the speed the way it must, and guesses are named."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

import moesim
from moesim.cli.main import main
from moesim.config.errors import InputError
from moesim.report.page import page_of
from moesim.report.sweep.sensitivity import draw, frame
from moesim.sweep.sensitivity import (
    KERNELS,
    SLOWER_CORES,
    SOFTWARE,
    Input,
    Moved,
    Sensitivity,
    in_words,
)

pytestmark = pytest.mark.usefixtures("unrendered")

TINY: dict[str, Any] = {
    "name": "tiny",
    "model": "small-moe",
    "hardware": "rtx-4060-8gb",
    "trace": "traces/small-moe.parquet",
    "workload": {"requests": 2},
}
LINK, DRAM, SLOTS = "link between host and GPU", "DRAM bandwidth", "expert slots a layer"


def speeds(found: Sensitivity) -> dict[str, list[float]]:
    return {one.title: [run.throughput or 0.0 for run in one.runs] for one in found.inputs}


def test_what_is_loaded_moves_with_link_and_slots_and_not_with_the_host(tmp_path: Path) -> None:
    loading = {**TINY, "experts": {"capacity": "4 slots/layer"}}
    found = moesim.sensitivity(loading, by="50 %", out=tmp_path / "out")
    told = speeds(found)
    for title in (LINK, SLOTS, "GPU memory bandwidth"):
        slower, faster = told[title]
        assert slower < found.as_is < faster
    assert told[DRAM] == [found.as_is, found.as_is]
    assert [one.span for one in found.inputs] == sorted(
        (o.span for o in found.inputs), reverse=True
    )
    assert found.measure_first is not None
    again = moesim.sensitivity(loading, by="50 %", out=tmp_path / "out")
    assert speeds(again) == told


def test_what_the_cpu_computes_moves_with_dram_and_its_prior(tmp_path: Path) -> None:
    machine = {"gpu": "rtx-3090", "host": "ddr4-3200-2ch-64gb"}
    cpu = {
        **TINY,
        "hardware": machine,
        "software": "llama.cpp",
        "experts": {"on_cpu": {"layers": 8}},
    }
    found = moesim.sensitivity(cpu, out=tmp_path / "out")
    told = speeds(found)
    assert told[DRAM][0] < found.as_is < told[DRAM][1]
    assert SLOTS not in told  # all of them, in the layers that have any
    assert told[LINK] == [found.as_is, found.as_is] or max(told[LINK]) < 1.02 * found.as_is
    (share,) = (one for one in found.inputs if one.title.startswith("experts on the CPU"))
    assert share.guess
    assert share.ends[0] < found.as_is < share.ends[1]


def test_what_other_sockets_add_is_a_guess_unless_it_is_said(tmp_path: Path) -> None:
    """One that adds all of itself is as fast as a host of which that is said."""
    cpu = {**TINY, "software": "llama.cpp", "experts": {"on_cpu": {"layers": 8}}}
    told = {}
    for name, host in (("one", {}), ("all", {"remote_node_fraction": "100 %"})):
        machine = {"gpu": "rtx-3090", "host": {"base": "epyc-7003-2s", **host}}
        told[name] = moesim.sensitivity({**cpu, "hardware": machine}, out=tmp_path / name)
    title = "experts on the CPU: what the other NUMA nodes add"
    assert speeds(told["one"])[title] == [told["all"].as_is]
    assert told["one"].as_is != told["all"].as_is
    assert next(one for one in told["one"].inputs if one.title == title).guess
    assert title not in speeds(told["all"])


def test_a_context_that_is_asked_for_is_no_guess(tmp_path: Path) -> None:
    """It had been the one to measure first, of an experiment in which all else is known."""
    workload = {"requests": 2, "phase": "decode", "context": 256}
    found = moesim.sensitivity({**TINY, "workload": workload}, out=tmp_path / "out")
    (context,) = (one for one in found.inputs if one.title.startswith("context: "))
    assert (context.runs[0].words, context.guess) == ("the trace's own lengths", False)
    assert context.span > 0
    assert found.measure_first is not context
    assert "how long your requests are" not in " ".join(in_words(found))


def test_what_does_not_run_is_no_change_of_nothing(tmp_path: Path) -> None:
    """Slots beyond the card's memory had stood there as ends that change nothing."""
    small = "{base: rtx-4060-8gb, gpu: {memory: 520 MiB, context_reserve: 500 MiB}}"
    full = {**TINY, "hardware": small, "experts": {"capacity": "17 slots/layer"}}
    found = moesim.sensitivity(full, by="50 %", out=tmp_path / "out")
    (slots,) = (one for one in found.inputs if one.title == SLOTS)
    assert [one.words for one in slots.runs] == ["11 slots", "26 slots (does not run)"]
    (why,) = (one for one in in_words(found) if "does not run" in one)
    assert why.startswith(f"{SLOTS}: 26 slots (does not run): GPU 0 needs ")


def test_the_first_guess_that_moves_it_is_to_be_measured() -> None:
    def one(title: str, speed: float, *, guess: bool) -> Input:
        return Input(title, (Moved(title, "x 2", guess, speed),), 10.0)

    inputs = (one(SLOTS, 15.0, guess=False), one(LINK, 12.0, guess=True))
    told = in_words(Sensitivity("a", Path(), 10.0, 1.25, inputs))
    assert told[0] == f"Moves it most: {SLOTS}, +0.0 to +50.0 %."
    assert told[1].startswith("Measure first: copies to your GPU")
    assert told[1].endswith(f"({LINK} x 2 to x 2, no range being known: +0.0 to +20.0 %).")
    none = in_words(Sensitivity("a", Path(), 10.0, 1.25, (one(LINK, 10.01, guess=True),)))
    assert none[1] == "Measure first: nothing here is a guess that moves the speed."


def test_what_has_a_range_lies_between_its_ends_and_is_measured_first(tmp_path: Path) -> None:
    """A link that may be 2.3 times as slow, and launches that may take 3.3 times as long, had moved
    by a tenth, as all did.
    """
    asked = {**TINY, "hardware": "h100-sxm", "software": "vllm", "name": "ranged"}
    loading = {**asked, "experts": {"capacity": "4 slots/layer"}}
    found = moesim.sensitivity(loading, by="10 %", out=tmp_path / "out")
    by = {one.title: one for one in found.inputs}
    rows = moesim.run(loading).summary["price_interval"]["factors"]
    ends = {one["of"].split(" ")[0]: (one["low"], one["high"]) for one in rows}
    low, high = ends["link"]
    assert low == pytest.approx(1), "the fastest known"
    assert [run.words for run in by[LINK].runs] == [f"x {1 / high:.3g}"]
    low, high = ends["software"]
    assert [run.words for run in by[SOFTWARE].runs] == [f"x {high:.3g}"]
    assert by[SLOTS].mark == ""
    assert not by[SLOTS].ranged
    assert found.measure_first is found.inputs[0] is by[SOFTWARE]
    assert by[LINK].mark == " (its range)"
    what = "your engine: 'moesim calibrate software'"
    assert in_words(found)[-1].startswith(f"Measure first: {what} ({SOFTWARE} by its range: -")
    assert frame(found).groupby("input")["ranged"].all()[[LINK, SLOTS]].tolist() == [True, False]


def test_the_longest_bar_does_not_touch_the_frame() -> None:
    inputs = (Input(LINK, (Moved(LINK, "x 2", throughput=6.0),), 10.0),)
    axes = Figure().subplots()
    draw(Sensitivity("a", Path(), 10.0, 1.25, inputs), axes)
    assert axes.get_xlim()[0] < -40.5


def test_more_cores_that_are_slower_are_explained() -> None:
    """Their threads wait for one another: a table alone looked like a mistake."""
    for more, told in ((9.9, True), (10.0, False), (10.1, False)):
        runs = tuple(Moved("CPU cores", "x", throughput=speed) for speed in (9.8, more))
        of_cores = Sensitivity("a", Path(), 10.0, 1.25, (Input("CPU cores", runs, 10.0),))
        assert (SLOWER_CORES in in_words(of_cores)) == told


@pytest.mark.usefixtures("rendered")
def test_the_command_writes_bars_and_their_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    sets = ["--set", "workload.requests=1", "--set", "experts.capacity=8 slots/layer"]
    assert (
        main(["sensitivity", "experiments/quickstart.yaml", *sets, "-o", str(out), "-j", "1"]) == 0
    )
    told = capsys.readouterr().out
    assert "Moves it most: " in told
    rows = pd.read_csv(out / "sensitivity.csv")
    assert {LINK, DRAM, SLOTS} <= set(rows["input"])
    assert (out / "sensitivity.png").is_file()
    page = page_of(out)
    assert page.verdict[0] in told
    assert page.board is not None
    assert len(page.board.rows) == len(rows)


@pytest.mark.parametrize("by", ["0 %", "120 %", "fast"])
def test_a_share_that_is_none_is_refused(by: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^--by: "):
        moesim.sensitivity(TINY, by=by, out=tmp_path / "out")


def test_where_arrivals_set_the_speed_of_all_that_of_a_request_moves(tmp_path: Path) -> None:
    served: dict[str, Any] = {**TINY["workload"], "batching": {"kind": "continuous"}}
    for arrivals, told in (
        ({"kind": "poisson", "request_rate": "1 requests/s"}, True),
        ({}, False),
    ):
        workload = {**served, **({"arrivals": arrivals} if arrivals else {})}
        found = moesim.sensitivity({**TINY, "workload": workload}, out=tmp_path / str(told))
        assert in_words(found)[0].startswith("note: workload.arrivals: ") is told
        assert found.unit == ("tokens/s a request" if told else "tokens/s")
        assert max(one.span for one in found.inputs) > 0.01
        assert ("requests that come" in speeds(found)) is told
        column = "tokens_per_s_a_request" if told else "tokens_per_s"
        assert list(frame(found))[3] == column


def test_what_is_read_moves_with_the_drive_and_its_page_faults(tmp_path: Path) -> None:
    read = {
        **TINY,
        "hardware": {"gpu": "rtx-3090", "storage": "nvme-pcie4"},
        "software": "llama.cpp",
        "experts": {"capacity": "4 slots/layer", "host": {"capacity": "50 %"}},
    }
    found = moesim.sensitivity(read, by="50 %", out=tmp_path / "out")
    told = speeds(found)
    slower, faster = told["what comes from the drive a second"]
    assert slower < found.as_is < faster
    low, high = told["page faults: share of the drive's reads"]
    assert low <= found.as_is < high
    loading = {**TINY, "experts": {"capacity": "4 slots/layer"}}
    without = moesim.sensitivity(loading, out=tmp_path / "without")
    assert "what comes from the drive a second" not in speeds(without)


@pytest.mark.usefixtures("rendered")
def test_a_long_name_leaves_the_bars_their_place(tmp_path: Path) -> None:
    """Those that 'moesim init' gives were a line of twice the picture's width."""
    long = {**TINY, "name": "qwen3-235b-a22b-q4_k_m-on-rtx-4080-ddr5-6000-2ch-64gb-nvme-pcie4-4096"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "axes sizes collapsed to zero"
        moesim.sensitivity(long, out=tmp_path / "out")
    height, width, _ = imread(tmp_path / "out" / "sensitivity.png").shape
    assert width < 1.3 * height


def test_clients_and_the_hosts_steps_move_what_is_served(tmp_path: Path) -> None:
    """Neither had been an input, of a service in which the host is most of a step."""
    served = {
        "requests": 6,
        "arrivals": {"kind": "closed_loop", "max_concurrency": 2},
        "lengths": {"kind": "fixed", "input_len": 40, "output_len": 10},
        "routing": {"kind": "draw"},
        "batching": {
            "kind": "continuous",
            "scheduler": {"kind": "vllm", "async_scheduling": False},
        },
    }
    told = speeds(
        moesim.sensitivity(
            {**TINY, "software": "vllm", "workload": served}, by="50 %", out=tmp_path / "out"
        )
    )
    fewer, more = told["clients"]
    assert fewer < more
    less, longer = told["software's launches, copies, waits and steps"]
    assert less > 1.1 * longer


def test_kernels_that_were_measured_are_no_guess_and_anothers_link_is(tmp_path: Path) -> None:
    """The bandwidth's share of an H100 is a prior, which prices little of a run by its fits."""
    measured = {"hardware": "h100-sxm", "model": "qwen3-30b-a3b", "trace": "stand-in:qwen3-30b-a3b"}
    loading = {"hardware": "rtx-4060-8gb", "experts": {"capacity": "4 slots/layer"}}
    guesses = {}
    for asked in (measured, loading):
        found = moesim.sensitivity({**TINY, **asked}, out=tmp_path / str(asked["hardware"]))
        guesses[asked["hardware"]] = {one.title: one.guess for one in found.inputs}
    assert not guesses["h100-sxm"]["GPU memory bandwidth"]
    assert guesses["rtx-4060-8gb"]["GPU memory bandwidth"]
    assert guesses["rtx-4060-8gb"][LINK]


def test_links_between_gpus_move_what_they_send_one_another(tmp_path: Path) -> None:
    """Nothing had, of any number of GPUs. An H100's bandwidth is a prior, but its collectives were
    measured.
    """
    prompts = {"requests": 4, "phase": "prefill", "batching": {"kind": "static", "batch_size": 4}}
    title = "links between GPUs"
    for card in ("h100-sxm", "rtx-4090"):
        asked = {**TINY, "hardware": card, "workload": prompts, "parallelism": {"expert": 2}}
        found = moesim.sensitivity(asked, by="50 %", out=tmp_path / card)
        (links,) = (one for one in found.inputs if one.title == title)
        slower, faster = (one.throughput or 0.0 for one in links.runs)
        assert slower < found.as_is < faster
        assert not links.guess
    assert title not in speeds(moesim.sensitivity(TINY, out=tmp_path / "alone"))


def test_a_sweep_that_is_left_out_is_told(tmp_path: Path) -> None:
    swept = {**TINY, "sweep": {"experts.capacity": ["4 slots/layer", "all"]}}
    found = moesim.sensitivity(swept, out=tmp_path / "out")
    assert in_words(found)[0].startswith("note: the sweep is left out; --set ")
    small = {**swept, "hardware": "{base: rtx-4060-8gb, gpu: {memory: 513 MiB}}"}
    with pytest.raises(
        InputError, match=r"does not run as it is: .*; the sweep is left out; --set"
    ):
        moesim.sensitivity(small, out=tmp_path / "small")
    assert moesim.sensitivity(TINY, out=tmp_path / "small").inputs, "mended, in the same folder"


def test_kernels_whose_fits_are_off_are_what_to_measure(tmp_path: Path) -> None:
    """'Nothing here is a guess', of a run whose prices left a fifth open to either side."""
    named = {"model": "gpt-oss-20b", "hardware": "h100-sxm", "trace": "gpt-oss-20b"}
    asked = {**TINY, **named, "software": "vllm", "workload": {"requests": 1}}
    found = moesim.sensitivity(asked, out=tmp_path / "out")
    (kernels,) = (one for one in found.inputs if one.title == KERNELS)
    made = moesim.run(asked).summary["price_interval"]
    whole, (low, high) = made["output_throughput"], kernels.ends
    assert (low, high) == pytest.approx((whole["low"], whole["high"]), rel=0.02)
    assert found.measure_first is kernels
    assert "Measure first: your GPU's kernels: 'moesim calibrate collect'" in in_words(found)[-1]
    prior = moesim.sensitivity(TINY, out=tmp_path / "prior")
    assert KERNELS not in speeds(prior)


def test_what_a_run_warns_of_is_told(tmp_path: Path) -> None:
    """Slots that stay empty moved nothing, with no word."""
    asked = {**TINY, "software": "llama.cpp", "experts": {"capacity": "4 slots/layer",
                                                          "miss": {"kind": "cpu"}}}  # fmt: skip
    told = in_words(moesim.sensitivity(asked, out=tmp_path / "out"))
    assert sum("experts.initial: 'empty' with miss 'cpu'" in line for line in told) == 1


def test_why_it_does_not_run_names_keys_as_they_are_written(tmp_path: Path) -> None:
    """'write workload.routing.prompts from: decode', which is no key."""
    served = {"requests": 2, "batching": {"kind": "continuous", "scheduler": {"kind": "vllm"}},
              "arrivals": {"kind": "closed_loop", "max_concurrency": 1},
              "lengths": {"kind": "fixed", "input_len": 30, "output_len": 5},
              "routing": {"kind": "draw"}}  # fmt: skip
    asked = {**TINY, "model": "gpt-oss-20b", "trace": "gpt-oss-20b", "hardware": "h100-sxm"}
    with pytest.raises(InputError, match=r"write workload\.routing\.prompts_from: decode"):
        moesim.sensitivity({**asked, "workload": served}, out=tmp_path / "out")
