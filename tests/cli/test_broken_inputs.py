"""Broken experiments: every mistake in one line with its place, exit code 2, never a traceback.

``row``: a name, what is appended to a good experiment of four lines, and for each mistake the
place, the path and words of the message; ``whole``: the same with the whole text. Add rows at will.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from moesim.cli.main import main

GOOD = "model: gpt-oss-20b\nhardware: rtx-4060-8gb\ntrace: t.parquet\nname: x\n"


@dataclass(frozen=True)
class Row:
    id: str
    text: str
    mistakes: tuple[tuple[str, ...], ...]
    options: tuple[str, ...] = ()


def row(name, text, *mistakes, options=()):
    return Row(name, GOOD + text, mistakes, options)


def whole(name, text, *mistakes):
    return Row(name, text, mistakes)


SYNTAX = [
    whole("empty", "", ("1:1", "", "is empty", "'name: value'")),
    whole("only a comment", "# nothing\n", ("1:1", "", "is empty")),
    whole("a list", "- a\n- b\n", ("1:1", "", "an experiment is keys with values")),
    whole(
        "a name that is a path",
        GOOD.replace("name: x", "name: ../x"),
        ("4:7", "name", "holds no '/'"),
    ),
    whole(
        "a name that is no folder's",
        GOOD.replace("name: x", 'name: "a\\0b"'),
        ("4:7", "name", "holds no control character"),
    ),
    whole("a word", "hello\n", ("1:1", "", "an experiment is keys with values")),
    row("tab", "experts:\n\tcapacity: all\n", ("6:1", "", "a tab cannot indent", "use spaces")),
    row("open bracket", "figures: [a\n", ("6:1", "", "not YAML")),
    row("open quote", "software: 'ideal\n", ("6:1", "", "not YAML", "quotes")),
    row("two colons", "seed: a: b\n", ("5:8", "", "not YAML")),
    row("two documents", "---\nseed: 1\n", ("5:1", "", "second document")),
    row("control character", "software: a\x01b\n", ("5:12", "", "U+0001")),
    row("duplicate key", "seed: 1\nseed: 2\n", ("6:1", "seed", "twice", "line 5, column 1")),
    row("anchor and alias", "seed: &s 1\nsoftware: *s\n", ("5:7", "", "&s"), ("6:11", "", "*s")),
    row("tag", "seed: !!int '1'\n", ("5:7", "", "the tag")),
    row("merge key", "experts:\n  <<: {order: id}\n", ("6:3", "experts", "merge key")),
    row("huge number", "seed: 1e999\n", ("5:7", "seed", "too large")),
]  # fmt: skip

KEYS = [
    whole("names that are 0", "model: 0\nhardware: 0\nsoftware: 0\n",
          ("1:8", "model", "neither a known name"), ("2:11", "hardware", "neither a known name"),
          ("3:11", "software", "neither a known name")),
    row("unknown key", "sed: 1\n", ("5:1", "sed", "not a known key", "did you mean 'seed'?")),
    row("huge batch", "workload: {batching: {kind: refill, batch_size: 100000000000000000000}}\n",
        ("5:49", "workload.batching.batch_size", "too large", "1048576 or less")),
    row("misplaced key", "capacity: all\n", ("5:1", "capacity", "allowed: cost, decide, energy")),
    row("unknown nested key", "experts:\n  capcity: all\n",
        ("6:3", "experts.capcity", "allowed: capacity, choose, host", "did you mean 'capacity'?")),
    row("parameter of another kind", "gating: {kind: dynamic, capacity_fraction: 25 %}\n",
        ("5:25", "gating.capacity_fraction", "allowed: kind")),
    whole("nothing required", "seed: 1\n", ("1:1", "model", "is missing", "config.json"),
          ("1:1", "hardware", "is missing")),
    row("empty value", "seed:\n", ("5:1", "seed", "is empty; a whole number is expected")),
    row("empty section", "experts:\n", ("5:1", "experts", "is empty", "capacity, choose, host")),
    row("a word for a section", "workload: decode\n",
        ("5:11", "workload", "'decode' is text", "arrivals, batching, context, lengths, phase")),
]  # fmt: skip

VALUES = [
    row("text for a number", "seed: '3'\n", ("5:7", "seed", "'3' is text; a whole number")),
    row("word for a number", "seed: three\n", ("5:7", "seed", "'three' is text")),
    row("part of a number", "seed: 1.5\n", ("5:7", "seed", "a whole number is expected")),
    row("negative seed", "seed: -1\n", ("5:7", "seed", "-1 is too small; 0 or more")),
    row("number for text", "figures: [3]\n", ("5:11", "figures.0", "'3' is not a known figure")),
    row("number for a name", "software: 3\n", ("5:11", "software", "'3' is neither")),
    row("truth for a number", "parallelism: {expert: true}\n",
        ("5:23", "parallelism.expert", "truth value")),
    row("no GPU", "parallelism: {expert: 0}\n", ("5:23", "parallelism.expert", "1 or more")),
    row("nine GPUs", "parallelism: {expert: 9}\n",
        ("5:23", "parallelism.expert", "'rtx-4060-8gb' has no network", "expert: 8")),
    row("no node", "parallelism: {nodes: 0}\n", ("5:22", "parallelism.nodes", "1 or more")),
    row("nodes without a network", "parallelism: {expert: 4, nodes: 2}\n",
        ("5:33", "parallelism.nodes", "no network", "no nodes")),
    row("no batch", "workload: {batching: {kind: static, batch_size: 0}}\n",
        ("5:49", "workload.batching.batch_size", "1 or more")),
    row("no requests", "workload: {requests: 0}\n", ("5:22", "workload.requests", "1 or more")),
    row("unknown phase", "workload: {phase: decod}\n",
        ("5:19", "workload.phase", "'decod'", "allowed: all, decode", "did you mean 'decode'?")),
    row("unknown execution", "execution: graphs\n",
        ("5:12", "execution", "eager, graph, piecewise", "did you mean 'graph'?")),
    row("unknown engine", "engine: fast\n", ("5:9", "engine", "allowed: auto, des")),
    row("no for kernels", "experts: {kernels: no}\n",
        ("5:20", "experts.kernels", "'no' is not known", "grouped, serial")),
    row("figures as one word", "figures: memory_over_time\n", ("5:10", "figures", "a list")),
    row("unknown figure", "figures: [memory_over_tim]\n",
        ("5:11", "figures.0", "not a known figure", "did you mean 'memory_over_time'?")),
]  # fmt: skip

UNITS = [
    row(f"capacity {value}", f"experts:\n  capacity: {value}\n",
        ("6:13", "experts.capacity", *words))
    for value, *words in [
        ("8", "8 is not a capacity", "8 slots/layer"),
        ("'8'", "'8' has no unit", "8 slots/layer"),
        ("8 Gb", "bits", "'1 GB'", "'8 GB'"),
        ("-4 slots/layer", "1 or more"),
        ("0 slots/layer", "1 or more"),
        ("1.5 slots/layer", "whole number"),
        ("8 slot", "unknown unit 'slot'", "8 slots/layer"),
        ("8 gib", "unknown unit 'gib'"),
        ("120 %", "more than 100 %"),
        ("0 %", "no room"),
        ("some", "not a capacity", "'all'"),
        ("[8 slots/layer]", "not a capacity"),
    ]
] + [
    row("warm-up without unit", "warm_up: 10\n", ("5:10", "warm_up", "10 has no unit", "'25 %'")),
    row("warm-up as a fraction", "warm_up: 0.1\n", ("5:10", "warm_up", "0.1 has no unit")),
    row("drop rule", "gating: {kind: gshard, drop: last_come}\n",
        ("5:30", "gating.drop", "'last_come' is not known", "first_come, highest_gate_first")),
    row("no room", "gating: {kind: gshard, factor: 0}\n",
        ("5:32", "gating.factor", "more than 0.0 is allowed")),
    row("batched without padding", "experts: {kernels: batched}\n",
        ("5:20", "experts.kernels", "equal rows", "'dynamic' gating", "write grouped")),
    row("capacity fraction", "gating: {kind: static, capacity_fraction: 1}\n",
        ("5:43", "gating.capacity_fraction", "no unit")),
]  # fmt: skip

COMPONENTS = [
    row("unknown policy", "experts:\n  policy: {kind: lruu}\n",
        ("6:18", "experts.policy.kind", "'lruu' is not known", "fifo, gate_score",
         "did you mean 'lru'?")),
    row("unknown policy as a word", "experts:\n  policy: lruu\n",
        ("6:11", "experts.policy.kind", "'lruu' is not known", "did you mean 'lru'?")),
    row("no kind", "placement: {}\n", ("5:12", "placement.kind", "allowed: affinity")),
    row("recall beyond all", "experts: {prefetch: {kind: oracle, recall: 150 %}}\n",
        ("5:44", "experts.prefetch.recall", "'150 %' is more than 100 %")),
    row("recall as a fraction", "experts: {prefetch: {kind: oracle, recall: 0.5}}\n",
        ("5:44", "experts.prefetch.recall", "0.5 has no unit", "'25 %'")),
    row("precision of nothing", "experts: {prefetch: {kind: oracle, precision: 0 %}}\n",
        ("5:21", "experts.prefetch", "'precision' is 0 %")),
    row("first part as a fraction", "experts: {prefetch: {kind: next_layer, first_part: 0.25}}\n",
        ("5:52", "experts.prefetch.first_part", "0.25 has no unit", "'25 %'")),
    row("budget below an expert", "experts: {prefetch: {kind: oracle, budget: 10 MB}}\n",
        ("5:44", "experts.prefetch.budget", "one expert of gpt-oss-20b has 13236480 bytes",
         "write '13236480 B' or more")),
    row("no layer ahead", "experts: {prefetch: {kind: history, layers: 0}}\n",
        ("5:45", "experts.prefetch.layers", "1 or more is allowed")),
    row("prefetch past lists", "experts: {prefetch: {kind: history}, policy: {kind: arc}}\n",
        ("5:21", "experts.prefetch", "'arc', which keeps lists", "such as lru")),
    row("prefetch and blocking copies",
        "software: hf-eager\nexperts: {prefetch: {kind: history}}\n",
        ("6:21", "experts.prefetch", "'hf-eager' does not", "another software")),
    row("prefetch around the caches",
        "workload: {phase: all, prefill: {experts: bypass}}\nexperts: {prefetch: {kind: oracle}}\n",
        ("6:21", "experts.prefetch", "prefill: {experts: cache}")),
    row("no plan named", "placement: {kind: plan}\n", ("5:12", "placement.file", "is missing")),
    row("plan that is not there", "placement: {kind: plan, file: p.json}\n",
        ("5:31", "placement.file", "there is no file 'p.json'")),
    row("first part", "placement: {kind: greedy, first_part: 0 %}\n",
        ("5:39", "placement.first_part")),
    row("unknown gating", "gating: {kind: dynamics}\n",
        ("5:16", "gating.kind", "did you mean 'dynamic'?")),
    row("unknown batching", "workload: {batching: {kind: refil}}\n",
        ("5:29", "workload.batching.kind", "did you mean 'refill'?")),
    row("unknown prefetch", "experts: {prefetch: {kind: next}}\n",
        ("5:28", "experts.prefetch.kind", "allowed: history, next_layer, none, oracle, recorded")),
    row("unknown miss", "experts: {miss: {kind: wait}}\n",
        ("5:24", "experts.miss.kind", "allowed: background, cheapest, cpu, load, skip")),
]  # fmt: skip

NAMES = [
    whole("unknown names", "model: gpt-oss-20\nhardware: rtx-4060-8g\ntrace: tt.parquet\n",
          ("1:8", "model", "'gpt-oss-20'", "did you mean 'gpt-oss-20b'?"),
          ("2:11", "hardware", "'rtx-4060-8g'", "did you mean 'rtx-4060-8gb'?"),
          ("3:8", "trace", "no file 'tt.parquet'; looked in", "did you mean 't.parquet'?")),
    row("unknown software", "software: idea\n",
        ("5:11", "software", "did you mean 'ideal'?")),
    whole("no such paths", "model: a/config.json\nhardware: h.yaml\ntrace: .\n",
          ("1:8", "model", "no file 'a/config.json'"), ("2:11", "hardware", "no file 'h.yaml'"),
          ("3:8", "trace", "'.' is a folder")),
]  # fmt: skip

RULES = [
    row("graph cannot load experts", "execution: graph\nexperts: {capacity: 8 slots/layer}\n",
        ("5:12", "execution", "cannot load missing experts", "decide: device", "capacity: all")),
    row("graph cannot split", "parallelism: {expert: 2}\nexecution: graph\n",
        ("6:12", "execution", "unevenly", "decide: device")),
    row("graph cannot call one by one", "execution: graph\nexperts: {kernels: serial}\n",
        ("5:12", "execution", "one by one", "decide: device", "kernels: grouped")),
    row("encode without an encoder", "workload: {phase: encode}\n",
        ("5:19", "workload.phase", "an encoder; gpt-oss-20b has none")),
]  # fmt: skip

SWEEPS = [
    row("sweep as a list", "sweep: [a]\n", ("5:8", "sweep", "keys with values are expected")),
    row("axis without values", "sweep:\n  seed: []\n", ("6:9", "sweep.seed", "1 or more values")),
    row("axis as a value", "sweep:\n  seed: 3\n", ("6:9", "sweep.seed", "a list is expected")),
    row("axis that does not exist", "sweep:\n  experts.capcity: [all]\n",
        ("6:3", "sweep.experts.capcity", "no key 'capcity' under 'experts'", "'capacity'?")),
    row("axis below a value", "sweep:\n  seed.x: [1]\n", ("6:3", "sweep.seed.x", "no keys under")),
    row("axis of the sweep", "sweep:\n  sweep.seed: [1]\n", ("6:3", "sweep.sweep.seed", "swept")),
    row("axis twice", "sweep:\n  seed: [1]\n  seed, records: [[1, step]]\n",
        ("7:3", "sweep.seed, records", "'seed' is an axis twice")),
    row("values of an axis", "sweep:\n  experts.capacity: [4 slots/layer, 8, 8 Gb]\n",
        ("6:37", "sweep.experts.capacity", "8 is not a capacity"),
        ("6:40", "sweep.experts.capacity", "bits")),
    row("kind of an axis", "sweep:\n  experts.policy.kind: [lru, lruu]\n",
        ("6:30", "sweep.experts.policy.kind", "'lruu' is not known", "allowed: arc")),
    row("name in an axis", "sweep:\n  model: [gpt-oss-20b, gpt-oss-21b]\n",
        ("6:24", "sweep.model", "did you mean 'gpt-oss-20b'?")),
    row("repeated value", "sweep:\n  seed: [1, 2, 1]\n", ("6:16", "sweep.seed", "occurs twice")),
    row("zipped axis of the wrong length", "sweep:\n  seed, records: [[1, step], [2]]\n",
        ("6:30", "sweep.seed, records", "[2] does not fit; write a list of 2 values")),
    row("value of a zipped axis", "sweep:\n  seed, records: [[1, step], [2, stop]]\n",
        ("6:34", "sweep.seed, records", "'stop' is not known", "did you mean 'step'?")),
    row("parameter that a swept kind does not have",
        "sweep:\n  gating.kind: [dynamic, static]\n  gating.capacity_fraction: [25 %]\n",
        ("7:30", "sweep.gating.capacity_fraction", "not a known key")),
    row("combination of an axis", "execution: graph\nsweep:\n  parallelism.expert: [1, 2]\n",
        ("7:27", "sweep.parallelism.expert", "execution: 'graph'", "unevenly")),
]  # fmt: skip

OPTIONS = [
    row("option without value", "", ("--set seed", "", "write --set PATH=VALUE"),
        options=("seed",)),
    row("option with a wrong value", "", ("--set seed=x", "seed", "'x' is text"),
        options=("seed=x",)),
    row("option with a huge number", "", ("--set seed=1e999", "", "1e999 is too large"),
        options=("seed=1e999",)),
    row("option without unit", "", ("--set experts.capacity=8", "experts.capacity", "8 slots"),
        options=("experts.capacity=8",)),
    row("option with an unknown key", "", ("--set expert.order=id", "expert", "'experts'?"),
        options=("expert.order=id",)),
    row("option below a value", "", ("--set name.x=1", "name.x", "name has no keys"),
        options=("name.x=1",)),
    row("file and option", "records: all\n", ("5:10", "records", "allowed: expert"),
        ("--set engine=x", "engine", "allowed: auto, des"), options=("engine=x",)),
]  # fmt: skip

ROWS = [*SYNTAX, *KEYS, *VALUES, *UNITS, *COMPONENTS, *NAMES, *RULES, *SWEEPS, *OPTIONS]


@pytest.mark.parametrize("broken", ROWS, ids=lambda broken: broken.id)
def test_a_broken_experiment(broken, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.parquet").touch()
    (tmp_path / "x.yaml").write_text(broken.text, encoding="utf-8")
    options = [text for option in broken.options for text in ("--set", option)]
    assert main(["check", "x.yaml", *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == len(broken.mistakes), err
    for line, (place, path, *words) in zip(lines, broken.mistakes, strict=True):
        where = place if place.startswith("--set") else f"x.yaml:{place}"
        assert line.startswith(f"{where}: {path}: " if path else f"{where}: ")
        for word in words:
            assert word in line


def test_there_are_enough_rows():
    assert len(ROWS) >= 40
    assert len({broken.id for broken in ROWS}) == len(ROWS)


def test_many_mistakes_come_at_once_in_the_order_of_the_lines(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = "modl: x\nhardware: h1000\nseed: x\nexperts: {capacity: 8}\nsweep: {seeds: [1]}\n"
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    assert main(["check", "x.yaml", "--set", "engine=x"]) == 2
    places = [line.split(": ")[0] for line in capsys.readouterr().err.splitlines()]
    assert places == [
        "x.yaml:1:1", "x.yaml:2:11", "x.yaml:3:7", "x.yaml:4:21",
        "x.yaml:5:9", "--set engine=x",
    ]  # fmt: skip


def test_files_that_are_no_yaml(tmp_path, capsys):
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    for path, words in (
        (tmp_path / "none.yaml", "there is no such file"),
        (tmp_path, "is a folder"),
        (tmp_path / "latin.yaml", ":1:10: the byte 0xE9 is not UTF-8"),
    ):
        assert main(["check", str(path)]) == 2
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1
        assert words in err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("modle: gpt-oss-20b\nhardware: rtx-3090\n", "did you mean 'model'?"),
        ("model: true\nhardware: rtx-3090\n", "model: true is a truth value"),
        (
            "model: gpt-oss-20b\nhardware: rtx-3090\nquality: {tabel: x.csv}\n",
            "did you mean 'table'?",
        ),
    ],
)
def test_one_cause_is_one_line(text, told, tmp_path, monkeypatch, capsys):
    """A key that is missing because it is misspelt, and a value that can be no name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    assert main(["check", "x.yaml"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
