"""Each example of docs/adding.md is a file as the project would take it, keeps the contract of its
kind, and is found where a package registers it. Its types are looked at by ``make check``
(``scripts/check_examples.py``).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

import moesim
import moesim.testing
from moesim.calibrate.collect.plan import Plan
from moesim.calibrate.collect.shapes import SMALL
from moesim.calibrate.importers.base import File
from moesim.config.registry import kind_of
from moesim.experiment.engine_commands.words import Effect
from moesim.experiment.loading.resolve import load_experiment
from moesim.hardware import load_hardware
from moesim.hardware.cost_model import registry
from moesim.hardware.measurements.validate import LINE, valid
from moesim.memory.choices.base import Seen
from moesim.model import load_model
from moesim.model.loader import CARDS
from moesim.placement.task import Task
from moesim.report.catalogue import REGISTRIES
from moesim.testing import (
    arrivals,
    batchings,
    cache_policies,
    collectors,
    costs,
    engine_commands,
    figures,
    fitters,
    gatings,
    importers,
    lengths,
    measurement_importers,
    misses,
    model_families,
    planners,
    prefetchers,
    routers,
    schedulers,
    splits,
    transforms,
    variant_choices,
)
from moesim.testing.audit import Setting
from moesim.testing.traces import toy_trace
from moesim.trace import read_trace
from moesim.trace.routing import NO_EXPERT
from moesim.trace.transforms.choices import Choices
from moesim.workload.arrivals.base import Arrived
from moesim.workload.requests import Requests
from moesim.workload.routers.base import Seen as Sight
from moesim.workload.serving.state import DONE, Asked, Room
from moesim.workload.serving.stepping.clock import opened, rules_of
from moesim.workload.serving.stepping.loop import play
from moesim.workload.serving.vllm import Vllm
from moesim.workload.splits.base import Shared
from tests.unit.report import sweeps

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adding.md").read_text()
ROW = re.compile(
    r"^\| [^|]* \| `(moesim/.*?)` \| `(\w+)` \| `moesim\.(\w+)` \| `(\w+)` \| `(\w+)` \|",
    re.MULTILINE,
)


class Kind(NamedTuple):
    """A row of the page's table."""

    folder: str
    base: str
    group: str
    listed: str
    contract: str


class Example(NamedTuple):
    """A component of the page: its source, its class' name and its kind."""

    source: str
    name: str
    kind: str
    of: Kind

    @property
    def file(self) -> str:
        """Where the page says that it belongs."""
        prefix = "fit_" if self.of.base == "Fitter" else ""
        return f"{self.of.folder}/{prefix}{self.kind}.py"


KINDS = [Kind(*row) for row in ROW.findall(PAGE)]
DERIVED_BASES = {"Mixtral": "Family", "ByLimits": "VariantChoice"}
"""Bases that derive from the one of the table."""


def examples() -> list[Example]:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    found = (example_of(block) for block in blocks)
    return [example for example in found if example is not None]


def example_of(block: str) -> Example | None:
    kind = re.search(r'^    kind(?:: [^=]+)? = "(\w+)"', block, re.MULTILINE)
    if kind is None:
        return None
    (class_,) = re.findall(r"^class (\w+\((?!NamedTuple)\w+\))", block, re.MULTILINE)
    name, base = class_.rstrip(")").split("(")
    base = DERIVED_BASES.get(base, base)
    kinds = [one for one in KINDS if one.base == base]
    if len(kinds) > 1:
        kinds = [one for one in kinds if one.folder.replace("/", ".") in block]
    (of,) = kinds
    return Example(block, name, kind[1], of)


EXAMPLES = examples()
FILES = [example.file for example in EXAMPLES]


def test_the_table_has_every_kind_that_there_is() -> None:
    assert len(KINDS) == PAGE.count("| `moesim/")
    assert all((ROOT / kind.folder).is_dir() for kind in KINDS)
    assert sorted(kind.listed for kind in KINDS) == sorted(REGISTRIES)
    assert {kind.contract for kind in KINDS} == set(CONTRACTS)
    said = re.findall(r"``(\w+)``", moesim.testing.__doc__ or "")
    assert {kind.contract for kind in KINDS} <= set(said)


def test_every_kind_has_an_example() -> None:
    assert {example.of for example in EXAMPLES} == set(KINDS)


@pytest.mark.parametrize("example", EXAMPLES, ids=FILES)
def test_an_example_is_looked_for_where_it_belongs(example: Example) -> None:
    mine = import_module(REGISTRIES[example.of.listed]).registry
    assert mine.package == example.of.folder.replace("/", ".")
    match = mine.files.fullmatch(Path(example.file).stem)
    assert match[match.lastindex] == example.kind


