"""Where stderr is no terminal, a long command tells in lines how far it is."""

from moesim.cli import progress


def test_a_line_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0)
    with progress.progress_bar() as told:
        told(1, 24)
        told(2, 24)
    said = capsys.readouterr()
    assert said.err.splitlines() == ["1 of 24 points", "2 of 24 points"]
    assert said.out == ""


def test_a_short_command_says_nothing(capsys):
    with progress.progress_bar() as told:
        told(24, 24)
    assert capsys.readouterr().err == ""
