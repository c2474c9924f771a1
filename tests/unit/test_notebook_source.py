"""Checks that source-format notebooks become the cells that the platform would show."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.databricks.runner.notebook_source import Cell, Language, NotebookSourceError, parse_notebook

_HEADER = "# Databricks notebook source\n"
_DIVIDER = "\n\n# COMMAND ----------\n\n"


def _cells(*bodies: str) -> tuple[Cell, ...]:
    return parse_notebook(_HEADER + _DIVIDER.join(bodies) + "\n").cells


def test_cells_are_divided_and_keep_their_order() -> None:
    """What runs first is what stands first."""
    cells = _cells("a = 1", "b = 2\nc = 3")

    assert [cell.source for cell in cells] == ["a = 1", "b = 2\nc = 3"]
    assert {cell.language for cell in cells} == {Language.PYTHON}


def test_a_title_is_taken_off_the_source() -> None:
    """The title is shown above the cell, whether or not it is set to be visible."""
    shown, hidden = _cells("# DBTITLE 1,Train, then evaluate\nrun()", "# DBTITLE 0,Quiet\n# MAGIC %md\n# MAGIC text")

    assert (shown.title, shown.source) == ("Train, then evaluate", "run()")
    assert (hidden.title, hidden.language, hidden.source) == ("Quiet", Language.MARKDOWN, "text")


@pytest.mark.parametrize(
    ("body", "language", "source"),
    [
        ("# MAGIC %md\n# MAGIC # Title\n# MAGIC\n# MAGIC text", Language.MARKDOWN, "# Title\n\ntext"),
        ("# MAGIC %md One line", Language.MARKDOWN, "One line"),
        ("# MAGIC %sql SELECT 1\n# MAGIC FROM t", Language.SQL, "SELECT 1\nFROM t"),
        ("# MAGIC %sh\n# MAGIC ls -l", Language.SHELL, "ls -l"),
        ("# MAGIC %fs ls /tmp", Language.FILES, "ls /tmp"),
        ('# MAGIC %run ./setup $x="1"', Language.RUN, './setup $x="1"'),
        ("# the rest is elsewhere\n# MAGIC %run ../setup", Language.RUN, "../setup"),
        ("# MAGIC %scala\n# MAGIC val x = 1", Language.SCALA, "val x = 1"),
        ("# MAGIC %python\n# MAGIC x = 1", Language.PYTHON, "x = 1"),
        ("# MAGIC %pip install --no-deps -r ../r.txt", Language.PYTHON, "%pip install --no-deps -r ../r.txt"),
        ("# why\n# MAGIC %pip install x\ny = 1", Language.PYTHON, "# why\n%pip install x\ny = 1"),
        ("s = '''\n%sql\n'''", Language.PYTHON, "s = '''\n%sql\n'''"),
    ],
)
def test_a_magic_names_the_language(body: str, language: Language, source: str) -> None:
    """Prefixes are gone, and so is the magic that names a cell's language; line magics stay."""
    (cell,) = _cells(body)

    assert (cell.language, cell.source) == (language, source)


def test_options_of_a_shell_cell_are_kept_apart() -> None:
    """`-e` makes a failing command fail the cell."""
    (cell,) = _cells("# MAGIC %sh -e\n# MAGIC false")

    assert (cell.options, cell.source) == ("-e", "false")


def test_empty_cells_are_left_out() -> None:
    """The platform runs nothing for them either."""
    assert _cells("", "x = 1", "\n  \n") == (Cell(title="", language=Language.PYTHON, source="x = 1"),)


def test_windows_line_ends_and_a_byte_order_mark_do_no_harm() -> None:
    """A notebook may come from any editor."""
    notebook = parse_notebook(
        "\ufeff# Databricks notebook source\r\nx = 1\r\n\r\n# COMMAND ----------\r\n\r\ny = 2\r\n"
    )

    assert [cell.source for cell in notebook.cells] == ["x = 1", "y = 2"]


def test_a_sql_notebook_has_its_own_comments() -> None:
    """Its cells are SQL unless a magic says otherwise."""
    notebook = parse_notebook(
        "-- Databricks notebook source\nSELECT 1\n\n-- COMMAND ----------\n\n-- MAGIC %python\n-- MAGIC x = 1\n"
    )

    assert [(cell.language, cell.source) for cell in notebook.cells] == [
        (Language.SQL, "SELECT 1"),
        (Language.PYTHON, "x = 1"),
    ]


@pytest.mark.parametrize(
    "text", ["", "print(1)\n", "# databricks notebook source\n", "\n# Databricks notebook source\n"]
)
def test_a_file_without_the_header_is_refused(text: str) -> None:
    """A plain Python file is no notebook; running it as one would hide the mistake."""
    with pytest.raises(NotebookSourceError, match="does not open with"):
        parse_notebook(text, name="/somewhere")


_LINE = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=30).filter(
    lambda line: not line.startswith(("# COMMAND ---", "# MAGIC", "# DBTITLE", "%"))
)


@given(bodies=st.lists(st.lists(_LINE, min_size=1, max_size=5), max_size=5))
def test_python_cells_survive_unchanged(bodies: list[list[str]]) -> None:
    """Parsing takes nothing from a cell but blank lines around it."""
    wanted = ["\n".join(body).strip("\n") for body in bodies if any(line.strip() for line in body)]

    found = [cell.source for cell in _cells(*("\n".join(body) for body in bodies))]

    assert [source.split() for source in found] == [source.split() for source in wanted]
