"""Brings the one run of one file to Databricks, and looks at it."""

from functions.core.ledger import Run
from tests.support.control_plane import World, make_blob
from tests.support.in_memory import DatabricksRun

__all__ = ["only_run", "submitted"]


def submitted(world: World) -> DatabricksRun:
    """Return the workspace's run of one file that arrived."""
    world.deliver(make_blob())
    (run,) = world.databricks_runs()
    return run


def only_run(world: World) -> Run:
    """Return what the ledger says of the only run that there is."""
    (run,) = world.runs()
    return run
