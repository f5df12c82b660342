"""Where stderr is no terminal, a long command tells in lines how far it is."""

from moesim.cli import progress


def test_a_line_now_and_then(capsys, monkeypatch):
    clock = iter(range(0, 200, 40))
    monkeypatch.setattr("moesim.cli.progress.time.monotonic", lambda: float(next(clock)))
    with progress.progress_bar("runs") as told:
        for finished in (4, 5, 23):  # 4 stood before; the fifth took 80 s
            told(finished, 24)
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        "4 of 24 runs",
        "5 of 24 runs, about 25 min left",
        "23 of 24 runs, less than a minute left",
    ]
    assert said.out == ""


def test_a_short_command_says_nothing(capsys):
    with progress.progress_bar() as told:
        told(24, 24)
    assert capsys.readouterr().err == ""
