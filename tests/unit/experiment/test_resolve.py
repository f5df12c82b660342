from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from moesim.config.errors import InputError
from moesim.config.files.paths import find, shipped_folder
from moesim.config.units import ExpertCapacity
from moesim.experiment.loading.resolve import load_experiment
from moesim.model.loader import CARDS

TEXT = """\
model: gpt-oss-20b
hardware: rtx-4060-8gb
trace: t.parquet
experts:
  capacity: 8 slots/layer
  policy: {kind: lfu}
"""


@pytest.fixture
def file(folder):
    path = folder / "some-name.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_only_three_keys_are_required(required):
    experiment: Any = load_experiment(required).experiment
    assert experiment.experts.capacity == ExpertCapacity("all", 1)
    assert experiment.experts.policy.kind == "lru"
    assert experiment.gating.kind == "dynamic"
    assert experiment.placement.kind == "contiguous"
    assert experiment.workload.batching.kind == "static"
    assert experiment.workload.batching.batch_size == 1
    assert (experiment.workload.phase, experiment.warm_up, experiment.seed) == ("decode", 0.1, 0)


def test_every_value_has_an_origin(file):
    origins = load_experiment(file, ["seed=3", "experts.order=resident_first"]).origins
    assert origins["model"] == "some-name.yaml:1"
    assert origins["experts.capacity"] == "some-name.yaml:5"
    assert origins["experts.policy.kind"] == "some-name.yaml:6"
    assert origins["seed"] == origins["experts.order"] == "--set"
    assert origins["name"] == origins["gating.kind"] == origins["figures"] == "default"


def test_the_name_is_the_files_unless_it_is_given(file):
    assert load_experiment(file).experiment.name == "some-name"
    assert load_experiment(file, ["name=n"]).experiment.name == "n"


def test_an_experiment_is_frozen(required):
    experiment = load_experiment(required).experiment
    with pytest.raises(ValidationError, match="frozen"):
        experiment.seed = 3  # type: ignore[misc]


def test_a_dict_is_called_experiment_in_messages(required):
    with pytest.raises(InputError) as error:
        load_experiment({**required, "seed": "x", "experts": {"capacity": 8}})
    assert [str(problem).split(": ")[:2] for problem in error.value.problems] == [
        ["experiment", "experts.capacity"],
        ["experiment", "seed"],
    ]


def test_a_dict_may_hold_python_values(required, folder):
    first = load_experiment(required).experiment
    given = {**required, "trace": folder / "t.parquet", "gating": first.gating, "figures": ()}
    given["experts"] = first.experts
    assert load_experiment(given).experiment.experts == first.experts


def test_an_experiment_is_its_own_source(file):
    experiment = load_experiment(file).experiment
    again = load_experiment(experiment, ["seed=5"]).experiment
    assert again.seed == 5
    assert again.experts == experiment.experts
    assert again.folders == experiment.folders


def test_relative_paths_are_looked_up_beside_the_file_then_here_then_in_the_shipped_data(
    tmp_path, monkeypatch
):
    own, working, shipped = (tmp_path / name for name in ("own", "working", "shipped"))
    for place in (own, working, shipped):
        place.mkdir()
        (place / "t.parquet").touch()
    (own / "e.yaml").write_text(TEXT, encoding="utf-8")
    monkeypatch.setattr("moesim.config.files.paths.shipped_folder", lambda: shipped)
    monkeypatch.chdir(working)
    for place in (own, working, shipped):
        experiment = load_experiment("../own/e.yaml").experiment
        assert find(experiment.trace, experiment.folders) == place / "t.parquet"
        (place / "t.parquet").unlink()
    with pytest.raises(InputError, match=r"^\.\./own/e\.yaml:3:8: trace: there is no file"):
        load_experiment("../own/e.yaml")


def test_an_experiment_keeps_its_folders_wherever_it_goes(file, tmp_path_factory, monkeypatch):
    import pickle

    experiment = load_experiment(file).experiment
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    travelled = pickle.loads(pickle.dumps(experiment))
    assert find(travelled.trace, travelled.folders) == file.parent / "t.parquet"
    assert "folders" not in str(travelled.model_dump())


def test_a_shipped_experiment_is_found_from_anywhere(folder, monkeypatch):
    shipped = folder / "shipped"
    shipped.mkdir()
    (shipped / "e.yaml").write_text(TEXT, encoding="utf-8")
    monkeypatch.setattr("moesim.config.files.paths.shipped_folder", lambda: shipped)
    assert load_experiment("e.yaml").folders == (shipped, folder)


def test_the_default_folders_are_the_working_one_and_the_shipped(required, folder):
    assert load_experiment(required).folders == (folder, shipped_folder())


def test_all_broken_options_are_reported(file):
    with pytest.raises(InputError) as error:
        load_experiment(file, ["seed", "seed=x", "records=all"])
    assert [problem.where for problem in error.value.problems] == [
        "--set seed",
        "--set seed=x",
        "--set records=all",
    ]


def test_an_option_corrects_the_file(file):
    file.write_text(TEXT.replace("8 slots/layer", "8"), encoding="utf-8")
    with pytest.raises(InputError, match="8 is not a capacity"):
        load_experiment(file)
    assert load_experiment(file, ["experts.capacity=all"]).experiment.experts.capacity.kind == "all"


def test_a_new_kind_drops_what_it_does_not_have(required):
    given = {**required, "gating": {"kind": "static", "capacity_fraction": "50 %"}}
    other: Any = load_experiment(given, ["gating.kind=dynamic"]).experiment.gating
    assert other.kind == "dynamic"
    again: Any = load_experiment(given, ["gating.kind=static"]).experiment.gating
    assert again.capacity_fraction == 0.5


def test_a_new_kind_keeps_what_it_has_too(required):
    given = {**required, "workload": {"batching": {"kind": "static", "batch_size": 7}}}
    batching: Any = load_experiment(
        given, ["workload.batching.kind=refill"]
    ).experiment.workload.batching
    assert (batching.kind, batching.batch_size) == ("refill", 7)


def test_a_parameter_of_a_component_that_is_not_written_goes_to_the_default_kind(required):
    resolved = load_experiment(required, ["workload.batching.batch_size=4"])
    batching: Any = resolved.experiment.workload.batching
    assert (batching.kind, batching.batch_size) == ("static", 4)
    assert resolved.origins["workload.batching.batch_size"] == "--set"


def test_a_files_path_may_be_text_or_a_path(file):
    assert load_experiment(str(file)).experiment == load_experiment(Path(file)).experiment


def test_a_repaired_file_is_read_again(required, folder):
    model = folder / "config.json"
    model.write_text("{", encoding="utf-8")
    given = {**required, "model": "config.json"}
    with pytest.raises(InputError, match=r"config\.json"):
        load_experiment(given)
    model.write_text((CARDS / "gpt-oss-20b.json").read_text(encoding="utf-8"), encoding="utf-8")
    assert load_experiment(given).experiment.model == "config.json"


def test_axes_are_looked_at_where_their_points_are_not(file):
    """A run of a file with a sweep tells a wrong axis, as a check does."""
    file.write_text(TEXT + "sweep: {experts.capacity: [all, none], experts.polcy.kind: [lru]}\n")
    with pytest.raises(InputError, match=r":7:\d+: sweep.experts.polcy.kind: there is no key"):
        load_experiment(file, alone=True)
    file.write_text(TEXT + "sweep: {experts.capacity: [all, nothing]}\n")
    resolved = load_experiment(file, alone=True)
    assert resolved.points == [({}, resolved.experiment)]
