"""Kills runs in every way and looks for what is left of them."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.notebook_runs import NotebookWorld, eventually, processes_that_mention

pytestmark = pytest.mark.integration

# A run that has a JVM, a child of its own, a forked worker, and work that never ends.
_BUSY = """
import multiprocessing, os, subprocess, time
subprocess.Popen(["sleep", "987654"])
multiprocessing.get_context("fork").Process(target=time.sleep, args=(987654,)).start()
open("started", "w").close()
try:
    time.sleep(987654)
finally:
    open("cleaned", "w").close()
"""
# Spark's Python workers lead a process group of their own.
_BUSY_IN_SPARK = """
import os, time
folder = os.getcwd()
def work(row):
    open(f"{folder}/started", "w").close()
    time.sleep(987654)
spark.sparkContext.parallelize([1], 1).foreach(work)
"""


def _is_busy(world: NotebookWorld) -> bool:
    return (world.folder / "started").exists()


def _members(group: int) -> list[str]:
    """Return the live members of a process group."""
    listing = subprocess.run(["ps", "-A", "-o", "pgid=,pid=,stat=,comm="], capture_output=True, text=True, check=True)
    rows = [line.split(maxsplit=3) for line in listing.stdout.splitlines()]
    return [" ".join(row) for row in rows if row[0] == str(group) and not row[2].startswith("Z")]


def _nothing_is_left(world: NotebookWorld, group: int, output: Path) -> bool:
    return not _members(group) and not processes_that_mention(str(world.root)) and not (output / "scratch").exists()


@pytest.mark.parametrize("way", ["runner killed", "workspace gone", "runner terminated"])
def test_nothing_of_a_run_outlives_it(tmp_path: Path, way: str) -> None:
    """The JVM, shell children, forked workers, the guards and the scratch folder: all go, whoever dies first."""
    world = NotebookWorld(tmp_path)
    with world.started(_BUSY) as (process, output):
        assert eventually(lambda: _is_busy(world), within_s=120), (output / "driver.log").read_text()
        assert any("java" in member for member in _members(process.pid))

        match way:
            case "runner killed":
                os.kill(process.pid, signal.SIGKILL)
            case "workspace gone":
                assert process.stdin is not None
                process.stdin.close()
            case _:
                os.kill(process.pid, signal.SIGTERM)

        code = process.wait(timeout=20)
        assert eventually(lambda: _nothing_is_left(world, process.pid, output)), _members(
            process.pid
        ) + processes_that_mention(str(world.root))
    stopped = way == "runner terminated"
    assert code == (143 if stopped else -signal.SIGKILL)
    assert (world.folder / "cleaned").exists() is stopped
    assert (output / "result.json").exists() is stopped


def test_spark_workers_die_with_the_run(tmp_path: Path) -> None:
    """They are in no group of the run's, and still must not stay behind."""
    world = NotebookWorld(tmp_path)
    with world.started(_BUSY_IN_SPARK) as (process, output):
        assert eventually(lambda: _is_busy(world), within_s=120), (output / "driver.log").read_text()
        assert any("pyspark" in line for line in processes_that_mention(str(world.root)))

        os.killpg(process.pid, signal.SIGKILL)

        process.wait(timeout=20)
        assert eventually(lambda: _nothing_is_left(world, process.pid, output)), processes_that_mention(str(world.root))
