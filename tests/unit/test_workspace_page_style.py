"""Tests that the workspace's pages tell the states of cells apart."""

from pathlib import Path

from local.databricks.workspace.pages import html

STYLE = (Path(html.__file__).parent / "style.css").read_text()


def test_only_a_cell_that_succeeded_has_the_colour_of_success() -> None:
    """A bar without a rule of its own is green, and a skipped cell did not succeed."""
    coloured = {state for state in ("FAILED", "RUNNING", "PENDING", "SKIPPED") if f".bar.{state}" in STYLE}

    assert coloured == {"FAILED", "RUNNING", "PENDING", "SKIPPED"}
