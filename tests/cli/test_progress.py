"""Where stderr is no terminal, a long command tells in lines how far it is."""

from moesim.cli import progress


def test_a_line_now_and_then(capsys, monkeypatch):
    """4 stood before; the fifth is the first here, and its time is not the others'."""
    clock = iter([0, 40, 1000, 1020, 1040, 1060, 1200])
    monkeypatch.setattr("moesim.cli.progress.time.monotonic", lambda: float(next(clock)))
    with progress.progress_bar("runs") as told:
        for finished in (4, 5, 6, 7, 8, 22):
            told(finished, 24)
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        "4 of 24 runs, what runs for the first time here is compiled once",
        "5 of 24 runs",
        "6 of 24 runs",
        "7 of 24 runs",
        "8 of 24 runs, about 5 min left",
        "22 of 24 runs, less than a minute left",
    ]
    assert said.out == ""


def test_no_time_is_left_before_it_is_known():
    pace = progress.Pace()
    assert [pace.left_s(n, 10, 100.0 + n) for n in (0, 1, 2, 3)] == [None] * 4
    assert pace.left_s(4, 10, 104.0) == 6.0


def test_a_short_command_says_nothing(capsys):
    with progress.progress_bar() as told:
        told(24, 24)
    assert capsys.readouterr().err == ""
