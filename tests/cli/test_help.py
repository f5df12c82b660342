"""What every command says about itself."""

import shlex

import pytest

from moesim.cli.main import commands, main

COMMANDS = dict(commands())


def lines(command) -> list[str]:
    text = command.epilog or ""
    return [line.strip() for line in text.splitlines() if line.strip().startswith("moesim ")]


def test_all_commands_are_there():
    assert {"moesim run", "moesim trace import", "moesim calibrate fit"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_is(name):
    command = COMMANDS[name]
    assert command.help
    silent = [p.name for p in command.params if not (getattr(p, "help", "") or "").strip(" .")]
    assert silent == []


@pytest.mark.parametrize("name", COMMANDS)
def test_its_examples_are_in_the_help_and_can_be_typed(name, capsys):
    examples = lines(COMMANDS[name])
    assert 1 <= len(examples) <= 2
    for example in examples:
        assert example.startswith(f"{name} ") or example == name
        arguments = shlex.split(example.removeprefix(name).partition(" > ")[0])
        COMMANDS[name].make_context(name, arguments)  # raises what the parser does not take
    assert main([*name.split()[1:], "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n    {example}\n" in shown for example in examples)


def test_a_setting_by_itself_is_told_where_to_stand(capsys):
    assert main(["run", "experiments/quickstart.yaml", "hardware=t4", "--set", "seed=1"]) == 2
    shown = capsys.readouterr().err
    assert "A setting stands behind --set: --set hardware=t4\n" in shown
    assert "seed=1" not in shown
