"""``moesim check``: the whole experiment with origins, and inputs that fit together."""

from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import moesim
from moesim.cli.main import main
from moesim.config.errors import InputError
from moesim.trace import Phase, RoutingTrace, TraceMetadata, write_trace

TEXT = """\
model: {model}
hardware: rtx-4060-8gb
trace: t.parquet
experts: {{capacity: 8 slots/layer}}
sweep:
  experts.policy.kind: [lru, lfu]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shape = (4, 24, 4)
    ids = np.broadcast_to(np.arange(4, dtype=np.uint16), shape).copy()
    metadata = TraceMetadata(
        model=None, experts=32, top_k=4, moe_layer_ids=tuple(range(24)),
        recorder="test", source="test", licence="CC0-1.0",
    )  # fmt: skip
    trace = RoutingTrace(
        expert_ids=ids,
        request_id=np.zeros(4, np.int32),
        position=np.arange(4, dtype=np.int32),
        phase=np.full(4, Phase.DECODE, np.uint8),
        gate_weights=None,
        predicted_ids=None,
        metadata=metadata,
    )
    write_trace(trace, tmp_path / "t.parquet")
    (tmp_path / "x.yaml").write_text(TEXT.format(model="gpt-oss-20b"), encoding="utf-8")
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_it_prints_every_value_with_its_origin(capsys):
    assert main(["check", "x.yaml", "--set", "seed=3"]) == 0
    lines = {line.split("#")[0].strip(): line for line in capsys.readouterr().out.splitlines()}
    assert lines["model: gpt-oss-20b"].endswith("# x.yaml:1")
    assert lines["capacity: 8 slots/layer"].endswith("# x.yaml:4")
    assert lines["seed: 3"].endswith("# --set")
    assert lines["warm_up: 10 %"].endswith("# default")
    assert any("2 points" in line for line in lines.values())


def test_a_trace_that_does_not_fit_the_model(folder, capsys):
    (folder / "x.yaml").write_text(TEXT.format(model="mixtral-8x7b"), encoding="utf-8")
    assert main(["check", "x.yaml"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1


def test_a_damaged_trace(folder, capsys):
    (folder / "t.parquet").write_bytes(b"PAR1 and no more")
    assert main(["check", "x.yaml"]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "t.parquet" in err


BATCH = "workload.batching.batch_size"


@pytest.mark.usefixtures("folder")
def test_a_domain_that_the_trace_has_not_is_seen_before_a_run(capsys):
    asked = ["workload.batching.kind=continuous", "workload.routing.domain=cod"]
    assert main(["check", "x.yaml", *(word for one in asked for word in ("--set", one))]) == 2
    assert (
        "workload.routing.domain: is 'cod', and the trace does not say" in capsys.readouterr().err
    )


CUT = f"warning: {BATCH}: 4 is more than the run's 1 request in phase 'decode'; cut to 1"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("command", ["check", "run", "sweep"])
def test_a_batch_above_the_requests_is_warned_of_once(command, capsys):
    assert main([command, "x.yaml", "--set", f"{BATCH}=4"]) == 0
    assert capsys.readouterr().err.splitlines().count(CUT) == 1
    assert main([command, "x.yaml", "--set", f"{BATCH}=1", "--set", "name=other"]) == 0
    assert "warning" not in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_every_batch_of_a_sweep_above_the_requests_is_named(capsys):
    assert main(["check", "x.yaml", "--set", f"sweep.{BATCH}=[1, 8, 4]"]) == 0
    assert f"{BATCH}: 4 and 8 are more than the run's 1 request" in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_a_sweep_into_a_pipe_has_all_columns(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "30")
    assert main(["sweep", "x.yaml"]) == 0
    out = capsys.readouterr().out
    assert "status" in out
    assert "peak" in out
    assert "ok *" in out


@pytest.mark.usefixtures("folder")
def test_a_run_out_of_memory_says_what_to_do(capsys):
    override = ["--set", "experts.capacity=all", "--set", "experts.policy.kind=lru"]
    assert main(["run", "x.yaml", *override]) == 0
    assert "remedy: experts.capacity: auto" in capsys.readouterr().out


def test_a_prefetch_of_what_is_resident_is_said(capsys, tmp_path):
    options = ["--set", "experts.capacity=all", "--set", "hardware=h100-sxm"]
    for kind, told in (("history", True), ("none", False)):
        choice = ["--set", f"experts.prefetch.kind={kind}", "--set", "workload.requests=1"]
        out = ["--out", str(tmp_path / kind)]
        assert main(["run", "experiments/quickstart.yaml", *options, *choice, *out]) == 0
        assert ("so nothing is prefetched" in capsys.readouterr().err) == told


@pytest.mark.parametrize(
    ("prefetch", "axis", "told"),
    [
        ("{kind: none, layers: 3, budget: 100 MB}", "[lru, fifo]", ["layers", "budget"]),
        ("{kind: none, layers: 1}", "[lru]", []),
        ("{kind: next_layer, layers: 3}", "[lru]", []),
        ("{kind: none, layers: 3}", None, []),
    ],
)
def test_how_to_prefetch_is_said_to_be_without_effect_where_nothing_is(
    capsys, prefetch, axis, told
):
    """At no point: a sweep of kinds may have it for those that prefetch."""
    sweep = (
        f"sweep.experts.policy.kind={axis}"
        if axis
        else "sweep.experts.prefetch.kind=[none, oracle]"
    )
    changes = [f"experts.prefetch={prefetch}", sweep, "workload.requests=1"]
    options = [word for change in changes for word in ("--set", change)]
    assert main(["check", "experiments/quickstart.yaml", *options]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "without effect" in line]
    assert [line.split(": ")[1] for line in lines] == [f"experts.prefetch.{key}" for key in told]


@pytest.mark.parametrize(
    ("prefetch", "told"),
    [
        ("{kind: history}", "'history' started no prefetch: what a layer needed in the last pass"),
        ("{kind: oracle, recall: 0 %}", "'oracle' started no prefetch: what it predicts, if any"),
        ("{kind: oracle}", ""),
    ],
)
def test_a_prefetcher_that_starts_nothing_says_why(capsys, tmp_path, prefetch, told):
    """What LRU keeps is what 'history' predicts: its run is the one without, and said nothing."""
    options = ["--set", f"experts.prefetch={prefetch}", "--set", "workload.requests=1"]
    assert main(["run", "experiments/quickstart.yaml", *options, "--out", str(tmp_path / "o")]) == 0
    err = capsys.readouterr().err
    assert told in err if told else "prefetch" not in err


def test_a_trace_of_fewer_choices_is_told(folder, capsys):
    text = TEXT.format(model="qwen3-30b-a3b").replace("t.parquet", "qwen3-30b-a3b")
    (folder / "x.yaml").write_text(text, encoding="utf-8")
    assert main(["check", "x.yaml"]) == 0
    told = "warning: trace: 'qwen3-30b-a3b' has 6 experts a token, the model 8: loads, reads and"
    assert told in capsys.readouterr().err


LOOP = "workload.arrivals.max_concurrency"


@pytest.mark.parametrize(
    ("sets", "told"),
    [
        ((f"{LOOP}=49", "serving.warm_up=0"), True),  # of 96 requests
        ((f"{LOOP}=48", "serving.warm_up=0"), False),
        ((f"{LOOP}=49", "serving.warm_up=49"), False),
        (("workload.requests=1", f"{LOOP}=1"), False),
    ],
)
def test_clients_that_hardly_ask_again_are_told(sets, told, capsys):
    asked = [word for one in ("sweep=null", *sets) for word in ("--set", one)]
    assert main(["check", "experiments/serving.yaml", *asked]) == 0
    assert ("49 clients and 96 requests" in capsys.readouterr().err) is told


def test_a_search_is_told_what_its_run_is_of(tmp_path, capsys):
    out = ["--vary", LOOP, "--sla", "mean_tpot_ms<=9", "-o", str(tmp_path / "out")]
    sets = ["--set", f"{LOOP}=5", "--set", "workload.requests=6", "--set", "trace=gpt-oss-20b"]
    sets += ["--set", "model=gpt-oss-20b", "--set", "hardware=h100-sxm"]
    sets += ["--set", "workload.routing.prompts_from=decode"]
    assert main(["search", "experiments/serving.yaml", *out, *sets]) == 0
    assert "clients and 6 requests: latencies" in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_requests_that_a_trace_has_not_are_told(capsys):
    """Of batches too: 1000 asked for had been the trace's one, without a word."""
    assert main(["run", "x.yaml", "--set", "workload.requests=1000"]) == 0
    assert "1000 are asked for, and the run has 1, as many" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("sets", "told"),
    [
        (["experts.capacity=64 slots/layer"], "64 slots a layer are more than the 32 experts"),
        (["experts.capacity=32 slots/layer"], ""),
        (["experts.capacity=12 GiB"], ""),
        (["experts.capacity=1 B"], "1 B is less than an expert of each of 24 MoE layers, 317.7 MB"),
        (["experts.capacity=303 MiB"], ""),
        (["experts.capacity=302 MiB"], "each has one slot"),
        (["experts.capacity=160 MiB", "experts.on_cpu={layers: 12}", "experts.miss.kind=cpu"], ""),
        (["experts.capacity=160 MiB", "parallelism={pipeline: 2, expert: 1}"], ""),
        (["experts.capacity=3 %"], "3 % is less than one of the 32 experts"),
        (["experts.capacity=3.125 %"], ""),
        (["experts.capacity=16 slots/layer", "parallelism={expert: 2}"], ""),
        (["experts.capacity=17 slots/layer", "parallelism={expert: 2}"], "than the 16 experts"),
        (
            ["sweep={experts.capacity: [8 slots/layer, 40 slots/layer, 48 slots/layer]}"],
            "40 and 48 slots a layer",
        ),
    ],
)
def test_slots_that_no_expert_is_there_for_are_told(sets, told, capsys):
    words = [word for one in ["sweep={}", "hardware=h100-sxm", *sets] for word in ("--set", one)]
    assert main(["check", "experiments/quickstart.yaml", *words]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if " experts.capacity:" in line]
    assert len(lines) == bool(told)
    assert all(told in line for line in lines)


