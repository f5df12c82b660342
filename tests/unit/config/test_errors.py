from moesim.config.errors import InputError, Problem, in_order, nearest


def test_a_wrong_name_gets_what_is_allowed_and_the_nearest():
    assert nearest("lruu", ["lru", "lfu"]) == "allowed: lfu, lru; did you mean 'lru'?"
    assert nearest("A100", ["h100", "a100-sxm-80gb"]).endswith("did you mean 'a100-sxm-80gb'?")
    assert nearest("GIB", ["GiB", "kB"]).endswith("did you mean 'GiB'?")
    assert nearest("xyz", ["lru", "lfu"]) == "allowed: lfu, lru"
    assert nearest("x", []) == "none is allowed here"
    many = [f"run-{number}" for number in range(170)]
    told = nearest("run-17x", many)
    assert told.startswith("170 names are allowed, among them run-1")
    assert told.count(",") == 8
    assert "did you mean 'run-17'?" in told


def test_problems_come_once_by_line_and_options_last():
    late, early = Problem("f:10:1", "", "x", (10, 1)), Problem("f:9:5", "", "x", (9, 5))
    first, second = Problem("--set b", "", "x", (0, 1)), Problem("--set a", "", "x", (0, 2))
    assert in_order([second, late, first, early, late]) == [early, late, first, second]


def test_an_input_error_holds_a_line_a_problem():
    assert str(InputError([Problem("f:1:2", "a.b", "is wrong"), Problem("", "", "no")])) == (
        "f:1:2: a.b: is wrong\nno"
    )
    assert InputError("no").problems == (Problem("", "", "no"),)
