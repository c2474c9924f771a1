"""Holds docs/operations.md to the functions and commands that there are."""

import re
from pathlib import Path

import function_app
from cli.main import app

_TEXT = (Path(__file__).parents[2] / "docs/operations.md").read_text()


def _functions() -> set[str]:
    """Return the functions that answer over HTTP, which are there whatever the configuration is."""
    found = function_app.app.get_functions()
    return {str(function.get_function_name()) for function in found if function.is_http_function()}


def test_every_function_is_a_readers_or_an_operators() -> None:
    """Whoever hands out keys reads this table; what is missing there is guessed."""
    row = next(line for line in _TEXT.splitlines() if line.startswith("| `list_runs`"))
    named = set(re.findall(r"`(\w+)`", row))

    assert len(named) > 8
    assert named == _functions() - {"health"}


def test_every_command_that_is_named_exists_and_every_acting_one_is_named() -> None:
    named = set(re.findall(r"`tidegate ([a-z-]+)", _TEXT))
    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    acting_commands = {
        command.callback.__name__
        for command in app.registered_commands
        if command.callback and command.rich_help_panel == "Act"
    }

    assert len(named) > 8
    assert named <= commands
    assert len(acting_commands) >= 4
    assert acting_commands <= named
