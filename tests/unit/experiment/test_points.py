import itertools
from typing import Any

import pytest

from moesim.config.errors import InputError
from moesim.experiment.loading.resolve import load_experiment, sweep_points
from moesim.sweep.run import Points


def axes(points):
    return [axes for axes, _ in points]


def experiments(points: Points) -> list[Any]:
    """Of each point."""
    return [experiment for _, experiment in points]


def test_points_are_the_product_with_the_first_axis_slowest(required):
    capacities = ["4 slots/layer", "8 slots/layer", "12 slots/layer"]
    kinds = ["lru", "lfu", "min"]
    sweep = {"experts.capacity": capacities, "experts.policy.kind": kinds}
    points = sweep_points({**required, "sweep": sweep})
    assert axes(points) == [
        {"experts.capacity": capacity, "experts.policy.kind": kind}
        for capacity, kind in itertools.product(capacities, kinds)
    ]
    for (one, _), experiment in zip(points, experiments(points), strict=True):
        assert str(experiment.experts.capacity) == one["experts.capacity"]
        assert experiment.experts.policy.kind == one["experts.policy.kind"]
        assert experiment.sweep is None


def test_a_zipped_axis_changes_its_paths_together(required):
    rows = [["4 slots/layer", "lru"], ["8 slots/layer", "lfu"]]
    sweep = {"experts.capacity, experts.policy.kind": rows, "seed": [1, 2]}
    points = axes(sweep_points({**required, "sweep": sweep}))
    assert points == [
        {"experts.capacity": capacity, "experts.policy.kind": kind, "seed": seed}
        for (capacity, kind), seed in itertools.product(rows, [1, 2])
    ]
    assert list(points[0]) == ["experts.capacity", "experts.policy.kind", "seed"]


def test_without_a_sweep_there_is_one_point(required):
    resolved = load_experiment(required)
    assert sweep_points(resolved) == [({}, resolved.experiment)]


def test_the_base_point_keeps_the_files_values(required):
    resolved = load_experiment({**required, "seed": 9, "sweep": {"seed": [1, 2]}})
    assert resolved.experiment.seed == 9
    assert [experiment.seed for _, experiment in resolved.points] == [1, 2]


def test_a_swept_kind_drops_the_other_kinds_parameters(required):
    given = {
        **required,
        "gating": {"kind": "static", "capacity_fraction": "50 %"},
        "sweep": {"gating.kind": ["dynamic", "static"]},
    }
    kinds = [experiment.gating for experiment in experiments(sweep_points(given))]
    assert kinds[0].kind == "dynamic"
    assert kinds[1].capacity_fraction == 0.5


def test_kinds_are_set_before_their_parameters(required):
    rows = [["25 %", "static"], ["50 %", "static"]]
    given = {**required, "sweep": {"gating.capacity_fraction, gating.kind": rows}}
    points = experiments(sweep_points(given))
    fractions = [experiment.gating.capacity_fraction for experiment in points]
    assert fractions == [0.25, 0.5]


def test_a_whole_component_can_be_an_axis(required):
    gatings = [{"kind": "dynamic"}, {"kind": "static", "capacity_fraction": "10 %"}]
    points = sweep_points({**required, "sweep": {"gating": gatings}})
    assert [experiment.gating.kind for experiment in experiments(points)] == ["dynamic", "static"]
    assert axes(points) == [{"gating": gating} for gating in gatings]


def test_an_option_sets_or_removes_an_axis(required):
    given = {**required, "sweep": {"seed": [1, 2, 3]}}
    assert len(sweep_points(given, ["sweep.seed=[1]"])) == 1
    assert len(sweep_points(given, ["sweep.records=[step, layer]"])) == 6
    assert axes(sweep_points(given, ["sweep="])) == [{}]


def test_each_bad_value_is_reported_once(required):
    sweep = {"seed": [1, 2, 3], "experts.capacity": ["8 slots/layer", "8", "all"]}
    with pytest.raises(InputError) as error:
        load_experiment({**required, "sweep": sweep})
    (problem,) = error.value.problems
    assert problem.path == "sweep.experts.capacity"


def test_a_mistake_of_the_base_is_not_repeated_for_every_point(required):
    given = {**required, "records": "all", "gating": 3}
    given["sweep"] = {"seed": [1, 2], "gating.kind": ["static", "dynamic"]}
    with pytest.raises(InputError) as error:
        load_experiment(given)
    assert sorted(problem.path for problem in error.value.problems) == ["gating", "records"]


def test_an_axis_that_repairs_the_base_still_leaves_the_bases_mistake(required):
    given = {**required, "seed": -1, "sweep": {"seed": [1]}}
    with pytest.raises(InputError) as error:
        load_experiment(given)
    assert [problem.path for problem in error.value.problems] == ["seed"]


def test_too_many_points(required):
    sweep = {"seed": list(range(1000)), "workload.requests": list(range(1, 1000))}
    with pytest.raises(InputError, match="999,000 points are too many"):
        load_experiment({**required, "sweep": sweep})


def test_a_broken_file_that_an_axis_names_is_told_with_its_place(required, tmp_path):
    broken = tmp_path / "broken.yaml"
    broken.write_text("title: x\nsources: {}\ndatashet: 1\n")
    with pytest.raises(InputError) as error:
        load_experiment({**required, "sweep": {"hardware": ["h100-sxm", str(broken)]}})
    whats = [problem.what for problem in error.value.problems]
    assert any(f"with this value, {broken}:3:1: datashet: " in what for what in whats)