@pytest.mark.parametrize(
    ("batching", "told"),
    [
        ("{kind: static, batch_size: 12}", ["12 has 8 of the run's 20 requests"]),
        ("{kind: static, batch_size: 10}", []),
        ("{kind: static, batch_size: 24}", []),
        ("{kind: refill, batch_size: 12}", []),
    ],
)
def test_a_last_batch_of_fewer_requests_is_told(batching, told, capsys):
    words = ["--set", "sweep={}", "--set", "figures=[]", "--set", f"workload.batching={batching}"]
    assert main(["check", "experiments/quickstart.yaml", *words]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "the last batch of" in line]
    assert len(lines) == len(told)
    assert all(what in line for line, what in zip(lines, told, strict=True))
    assert all(line.endswith("; write requests: 12") for line in lines)


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("blk", "finds blk.0.attn_q.weight too; only experts can be on the CPU"),
        ("blk[.]7[.]ffn_up", "an expert is on one side as a whole"),
        ("nothing", "'nothing' finds no expert"),
    ],
)
def test_what_a_run_refuses_is_refused_with_the_same_words(
    pattern: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["experiments/quickstart.yaml", "--set", f"experts.on_cpu={{pattern: '{pattern}'}}"]
    alone = [*asked, "--set", "experts.capacity=all", "--set", "sweep=null", "--set", "figures=[]"]
    said = []
    for command in ("check", "run"):
        assert main([command, *alone]) == 2
        said.append(capsys.readouterr().err)
    assert said[0] == said[1]
    assert told in said[0]
    assert main(["check", *asked]) == 0
    err = capsys.readouterr().err
    assert "without the sweep's values it does not run: experts.on_cpu.pattern: " in err
    assert told in err


CHANGES = {
    "experts.on_cpu": ["{layers: 3}", "{layers: 99}", "{layers: [1]}", "{pattern: 'ffn_up_exps'}"],
    "experts.capacity": ["all", "auto", "1 slots/layer", "99 slots/layer", "1 MiB", "25 %"],
    "experts.policy.kind": ["lru", "min", "lfu", "static"],
    "experts.miss.kind": ["load", "cpu", "cheapest", "zero_copy", "skip"],
    "experts.host.capacity": ["none", "auto", "1 GiB"],
    "experts.prefetch.kind": ["none", "next_layer"],
    "hardware": ["rtx-3090", "m4-max-128gb", "{gpu: rtx-3090, storage: nvme-pcie4}", "dgx-h100"],
    "software": ["ideal", "llama.cpp", "vllm"],
    "parallelism.expert": ["2", "3", "8"],
    "parallelism.pipeline": ["2", "99"],
    "engine": ["auto", "replay", "des"],
    "host_layers": ["2", "30"],
    "offload_layers": ["1", "30"],
    "workload.batching.batch_size": ["2", "4"],
    "workload.phase": ["decode", "all", "prefill"],
}
"""Values that go with the others or not."""
drawn_changes = st.dictionaries(st.sampled_from(sorted(CHANGES)), st.integers(0, 5), max_size=4)


@given(changes=drawn_changes)
def test_a_run_refuses_nothing_that_a_check_accepts(changes: dict[str, int]) -> None:
    texts = [f"{key}={CHANGES[key][n % len(CHANGES[key])]}" for key, n in changes.items()]
    sets = [*texts, "sweep=null", "records=summary"]
    file = "experiments/quickstart.yaml"
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        accepted = main(["check", file, *(word for text in sets for word in ("--set", text))]) == 0
    refused = None
    try:
        moesim.run(file, overrides=sets, limit_steps=2)
    except InputError as error:
        refused = error
    assert refused is None or not accepted


def test_batches_of_a_stand_in_have_as_many_requests(capsys: pytest.CaptureFixture[str]) -> None:
    """Each point of a sweep draws its own; 64 were said to be cut to the 32 of the first."""
    sets = ["model=qwen3-30b-a3b@q4_k_m", "trace=stand-in:qwen3-30b-a3b", "figures=[]"]
    sets += ["hardware=h100-sxm", "experts.capacity=all", f"sweep={{{BATCH}: [1, 64]}}"]
    words = [word for text in sets for word in ("--set", text)]
    assert main(["check", "experiments/quickstart.yaml", *words]) == 0
    assert "cut to" not in capsys.readouterr().err
