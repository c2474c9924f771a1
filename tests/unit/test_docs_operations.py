"""Holds docs/operations.md to the functions and commands that there are."""

import ast
import re
from pathlib import Path

import function_app
from cli.main import app
from functions.core.alerts import AlertKind
from functions.core.reasons import HoldReason

_TEXT = (Path(__file__).parents[2] / "docs/operations.md").read_text()


# What one looks up, rather than carries out.
_REFERENCE = {"The command and the API", "Who may do what", "What a replay is sure of"}


def _recipes_with_a_test() -> set[str]:
    """Return the headings that some test says to carry out, with `@pytest.mark.recipe`."""
    found: set[str] = set()
    for path in Path(__file__).parents[1].rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.recipe":
                found |= {str(ast.literal_eval(argument)) for argument in node.args}
    return found


def test_every_recipe_is_carried_out_by_a_test_that_names_it() -> None:
    """A recipe that nobody carries out is a guess, and a test of a recipe that is gone tests nothing."""
    headings = set(re.findall(r"^## (.+)$", _TEXT, flags=re.MULTILINE))

    assert headings > _REFERENCE
    assert _recipes_with_a_test() == headings - _REFERENCE


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
    commands |= {str(group.typer_instance.info.name) for group in app.registered_groups if group.typer_instance}
    acting_commands = {
        command.callback.__name__
        for command in app.registered_commands
        if command.callback and command.rich_help_panel == "Act"
    }

    assert len(named) > 8
    assert named <= commands
    assert len(acting_commands) >= 4
    assert acting_commands <= named


def test_whatever_an_accepted_file_waits_for_has_a_recipe() -> None:
    never_a_files = {HoldReason.NOTHING_HELD, HoldReason.START_RATE}  # an empty batch; a run's, over in a moment

    assert {reason for reason in HoldReason if f"`{reason.value}`" not in _TEXT} == never_a_files


def test_every_code_that_a_run_fails_with_says_what_to_do() -> None:
    errors = (Path(__file__).parents[2] / "databricks_runtime/mlops/src/tidegate_mlops/errors.py").read_text()
    codes = set(re.findall(r'^    code = "(\w+)"$', errors, flags=re.MULTILINE))

    assert len(codes) > 8
    assert {code for code in codes if f"`{code}`" not in _TEXT} == set()


def test_every_alert_is_in_the_table_of_alerts() -> None:
    table = _TEXT.partition("## An alert was raised")[2].partition("\n## ")[0]

    assert {kind for kind in AlertKind if not re.search(rf"^\|.*`{kind.value}`.*\|", table, re.MULTILINE)} == set()