@pytest.mark.parametrize("example", EXAMPLES, ids=FILES)
def test_an_example_passes_the_linter_and_the_formatter(example: Example) -> None:
    ruff = Path(sys.executable).with_name("ruff")
    for command in ("check", "format --check"):
        words = [str(ruff), *command.split(), "--no-cache", "--stdin-filename", example.file, "-"]
        done = subprocess.run(
            words, input=example.source, text=True, capture_output=True, cwd=ROOT, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("example", EXAMPLES, ids=FILES)
def test_an_example_keeps_its_contract(
    example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "tests" / "unit" / "report")
    component = vars(loaded(example, tmp_path, monkeypatch))[example.name]
    assert kind_of(component) == example.kind
    CONTRACTS[example.of.contract](component, tmp_path)


def loaded(example: Example, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = folder / f"{example.kind}.py"
    path.write_text(example.source, encoding="utf-8")
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, path.stem, module)  # where its types are looked up
    spec.loader.exec_module(module)
    return module


def check_policy(policy: type[Any], _folder: Path) -> None:
    steps = [[0, 1], [1, 2], [1, 3], [0, 1], [1, 4], [2, 3], [0, 1], [4, 5], [1, 2], [0, 5]]
    for slots in (1, 2, 3, 4):
        cache_policies.keeps_the_rules(policy(), steps, Setting(experts=6, slots=slots))


def check_gating(gating: type[Any], _folder: Path) -> None:
    tokens = np.array([[9, 4], [1, 0]])
    counts = np.random.default_rng(0).integers(0, tokens[:, None, :, None] + 1, (2, 3, 2, 5))
    for rule in (
        gatings.conserves_choices,
        gatings.leaves_its_inputs,
        gatings.routes_each_pass_alone,
        gatings.says_what_it_does,
    ):
        rule(gating(), counts, tokens, 5)


def check_planner(planner: type[Any], _folder: Path) -> None:
    task = Task(gpus=2, counts=np.random.default_rng(0).integers(0, 9, (10, 2, 5)))
    planners.places_every_expert(planner(), task)
    planners.is_deterministic(planner(), task)
    planners.bounds_what_it_reaches(planner(), task)


def check_prefetcher(prefetcher: type[Any], _folder: Path) -> None:
    needed = np.random.default_rng(0).random((6, 3, 8)) < 0.4
    prefetchers.predicts_experts_of_the_gpu(prefetcher(), prefetchers.view_of(needed), 0, 1)
    prefetchers.predicts_the_same_from_any_pass_on(prefetcher(), needed, 0, 1, 2)
    prefetchers.knows_no_more_than_it_says(prefetcher(), needed, 0, 1, 2)


def check_misses(miss: type[Any], _folder: Path) -> None:
    for loads in range(4):
        misses.answers_as_it_says(miss(), (0, 0, loads, 5, 2, 9))


def check_variant_choice(choice: type[Any], _folder: Path) -> None:
    ids = np.array([[[0, 1, NO_EXPERT]], [[2, 0, 1]]], np.uint16)
    weights = np.array([[[9, 2, 0]], [[5, 1 << 25, 3]]])
    variant_choices.scores_are_of_choices(choice(), Seen(ids, weights, np.ones((1, 3), np.int64)))
    variant_choices.limits_ascend(choice(), 2)


def check_batching(batching: type[Any], _folder: Path) -> None:
    trace = toy_trace([(2, 3), (0, 4), (1, 0), (2, 1)])
    requests = Requests.of(trace, "all")
    for size, gpus in ((1, 1), (4, 2)):
        one = batching(batch_size=size)
        batchings.runs_every_token_once(one, requests, trace, gpus)
        batchings.keeps_within_the_batch(one, requests, trace, gpus)


def check_arrivals(kind: type[Any], _folder: Path) -> None:
    assert len(arrivals.come_in_order(kind(), 9).arrival_ns) == 9
    arrivals.are_the_same_again(kind(), 9)


def check_lengths(kind: type[Any], _folder: Path) -> None:
    lengths.are_one_or_more(kind(), Arrived(np.arange(9)), None)


def check_router(kind: type[Any], _folder: Path) -> None:
    some = np.array([16, 3, 2])
    assert routers.chooses_a_replica(kind(), Sight(0, some, some, some, -1)) == 1
    assert routers.chooses_a_replica(kind(most=2), Sight(0, some, some, some, -1)) == 2


def check_scheduler(kind: type[Any], _folder: Path) -> None:
    tokens, zero = np.array([9, 1, 4]), np.zeros(3, np.int64)
    asked = Asked(tokens, tokens, zero, zero, zero - 1, zero)
    state = schedulers.keeps_the_laws(kind(chunk=4), asked, Room(blocks=9, block_size=2))
    assert state is not None
    assert play((kind().rule(),), *opened(asked, Room(), kind()), 1).numbers[DONE] == 3


def check_split(kind: type[Any], _folder: Path) -> None:
    tokens, zero = np.array([9, 1, 4]), np.zeros(3, np.int64)
    asked = Asked(tokens, tokens, zero, zero, zero - 1, zero)
    shared = Shared(2, 4, 6, 2, 12, 9, 0, 3, 2, 5)
    room = Room(blocks=12, block_size=2)
    state = splits.keeps_the_laws(kind(), shared, Vllm(max_num_seqs=2), asked, room)
    assert state is not None
    assert (state.units < 0).any()
    room = replace(room, exchange=kind().exchange(shared))
    rules, opened_at = rules_of(Vllm(), room), opened(asked, room, Vllm())
    assert play(rules, *opened_at, 1).numbers[DONE] == 3


def check_importer(importer: type[Any], folder: Path) -> None:
    path = folder / "some.json"
    path.write_text(json.dumps({"chosen": [[[0, 1], [2, 3]], [[3, 1], [0, 2]]]}))
    trace = importers.reads_a_sound_trace(importer(), path)
    assert trace.expert_ids[1].tolist() == [[3, 1], [0, 2]]
    importers.recognises_without_an_error(importer(), path)
    importers.refuses_what_is_damaged(importer(), path)


def check_measurement_importer(importer: type[Any], _folder: Path) -> None:
    file = File("copies.csv", b"bytes,microseconds\n4096,5.5\n8192,6\n")
    table = measurement_importers.reads_a_valid_table(importer(), file)
    assert table["latency_ns"].tolist() == [5500.0, 6000.0]
    measurement_importers.recognises_without_an_error(importer(), file)


def check_collector(collector: type[Any], _folder: Path) -> None:
    plan = Plan("cpu", SMALL, ("fp32",), 0, 4, 2**25, 2**36)
    (point,) = collectors.plans_valid_rows(collector(), plan)
    collectors.measures(point, None)  # type: ignore[arg-type]


def check_fitter(fitter: type[Any], _folder: Path) -> None:
    card = load_hardware("h100-sxm")
    rows = pd.DataFrame({"op": "launch", "latency_ns": [4000.0, 4500.0, 5000.0], LINE: [1, 2, 3]})
    fit = fitters.fits_or_says_why(fitter(), valid(rows)[0], card)
    assert not isinstance(fit, str)
    fitters.survives_its_file(fit, fitter(), card)


def check_operation(operation: type[Any], _folder: Path) -> None:
    model = load_model("gpt-oss-20b")
    one = operation(load_hardware("h100-sxm"), model)
    tokens = np.array([0, 1, 8])
    costs.adds_up(one, tokens)
    costs.remembers_nothing(one, (tokens,), (4,))
    costs.charges_pass_by_pass(one, model.layers[-1], costs.shapes_of([0, 1, 8]))
    assert one.price(tokens).tolist() == [0, one.price(1), one.price(1)]


def check_family(family: type[Any], _folder: Path) -> None:
    config = json.loads((CARDS / "mixtral-8x7b.json").read_text())
    model = model_families.describes_a_model(family, config)
    assert model.bytes == load_model("mixtral-8x7b").bytes


def check_transform(one: type[Any], _folder: Path) -> None:
    trace = read_trace(ROOT / "traces" / "quickstart.parquet")
    transforms.makes_a_sound_trace(one(), trace)
    ids = trace.expert_ids[:9]
    living = np.ones((trace.moe_layers, trace.experts), np.bool_)
    transforms.chooses_what_there_was(one(), Choices(ids, None, None, living))


def check_engine(engine: type[Any], _folder: Path) -> None:
    one = engine()
    engine_commands.knows_its_options(one)
    for row in one.options:
        if row.effect is not Effect.READ:
            engine_commands.says_what_it_cannot_model(one, row)
    engine_commands.refuses_with_an_input_error(one, ["--room", "many"])
    said: dict[str, Any] = {"model": "gpt-oss-20b", "hardware": "rtx-4090"}
    assert engine_commands.reads_what_it_writes(one, load_experiment(said).experiment, 4096)
    said["experts"] = {"capacity": "4 slots/layer"}
    assert engine_commands.reads_what_it_writes(one, load_experiment(said).experiment, 1) is None


def check_figure(figure: type[Any], folder: Path) -> None:
    figures.draws_its_table(figure(), sweeps.make(folder / "sweep"))
    figures.refuses_what_lacks_its_data(figure(), sweeps.make(folder / "none", slots=(16, 20)))


CONTRACTS: dict[str, Callable[[type[Any], Path], None]] = {
    "arrivals": check_arrivals,
    "batchings": check_batching,
    "cache_policies": check_policy,
    "collectors": check_collector,
    "costs": check_operation,
    "engine_commands": check_engine,
    "figures": check_figure,
    "fitters": check_fitter,
    "gatings": check_gating,
    "importers": check_importer,
    "lengths": check_lengths,
    "measurement_importers": check_measurement_importer,
    "misses": check_misses,
    "model_families": check_family,
    "planners": check_planner,
    "prefetchers": check_prefetcher,
    "routers": check_router,
    "schedulers": check_scheduler,
    "splits": check_split,
    "transforms": check_transform,
    "variant_choices": check_variant_choice,
}


@pytest.mark.parametrize("engine", ["replay", "des"])
def test_a_charge_of_its_own_is_a_result(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operation's file is all that a run needs: at its stage, in its category, in each pass."""
    (example,) = (one for one in EXAMPLES if one.kind == "grammar_mask")
    source = {
        "model": "gpt-oss-20b",
        "hardware": "h100-sxm",
        "trace": str(ROOT / "traces" / "quickstart.parquet"),
        "engine": engine,
        "workload": {"requests": 2},
    }
    without = moesim.run(source)
    operation = vars(loaded(example, tmp_path, monkeypatch))["GrammarMask"]
    monkeypatch.setitem(registry.components, "grammar_mask", operation)
    result = moesim.run(source)
    price = int(result.steps["grammar_mask_ns"].iloc[0])
    assert price > 0
    assert (result.steps["grammar_mask_ns"] == price).all()
    spent = result.steps["end_ns"] - result.steps["start_ns"]
    assert (spent - (without.steps["end_ns"] - without.steps["start_ns"]) >= price).all()
    assert result.summary["time_share"]["grammar_mask"] > 0


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder in which a distribution of all examples is installed."""
    (tmp_path / "my_package").mkdir()
    groups: dict[str, list[str]] = {}
    for example in EXAMPLES:
        (tmp_path / "my_package" / f"{example.kind}.py").write_text(example.source)
        line = f"{example.kind} = my_package.{example.kind}:{example.name}"
        groups.setdefault(f"moesim.{example.of.group}", []).append(line)
    about = tmp_path / "my_package-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    text = "\n".join(f"[{group}]\n" + "\n".join(lines) for group, lines in groups.items())
    (about / "entry_points.txt").write_text(text + "\n")
    return tmp_path


PLUGGED_IN = """
import json
from moesim.experiment.schema.json_schema import json_schema
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.running.run import simulate
from moesim.report.catalogue import REGISTRIES, listing

listed = {kind: [row["name"] for row in listing(kind)] for kind in REGISTRIES}
experiment = load_experiment(
    "experiments/quickstart.yaml",
    ["placement.kind=reversed", "gating.kind=power_of_two", "experts.policy.kind=mru",
     "experts.prefetch.kind=same_ids", "experts.miss.kind=first_two",
     "workload.batching.kind=alone", "figures=[stall_by_point]", "sweep={}"],
).experiment
plain = ["experts.capacity=8 slots/layer", "workload.requests=1", "records=summary"]
shares = simulate(load_experiment("experiments/quickstart.yaml", plain).experiment).summary
print(json.dumps([
    listed, type(experiment.placement).__module__, json_schema(), shares["time_share"]
]))
"""


def test_a_packages_components_are_found_wherever_the_projects_own_are(package: Path) -> None:
    paths = os.pathsep.join(map(str, (package, ROOT)))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PLUGGED_IN],
        env=os.environ | {"PYTHONPATH": paths},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    listed, module, schema, shares = json.loads(done.stdout)
    for example in EXAMPLES:
        assert example.kind in listed[example.of.listed], example.file
    assert module == "my_package.reversed"
    assert '"first_two"' in json.dumps(schema)
    assert shares["grammar_mask"] > 0
